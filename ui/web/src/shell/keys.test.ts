import { expect, it } from 'vitest';
import { keyReader } from './keys';

it('joins two keys in a row, and forgets after a while', () => {
  const { press } = keyReader();
  expect([press('t', 0), press('o', 300), press('?', 400), press('t', 500), press('o', 5000)]).toEqual([undefined, 't o', '?', undefined, 'o']);
});
