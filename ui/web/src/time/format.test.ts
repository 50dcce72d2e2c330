import { expect, it } from 'vitest';
import { formatAge, formatClock, formatMoment, formatTicks, parseDateTime } from './format';

const at = (text: string): number => Date.parse(text);

it('says times with a 24-hour clock', () => {
  expect(formatClock(at('2015-05-17T04:03:07Z'), 'utc')).toBe('04:03:07');
  expect(formatMoment(at('2015-05-17T10:05:30Z'), 60, 'utc')).toBe('Sun 17 May 10:05');
  expect(formatMoment(at('2015-05-17T10:05:30Z'), 5, 'utc')).toBe('Sun 17 May 10:05:30');
  expect(formatMoment(at('2015-05-17T00:00:00Z'), 86_400, 'utc')).toBe('Sun 17 May 2015');
});

it('labels ticks with the date where the day begins', () => {
  const ticks = ['2015-05-17T18:00:00Z', '2015-05-18T00:00:00Z', '2015-05-18T06:00:00Z'].map(at);
  expect(formatTicks(ticks, 21_600, 'utc')).toEqual(['18:00', '18 May', '06:00']);
});

it('reads what people type and what servers say', () => {
  expect(parseDateTime('2015-05-17 10:05', 'utc')).toBe(at('2015-05-17T10:05:00Z'));
  expect(parseDateTime('2015-05-17T10:05:00.123456Z', 'local')).toBe(at('2015-05-17T10:05:00.123Z'));
  expect(parseDateTime('2015-05-17T10:05:00+0200', 'utc')).toBe(at('2015-05-17T08:05:00Z'));
  expect(parseDateTime('2015-13-17', 'utc')).toBeUndefined();
  expect(parseDateTime('10 May', 'utc')).toBeUndefined();
});

it('rounds ages', () => {
  expect([4_000, 600_000, 7_200_000, 864_000_000].map(formatAge)).toEqual(['4 s', '10 min', '2 h', '10 days']);
});
