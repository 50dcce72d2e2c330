/**
 * The buckets of a latency histogram, as `wire/src/histogram.rs` lays them out.
 *
 * Bucket `b` holds values in `[10 · 2^(b/4), 10 · 2^((b+1)/4))` microseconds.
 */

/** Microseconds where the first bucket begins; everything below counts as this. */
const LOWEST_US = 10;
/** 10 µs · 2^(104/4) is about 671 s: past any request. */
export const BUCKETS = 104;

/** The bucket of a value. */
export function bucketOf(valueUs: number): number {
  const ratio = Math.max(valueUs / LOWEST_US, 1);
  return Math.min(Math.floor(Math.log2(ratio) * 4), BUCKETS - 1);
}

/** A histogram as it travels. */
export interface Histogram {
  count: number;
  sum_us: number;
  /** `[bucket, count]` of the buckets that are not empty, in rising order. */
  buckets: [number, number][];
}
