import { describe, expect, it } from 'vitest';
import cases from '../../../../dashboards/specs/format.json';
import { formatBrief, formatChange, formatValue } from './value';

describe('numbers read as the shared table says', () => {
  it.each(cases)('$value $unit → $text', ({ value, unit, text }) => {
    expect(formatValue(value, unit)).toBe(text);
  });
});

it('says changes without a sign, and none against nothing', () => {
  expect(formatChange(110, 100)).toBe('10 %');
  expect(formatChange(50, 100)).toBe('50 %');
  expect(formatChange(1, 0)).toBe('');
});

it('is brief where there is little room', () => {
  expect(formatBrief(0.040012, 'cores')).toBe('0.04');
  expect(formatBrief(0.066324, 'cores')).toBe('0.0663');
  expect(formatBrief(0.0125, 's')).toBe('12.5 ms');
  expect(formatBrief(12.3456, undefined)).toBe('12.35');
});
