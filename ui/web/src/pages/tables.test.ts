import { expect, it } from 'vitest';
import { byTable, quoted } from './tables';

it('quotes names that are more than a word', () => {
  expect(quoted('status')).toBe('status');
  expect(quoted('http.request')).toBe('"http.request"');
  expect(quoted('a"b')).toBe('"a""b"');
});

it('gathers columns under their tables', () => {
  const rows = [['a', 'time', 'Timestamp(µs, "UTC")'], ['a', 'n', 'Int64'], ['b', 'x', 'Utf8View']];
  expect(byTable({ columns: [], rows })).toEqual([
    { name: 'a', columns: [{ name: 'time', type: 'time' }, { name: 'n', type: 'integer' }] },
    { name: 'b', columns: [{ name: 'x', type: 'text' }] },
  ]);
});
