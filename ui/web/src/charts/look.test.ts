import { expect, it } from 'vitest';
import { seriesLook, serviceLook } from './look';

const SHOP = ['gateway', 'front', 'catalogue', 'price', 'stock', 'recommendation', 'tax', 'cart', 'checkout', 'payment', 'mail'];

it('tells eleven services apart, in light and in dark', () => {
  for (const dark of [false, true]) {
    const looks = SHOP.map((service) => JSON.stringify(serviceLook(service, dark)));
    expect(new Set(looks).size).toBe(SHOP.length);
  }
});

it('gives a service the same look wherever it comes in a chart', () => {
  const cart = serviceLook('cart', false);
  expect(seriesLook({ by: { service: 'cart' } }, 0, false)).toEqual(cart);
  expect(seriesLook({ by: { service: 'cart' } }, 5, false)).toEqual(cart);
  // Split further, one service has several series.
  expect(seriesLook({ by: { service: 'cart', endpoint: 'add' } }, 0, false)).not.toEqual(cart);
});

it('keeps the first colour for what begins every trace', () => {
  for (const name of ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']) serviceLook(name, false);
  expect(serviceLook('gateway', false)).toEqual(seriesLook({}, 0, false));
});

it('begins the colours again with another pattern', () => {
  const [first, ninth] = [seriesLook({}, 0, false), seriesLook({}, 8, false)];
  expect(ninth.color).toBe(first.color);
  expect([first.pattern, ninth.pattern, seriesLook({}, 16, false).pattern]).toEqual(['whole', 'rails', 'gaps']);
});
