import { describe, expect, it } from 'vitest';
import type { PanelData } from '../api/types';
import { derive, freshness, type Known } from './state';

const DATA: PanelData = { panel: 'a', title: 'A', draw: 'stat', state: 'ok', data: { kind: 'stat', value: 1 } };
const AT = Date.parse('2026-01-10T14:03:07Z');
const known = (change: Partial<Known> = {}): Known => ({
  data: DATA, failure: undefined, connection: 'open', isPaused: false, updatedAt: AT, zone: 'utc', ...change,
});
const failure = { code: 'UNREACHABLE', message: 'away' };

describe('a panel', () => {
  it('loads until it knows anything', () => {
    expect(derive(known({ data: undefined, connection: 'connecting' })).state).toBe('loading');
  });
  it('shows data, emptiness and errors as the server says', () => {
    expect(derive(known()).state).toBe('ok');
    expect(derive(known({ data: { ...DATA, state: 'empty', data: null } })).state).toBe('empty');
    const failed = derive(known({ data: { ...DATA, state: 'error', error: { code: 'SER-1', message: 'm' } } }));
    expect([failed.state, failed.failure?.code]).toEqual(['error', 'SER-1']);
  });
  it('keeps its data while the server is away, and says how old they are', () => {
    expect(derive(known({ connection: 'down' }))).toMatchObject({ state: 'stale', body: 'data', note: 'stale, last updated 14:03:07' });
    expect(derive(known({ failure }))).toMatchObject({ state: 'stale', body: 'data' });
  });
  it('is stale whatever it showed', () => {
    const failed: PanelData = { ...DATA, state: 'error', error: { code: 'SER-1', message: 'm' } };
    expect(derive(known({ data: failed, connection: 'down' }))).toMatchObject({ state: 'stale', body: 'error' });
  });
  it('is an error when nothing ever arrived', () => {
    expect(derive(known({ data: undefined, failure, connection: 'down' }))).toMatchObject({ state: 'error', failure });
  });
  it('is stale when its data are not complete for long, though the server is there', () => {
    const late: PanelData = { ...DATA, watermark: '2026-01-10T14:02:00Z' };
    expect(derive(known({ data: late, behind: 67_000 }))).toMatchObject({ state: 'stale', body: 'data', note: 'complete up to 14:02:00' });
    expect(derive(known({ data: late, behind: 2_000 })).state).toBe('ok');
    // A range of the past is complete whenever it was asked for, and who seals nothing promises nothing.
    expect(derive(known({ data: late })).state).toBe('ok');
    expect(derive(known({ behind: 67_000 })).state).toBe('ok');
  });
  it('is not stale while paused on purpose', () => {
    expect(derive(known({ isPaused: true, connection: 'closed' })).state).toBe('ok');
  });
});

it('the page says what holds for all', () => {
  expect(freshness('open', false, false, true)).toBe('live');
  expect(freshness('open', false, false, false)).toBe('fixed');
  expect(freshness('open', false, true, true)).toBe('stale');
  expect(freshness('down', false, false, true)).toBe('stale');
  expect(freshness('down', true, false, true)).toBe('paused');
  expect(freshness('connecting', false, false, true)).toBe('connecting');
});
