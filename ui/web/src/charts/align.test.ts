import { expect, it } from 'vitest';
import { align, firstShown, lonely, stack } from './align';

const time = (second: number): string => new Date(second * 1000).toISOString();

it('opens a gap where a step is missing', () => {
  const { times, values } = align([{ name: 'a', points: [[time(60), 1], [time(120), 2], [time(300), 3]] }], 60);
  expect(times).toEqual([0, 60, 120, 180, 300, 360]);
  expect(values).toEqual([[null, 1, 2, null, 3, null]]);
});

it('stacks from the last series up and invents nothing', () => {
  expect(stack([[1, 2, null], [10, null, null]], () => true)).toEqual([[11, 2, null], [10, null, null]]);
  expect(stack([[1], [10]], (index) => index === 0)).toEqual([[1], [null]]);
});

it('finds points that no line can show', () => {
  expect(lonely([null, 1, null, 2, 3, null, 4])).toEqual([1, 6]);
});

it('shows wide steps whole', () => {
  expect(firstShown([0, 3600, 7200], 3600, 6900, 7800)).toBe(3600);
  expect(firstShown([0, 3600, 7200], 3600, 3600, 7200)).toBe(3600);
  expect(firstShown([50, 60, 70], 10, 55, 4000)).toBe(55);
});
