import { expect, it } from 'vitest';
import { crossed } from './threshold';

const all = [{ above: 0.02, color: 'orange' }, { above: 0.05, color: 'red' }, { below: 0.001, color: 'blue' }];

it('takes the furthest bound that was crossed', () => {
  expect(crossed(all, 0.06)?.color).toBe('red');
  expect(crossed(all, 0.03)?.color).toBe('orange');
  expect(crossed(all, 0.0001)?.color).toBe('blue');
});

it('never takes a gap for a number', () => {
  expect(crossed(all, 0.01)).toBeUndefined();
  expect(crossed(all, null)).toBeUndefined();
});
