import { expect, it } from 'vitest';
import { lookAt, seriesLook } from './look';

it('tells eleven services apart, in light and in dark', () => {
  for (const dark of [false, true]) {
    const looks = Array.from({ length: 11 }, (_, place) => JSON.stringify(lookAt(place, dark)));
    expect(new Set(looks).size).toBe(11);
  }
});

it('follows the place that the server says, and else the order in the chart', () => {
  expect(seriesLook({ look: 5 }, 0, false)).toEqual(lookAt(5, false));
  expect(seriesLook({}, 2, false)).toEqual(lookAt(2, false));
  expect(seriesLook({ look: 5, color: 'red' }, 0, false)).not.toEqual(lookAt(5, false));
});

it('begins the colours again with another pattern', () => {
  const [first, ninth] = [lookAt(0, false), lookAt(8, false)];
  expect(ninth.color).toBe(first.color);
  expect([first.pattern, ninth.pattern, lookAt(16, false).pattern]).toEqual(['whole', 'rails', 'gaps']);
});
