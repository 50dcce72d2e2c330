import { expect, it } from 'vitest';
import { errorOf } from './client';
import { takeLines } from './open';

it('waits for the rest of a line', () => {
  const first = '{"stage":"import","done":1,"total":2}\n{"dash';
  const taken = takeLines(first, 0);
  expect(taken.lines).toEqual([{ stage: 'import', done: 1, total: 2 }]);
  expect(takeLines(`${first}board":"a","from":"b","to":"c","said":[]}\n`, taken.next).lines).toEqual([{ dashboard: 'a', from: 'b', to: 'c', said: [] }]);
});

it('reads an error in every shape', () => {
  expect(errorOf(400, { error: 'no', code: 'SER-1' })).toMatchObject({ message: 'no', code: 'SER-1' });
  expect(errorOf(400, { error: { message: 'no', code: 'SER-1' } })).toMatchObject({ message: 'no', code: 'SER-1' });
  expect(errorOf(502, null)).toMatchObject({ code: 'HTTP 502' });
});
