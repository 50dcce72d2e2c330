import { expect, test } from 'vitest';
import type { Service } from '../api/types';
import { whatServes, worstFirst } from './service_order';

const service = (name: string, state: Service['state']): Service => ({ name, state, web: null, versions: [], instances: [] });

test('what needs a look stands on top', () => {
  const all = [service('b', 'serving'), service('c', 'stopped'), service('a', 'serving'), service('z', 'down'), service('y', 'degraded')];
  expect(all.sort(worstFirst).map(({ name }) => name)).toEqual(['z', 'y', 'a', 'b', 'c']);
});

test('what somebody started by hand serves as well', () => {
  const guest = { name: 'shout-dev-1', version: 'dev', state: 'ready' as const, pid: 0, is_by_hand: true, started_us: 1, ended_us: null, exit: null };
  expect(whatServes({ ...service('shout', 'serving'), instances: [guest] })).toBe('dev, started by hand');
  expect(whatServes(service('shout', 'down'))).toBe('no version serves');
});
