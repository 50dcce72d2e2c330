import { describe, expect, it } from 'vitest';
import cases from '../../../../dashboards/specs/format.json';
import { formatChange, formatValue } from './value';

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
