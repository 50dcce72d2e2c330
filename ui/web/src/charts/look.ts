// How a series is told from others: its colour, and a pattern where there are more of them than colours.
//
// The server says the place of each among the colours, so that pictures look the same: a service has one
// of its own everywhere, other series follow the values of their dimensions. Start at `seriesLook`.
import type { Series } from '../api/types';
import { namedColor, palette } from './palette';

/** Of bars: whole, in two rails, or with gaps; of lines: whole, dashed, or dotted. */
export type Pattern = 'whole' | 'rails' | 'gaps';

export interface Look {
  color: string;
  pattern: Pattern;
}

const PATTERNS: Pattern[] = ['whole', 'rails', 'gaps'];

export const DASHES: Record<Pattern, number[]> = { whole: [], rails: [10, 3], gaps: [2, 3] };

export function seriesLook(series: Pick<Series, 'look' | 'color'>, index: number, dark: boolean): Look {
  if (series.color !== undefined) return { color: namedColor(series.color, dark), pattern: 'whole' };
  return lookAt(series.look ?? index, dark);
}

export function lookAt(place: number, dark: boolean): Look {
  const { series } = palette(dark);
  return { color: series[place % series.length] ?? '', pattern: PATTERNS[Math.floor(place / series.length) % PATTERNS.length] ?? 'whole' };
}
