import { expect, test } from 'vitest';
import type { Service } from '../api/types';
import { worstFirst } from './services';

const service = (name: string, state: Service['state']): Service => ({ name, state, web: null, versions: [], instances: [] });

test('what needs a look stands on top', () => {
  const all = [service('b', 'serving'), service('c', 'stopped'), service('a', 'serving'), service('z', 'down'), service('y', 'degraded')];
  expect(all.sort(worstFirst).map(({ name }) => name)).toEqual(['z', 'y', 'a', 'b', 'c']);
});
