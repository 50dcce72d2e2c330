// How a series is told from others: its colour, and a pattern where there are more of them than colours.
//
// A service looks the same on every page: looks are handed out in the order in which this browser first met
// a service, and remembered, since no rule over names keeps ten apart among eight colours. Other series
// follow their order in the chart. Start at `serviceLook`.
import type { Series } from '../api/types';
import { remember, remembered } from '../memory';
import { namedColor, palette } from './palette';

/** Of bars: whole, in two rails, or with gaps; of lines: whole, dashed, or dotted. */
export type Pattern = 'whole' | 'rails' | 'gaps';

export interface Look {
  color: string;
  pattern: Pattern;
}

const PATTERNS: Pattern[] = ['whole', 'rails', 'gaps'];
const KEY = 'serin.services';
/** What begins nearly every trace has a whole colour, whenever it is met. */
const FIRST = ['gateway'];
/** Names come from data: no more of them are remembered than anybody looks at. */
const SERVICES_MAX = 200;

export const DASHES: Record<Pattern, number[]> = { whole: [], rails: [10, 3], gaps: [2, 3] };

let met: string[] = read();

export function serviceLook(service: string, dark: boolean): Look {
  let at = met.indexOf(service);
  if (at < 0) {
    // Another tab may have met it.
    met = [...new Set([...read(), ...met])];
    at = met.indexOf(service);
  }
  if (at < 0) {
    at = met.length;
    if (at < SERVICES_MAX) {
      met = [...met, service];
      remember(KEY, JSON.stringify(met));
    }
  }
  return lookAt(at, dark);
}

export function seriesLook(series: Pick<Series, 'by' | 'color'>, index: number, dark: boolean): Look {
  if (series.color !== undefined) return { color: namedColor(series.color, dark), pattern: 'whole' };
  const split = Object.entries(series.by ?? {});
  const [dimension, service] = split[0] ?? [];
  return split.length === 1 && dimension === 'service' && service ? serviceLook(service, dark) : lookAt(index, dark);
}

function lookAt(at: number, dark: boolean): Look {
  const { series } = palette(dark);
  return { color: series[at % series.length] ?? '', pattern: PATTERNS[Math.floor(at / series.length) % PATTERNS.length] ?? 'whole' };
}

function read(): string[] {
  try {
    const kept: unknown = JSON.parse(remembered(KEY) ?? '[]');
    const names = Array.isArray(kept) ? kept.filter((name): name is string => typeof name === 'string') : [];
    return [...new Set([...FIRST, ...names])].slice(0, SERVICES_MAX);
  } catch {
    return FIRST;
  }
}
