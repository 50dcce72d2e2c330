/**
 * Which spans are told: all while they fit the budget, beyond it whole traces by their identity, and
 * always the failed and the slow.
 *
 * A trace is kept where the random bits of its identity are at or above a threshold that rises with the
 * load (W3C trace context level 2). So what a busy service keeps, a less busy one keeps too, and traces
 * stay whole without asking anybody; the rule is that of the other SDKs. `now` is a parameter.
 */

import { bucketOf, BUCKETS } from "./memory/histogram.js";
import { SAMPLED } from "./trace.js";

/** Spans told per second and process: at some 400 bytes each, 200 KB. */
const SPANS_PER_S = 500;
const WINDOW_MS = 1_000;
/** A window ends early once it had this many, so that a burst is met at once. */
const OFFERED_MAX = 1_000;
/** A percentile of fewer durations says nothing. */
const DURATIONS_MIN = 100;
/** Names whose durations are followed; a process has few, unless names are made of data. */
const NAMES_MAX = 256;
/** The last 56 bits of a trace identity are random; of these, the 52 highest fit a number exactly. */
const RANDOM_AT = [-14, -1] as const;
const RANDOM_RANGE = 2 ** 52;
/** What is known of a span when it ends. */
export interface Offer {
  readonly traceId: string;
  /** The flags of its trace. */
  readonly flags: number;
  readonly name: string;
  readonly durationUs: number;
  readonly hasFailed: boolean;
}

interface Durations {
  counts: Uint32Array;
  count: number;
  /** A span in a higher bucket is slow. */
  slowAbove: number;
}

/** See the module. */
export class Sampler {
  #openedMs: number;
  #offered = 0;
  /** The share of traces that is kept. */
  #share = 1;
  readonly #names = new Map<string, Durations>();

  constructor(nowMs: number) {
    this.#openedMs = nowMs;
  }

  /** Whether a new trace of this identity is one that is kept. */
  takes(traceId: string): boolean {
    return isWithin(traceId, this.#share);
  }

  /** Whether a span is told. */
  keeps({ traceId, flags, name, durationUs, hasFailed }: Offer, nowMs: number): boolean {
    if (nowMs - this.#openedMs >= WINDOW_MS || this.#offered >= OFFERED_MAX) this.#roll(nowMs);
    this.#offered += 1;
    const isSlow = this.#isSlow(name, durationUs);
    return hasFailed || isSlow || ((flags & SAMPLED) !== 0 && isWithin(traceId, this.#share));
  }

  #roll(nowMs: number): void {
    const perS = this.#offered / Math.max((nowMs - this.#openedMs) / 1000, 1e-3);
    this.#share = Math.min(SPANS_PER_S / Math.max(perS, 1), 1);
    this.#openedMs = nowMs;
    this.#offered = 0;
    for (const [name, durations] of this.#names) {
      if (durations.count === 0) this.#names.delete(name);
      else if (durations.count >= DURATIONS_MIN) this.#names.set(name, { ...fresh(), slowAbove: percentile99(durations) });
    }
  }

  #isSlow(name: string, durationUs: number): boolean {
    const durations = this.#names.get(name) ?? fresh();
    if (!this.#names.has(name)) {
      if (this.#names.size >= NAMES_MAX) return false;
      this.#names.set(name, durations);
    }
    const bucket = bucketOf(durationUs);
    durations.counts[bucket] = (durations.counts[bucket] ?? 0) + 1;
    durations.count += 1;
    return bucket > durations.slowAbove;
  }
}

const fresh = (): Durations => ({ counts: new Uint32Array(BUCKETS), count: 0, slowAbove: BUCKETS });

/** The bucket that the 99th percentile is in. */
function percentile99({ counts, count }: Durations): number {
  let left = Math.ceil(count * 0.99);
  return counts.findIndex((inBucket) => (left -= inBucket) <= 0);
}

function isWithin(traceId: string, share: number): boolean {
  return Number.parseInt(traceId.slice(...RANDOM_AT), 16) >= (1 - share) * RANDOM_RANGE;
}
