import { expect, it } from 'vitest';
import { exact, parseExact } from './json';

const read = (source: string): unknown => exact('', JSON.parse(source), { source });

it('keeps the digits of whole numbers that a number cannot hold', () => {
  for (const source of ['9007199254740993', '-9223372036854775808', '18446744073709551615']) expect(read(source)).toBe(source);
});

it('leaves all other values as they are', () => {
  for (const source of ['9007199254740991', '-1', '0.1', '1e300', '9100000000000000.0', '"9007199254740993"', 'null', 'true']) expect(read(source)).toEqual(JSON.parse(source));
});

it('rounds where the browser does not say what stood there', () => {
  expect(exact('', 2 ** 53)).toBe(2 ** 53);
});

it('reads texts with and without long numbers', () => {
  const text = '{"rows":[[1,"a"],[null,0.12345678901234567]],"began_us":1768053787000000}';
  expect(parseExact(text)).toEqual(JSON.parse(text));
  const source = '9007199254740993';
  // Not every version of Node tells the source.
  expect(String((parseExact(`{"rows":[[${source}]]}`) as { rows: unknown[][] }).rows[0]?.[0])).toMatch(/^900719925474099[23]$/);
});
