import { expect, it } from 'vitest';
import type { LogLine } from '../api/telemetry';
import { merge } from './log_lines';

const line = (cursor: string): LogLine => ({
  cursor, time: '', level: 'info', service: 'cart', version: 'v1', instance: 'cart-v1-1', source: 'stdout', message: cursor, trace_id: null, dropped: null, fields: {},
});

it('keeps each line once, by time and then by arrival', () => {
  const first = [line('5-01A'), line('20-01B')];
  const merged = merge(first, [line('20-01B'), line('7-01D'), line('7-01C')]);
  expect(merged.map(({ cursor }) => cursor)).toEqual(['5-01A', '7-01C', '7-01D', '20-01B']);
});

it('is the same list where nothing is new', () => {
  const shown = [line('5-01A')];
  expect(merge(shown, [line('5-01A')])).toBe(shown);
});

it('lets the oldest go', () => {
  expect(merge([line('1-a'), line('2-b')], [line('3-c')], 2).map(({ cursor }) => cursor)).toEqual(['2-b', '3-c']);
});
