import { describe, expect, it } from 'vitest';
import { absolute, isRelative, nameOf, readInputs, resolve, shift, zoomOut, zoomTo } from './range';

const NOW = Date.parse('2026-01-10T12:00:00Z');
const hours = (count: number): number => count * 3_600_000;

describe('resolve', () => {
  it('reads relative and absolute ends', () => {
    expect(resolve({ from: 'now-6h', to: 'now' }, NOW)).toEqual({ from: NOW - hours(6), to: NOW });
    expect(resolve({ from: '2026-01-10T10:00:00Z', to: 'now-1h' }, NOW)).toEqual({ from: NOW - hours(2), to: NOW - hours(1) });
  });
  it('refuses what is no range', () => {
    expect(resolve({ from: 'now', to: 'now-1h' }, NOW)).toBeUndefined();
    expect(resolve({ from: 'yesterday', to: 'now' }, NOW)).toBeUndefined();
    expect(resolve({ from: 'now-1y', to: 'now' }, NOW)).toBeUndefined();
  });
});

it('knows which ranges move', () => {
  expect(isRelative({ from: 'now-1h', to: 'now' })).toBe(true);
  expect(isRelative({ from: 'now-1h', to: '2026-01-10T10:00:00Z' })).toBe(false);
});

it('shifts by half a width and becomes absolute', () => {
  expect(shift({ from: 'now-2h', to: 'now' }, -1, NOW)).toEqual({ from: '2026-01-10T09:00:00Z', to: '2026-01-10T11:00:00Z' });
  const there = shift({ from: '2026-01-10T09:00:00Z', to: '2026-01-10T11:00:00Z' }, 1, NOW);
  expect(there).toEqual({ from: '2026-01-10T10:00:00Z', to: '2026-01-10T12:00:00Z' });
});

it('zooms out to twice the width, keeping "now" where it was', () => {
  expect(zoomOut({ from: 'now-6h', to: 'now' }, NOW)).toEqual({ from: 'now-12h', to: 'now' });
  expect(zoomOut({ from: 'now-15m', to: 'now' }, NOW)).toEqual({ from: 'now-30m', to: 'now' });
  expect(zoomOut({ from: '2026-01-10T10:00:00Z', to: '2026-01-10T12:00:00Z' }, NOW)).toEqual({ from: '2026-01-10T09:00:00Z', to: '2026-01-10T13:00:00Z' });
});

it('zooms in to whole seconds, either way dragged, never to nothing', () => {
  expect(zoomTo(NOW + 5400, NOW + 1300)).toEqual({ from: '2026-01-10T12:00:01Z', to: '2026-01-10T12:00:06Z' });
  expect(zoomTo(NOW, NOW)).toEqual(absolute({ from: NOW, to: NOW + 1000 }));
});

describe('what is typed', () => {
  it('is read in the chosen zone and kept relative where it is', () => {
    expect(readInputs('2026-01-10 10:00', 'now', NOW, 'utc')).toEqual({ from: '2026-01-10T10:00:00Z', to: 'now' });
    expect(readInputs('2026-01-10', '2026-01-10 11:30:15', NOW, 'utc')).toEqual({ from: '2026-01-10T00:00:00Z', to: '2026-01-10T11:30:15Z' });
  });
  it('is explained where it is wrong', () => {
    expect(readInputs('soon', 'now', NOW, 'utc')).toEqual({ problem: expect.stringContaining('"From" is not a time') });
    expect(readInputs('now', 'now-1h', NOW, 'utc')).toEqual({ problem: '"From" must be before "To"' });
  });
});

it('names ranges', () => {
  expect(nameOf({ from: 'now-6h', to: 'now' }, 'utc')).toBe('Last 6 hours');
  expect(nameOf({ from: 'now-1h', to: 'now' }, 'utc')).toBe('Last hour');
  expect(nameOf({ from: '2015-05-17T10:00:00Z', to: '2015-05-20T21:05:59Z' }, 'utc')).toBe('17 May 2015 10:00 – 20 May 2015 21:05:59');
});
