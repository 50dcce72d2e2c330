import { expect, it } from 'vitest';
import { behind } from './behind';

it('narrows the traces by the series and by what the chart is about', () => {
  const series = { name: 'cart', by: { service: 'cart', endpoint: 'add', country: 'DE' }, points: [] };
  expect(behind({ unit: 'ms' }, series, {})).toEqual({ service: 'cart', endpoint: 'add', order: 'slowest' });
  expect(behind({ unit: 'ratio', better: 'lower' }, undefined, { service: ['mail'] })).toEqual({ service: 'mail', status: 'error' });
  expect(behind({ unit: '/s' }, { name: 'all', points: [] }, { service: ['a', 'b'] })).toEqual({});
});
