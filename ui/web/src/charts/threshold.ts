// Which threshold a value has crossed. Pure.
import type { Threshold } from '../api/types';

/** The innermost crossed one: the highest `above`, else the lowest `below`. */
export function crossed(thresholds: Threshold[] | undefined, value: number | null | undefined): Threshold | undefined {
  if (value === null || value === undefined) return undefined;
  let best: Threshold | undefined;
  for (const threshold of thresholds ?? []) {
    if (typeof threshold.above === 'number' && value > threshold.above) {
      if (typeof best?.above !== 'number' || threshold.above > best.above) best = threshold;
    }
  }
  if (best) return best;
  for (const threshold of thresholds ?? []) {
    if (typeof threshold.below === 'number' && value < threshold.below) {
      if (typeof best?.below !== 'number' || threshold.below < best.below) best = threshold;
    }
  }
  return best;
}

export function boundOf(threshold: Threshold): number | undefined {
  return threshold.above ?? threshold.below ?? undefined;
}
