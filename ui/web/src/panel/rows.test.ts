import { expect, it } from 'vitest';
import { rowsOf, toCsv } from './rows';

it('joins series by time, keeps gaps, rounds nothing', () => {
  const { columns, rows } = rowsOf({
    kind: 'series', step_s: 60,
    series: [
      { name: '2xx', points: [['2015-05-17T10:01:00Z', 0.123456789], ['2015-05-17T10:00:00Z', 1]] },
      { name: '5xx', points: [['2015-05-17T10:01:00Z', null]] },
    ],
  });
  expect(columns.map(({ name }) => name)).toEqual(['time', '2xx', '5xx']);
  expect(rows).toEqual([['2015-05-17T10:00:00Z', 1, null], ['2015-05-17T10:01:00Z', 0.123456789, null]]);
});

it('writes CSV that a spreadsheet reads as text', () => {
  const csv = toCsv({ columns: [{ name: 'a', type: 'text' }, { name: 'b', type: 'number' }], rows: [['x,"y"', -1], ['=1+1', null]] });
  expect(csv).toBe('a,b\r\n"x,""y""",-1\r\n\'=1+1,\r\n');
});

it('writes numbers that came as text as they are', () => {
  const rows = [['-9223372036854775808'], ['18446744073709551615'], ['-1.50'], ['-1+1']];
  expect(toCsv({ columns: [{ name: 'n', type: 'int' }], rows })).toBe("n\r\n-9223372036854775808\r\n18446744073709551615\r\n-1.50\r\n'-1+1\r\n");
});
