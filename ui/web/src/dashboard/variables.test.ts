import { expect, test } from 'vitest';
import { valuesOf } from './variables';

const service = { name: 'service', title: 'Service', is_multi: false };

test('what is chosen can be chosen, whether it is there or not', () => {
  const offered = [{ ...service, values: ['web', 'cart'] }];
  expect(valuesOf(service, offered, {})).toEqual(['cart', 'web']);
  expect(valuesOf(service, offered, { service: ['gone'] })).toEqual(['cart', 'gone', 'web']);
  expect(valuesOf(service, [], {})).toEqual([]);
});
