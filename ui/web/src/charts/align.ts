// Series of points as columns over one shared list of times, as a plotter wants them.
//
// A missing step becomes a gap, never a straight line over it; stacks add up without inventing
// values. Pure. Start at `align`.
import type { Series } from '../api/types';

export interface Aligned {
  /** Seconds since 1970, rising. */
  times: number[];
  /** One column per series: what was measured. */
  values: (number | null)[][];
}

export function align(series: Series[], stepS: number): Aligned {
  const seen = new Set<number>();
  const parsed = series.map(({ points }) => {
    const at = new Map<number, number | null>();
    for (const [time, value] of points) {
      const second = Date.parse(time) / 1000;
      at.set(second, value);
      seen.add(second);
    }
    return at;
  });
  const times = withGaps([...seen].sort((a, b) => a - b), stepS);
  return { times, values: parsed.map((at) => times.map((time) => at.get(time) ?? null)) };
}

/** Adds a time without values wherever a step is missing, and one at each end. */
function withGaps(times: number[], stepS: number): number[] {
  const [first] = times;
  if (first === undefined || stepS <= 0) return times;
  const filled: number[] = [first - stepS];
  let last = first - stepS;
  for (const time of times) {
    if (time - last > stepS * 1.5) filled.push(last + stepS);
    filled.push(time);
    last = time;
  }
  filled.push(last + stepS);
  return filled;
}

/**
 * Sums from the last series up, so that the first one ends on top. Where a series has no value it
 * adds nothing; where none has one, there is a gap.
 */
export function stack(values: (number | null)[][], isShown: (index: number) => boolean): (number | null)[][] {
  const length = values[0]?.length ?? 0;
  const sums: (number | null)[] = Array.from({ length }, () => null);
  const stacked: (number | null)[][] = values.map(() => []);
  for (let index = values.length - 1; index >= 0; index -= 1) {
    const column = values[index] ?? [];
    if (isShown(index)) {
      column.forEach((value, at) => {
        if (value !== null) sums[at] = (sums[at] ?? 0) + value;
      });
    }
    stacked[index] = isShown(index) ? sums.slice() : column.map(() => null);
  }
  return stacked;
}

/**
 * Where the time axis begins. Steps as wide as a twentieth of the range or more are shown whole,
 * else a value of the hour would not be seen in a range that lies within that hour.
 */
export function firstShown(times: number[], stepS: number, from: number, to: number): number {
  if (stepS < (to - from) / 20) return from;
  return times.find((time) => time > from - stepS && time < from) ?? from;
}

/** Places with a value whose neighbours have none: a line cannot show them, a dot can. */
export function lonely(column: (number | null | undefined)[]): number[] {
  const found: number[] = [];
  column.forEach((value, at) => {
    const isEmpty = (other: number): boolean => column[other] === null || column[other] === undefined;
    if (value !== null && value !== undefined && isEmpty(at - 1) && isEmpty(at + 1)) found.push(at);
  });
  return found;
}
