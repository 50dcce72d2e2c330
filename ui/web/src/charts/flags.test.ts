import { expect, test } from 'vitest';
import type { Frame } from './chart';
import { notesOf } from './flags';

const frame: Frame = { from: 0, to: 600_000, dark: false, zone: 'utc', isolated: undefined };
const mark = (second: number, text: string) => ({ time: new Date(second * 1000).toISOString(), text, kind: 'deploy', label: 'v2' });

test('a tooltip tells what happened near the cursor, and when', () => {
  const marks = [mark(100, 'cart: v2 serves'), mark(300, 'cart: v3 serves\nmail: v2 serves')];
  expect(notesOf(marks, frame, 104, 5)).toEqual(['⚑ 00:01:40 cart: v2 serves']);
  expect(notesOf(marks, frame, 300, 5)).toEqual(['⚑ 00:05:00 cart: v3 serves\nmail: v2 serves']);
  expect(notesOf(marks, frame, 200, 5)).toEqual([]);
});
