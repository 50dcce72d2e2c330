/**
 * What the service's thread and the worker thread share: two rings, counters, state and promises.
 *
 * Everything a beat says is here or in the worker, so that beats are right while the service's event
 * loop is blocked. Start at {@link Shared}; what is promised of time is at {@link Shared.promise}.
 */

import { REASONS, type Reason } from "../dropped.js";
import { BUCKETS, bucketOf, type Histogram } from "./histogram.js";
import { Ring } from "./ring.js";

/** Whether an instance takes work. */
export type State = "starting" | "ready" | "draining";
const STATES: readonly State[] = ["starting", "ready", "draining"];

/** Logs, spans and requests that wait for the worker: some seconds of a busy service. */
const TELEMETRY_BYTES = 1 << 20;
/** A clock set back by less than this is bridged by standing still; by more, we go back with it. */
const STEP_BACK_US = 1_000_000;

/** What the worker sleeps for. */
const [AWAKE, UNTIL_EVENT, UNTIL_HALF_FULL] = [0, 1, 2];

/** Places of 32-bit values. */
const At = {
  wake: 0,
  sleep: 1,
  isEmitting: 2,
  emitted: 3,
  settled: 4,
  state: 5,
  stopWithinMs: 6,
  outcome: 7,
  isSpillFull: 8,
  inFlight: 9,
  tickMs: 10,
  lagMsMax: 11,
  errors: 12,
  requests: 13,
  lost: 14,
  buckets: 15,
} as const;
const INTS = At.buckets + BUCKETS;

/** Places of 64-bit values. */
const Long = { floorUs: 0, sumUs: 1, dropped: 2 } as const;
const LONGS = Long.dropped + REASONS.length;

/** The memory itself, as it is handed to the worker. */
export interface SharedMemory {
  readonly counters: SharedArrayBuffer;
  readonly events: SharedArrayBuffer;
  readonly telemetry: SharedArrayBuffer;
}

/** How the worker ended: whether everything was acknowledged. */
export type Outcome = "running" | "done" | "left";
const OUTCOMES: readonly Outcome[] = ["running", "done", "left"];

/** See the module. */
export class Shared {
  /** Events, each as it stands in a batch. */
  readonly events: Ring;
  /** Lines of logs, spans and requests. */
  readonly telemetry: Ring;
  readonly #ints: Int32Array;
  readonly #longs: BigInt64Array;

  static memory(queueBytes: number): SharedMemory {
    return {
      counters: new SharedArrayBuffer(LONGS * 8 + INTS * 4),
      events: Ring.memory(queueBytes),
      telemetry: Ring.memory(TELEMETRY_BYTES),
    };
  }

  constructor(memory: SharedMemory) {
    this.#longs = new BigInt64Array(memory.counters, 0, LONGS);
    this.#ints = new Int32Array(memory.counters, LONGS * 8, INTS);
    this.events = new Ring(memory.events);
    this.telemetry = new Ring(memory.telemetry);
  }

  // -- Time: no event comes with a time at or before one that was promised ------------------------

  /**
   * Starts writing an event; the time it gets. The clock is read last: a time from before the floor was
   * raised would be taken for a clock that was set back, however long this thread was not run meanwhile.
   */
  beginEmit(now: () => number): number {
    Atomics.store(this.#ints, At.isEmitting, 1);
    const floorUs = Number(Atomics.load(this.#longs, Long.floorUs));
    const nowUs = now();
    return floorUs - nowUs <= STEP_BACK_US ? Math.max(nowUs, floorUs) : nowUs;
  }

  /** Shows the event that was written, and wakes the worker where it sleeps. */
  endEmit(): void {
    // Counted before it is shown, so that an acknowledgement never overtakes it.
    Atomics.add(this.#ints, At.emitted, 1);
    this.events.commit();
    Atomics.store(this.#ints, At.isEmitting, 0);
    const sleep = Atomics.load(this.#ints, At.sleep);
    if (sleep === UNTIL_EVENT || (sleep === UNTIL_HALF_FULL && this.events.isHalfFull)) this.wake();
  }

  /**
   * Promises that no later event comes with an earlier time; that time, or `undefined` while an event
   * is being written. The floor is raised before we look: an `emit` that begins after that sees it,
   * and one that began before is either seen here or has its event in the ring by now.
   */
  promise(nowUs: number): number | undefined {
    const floorUs = Number(Atomics.load(this.#longs, Long.floorUs));
    const promisedUs = floorUs - nowUs <= STEP_BACK_US ? Math.max(nowUs, floorUs) : nowUs;
    Atomics.store(this.#longs, Long.floorUs, BigInt(promisedUs));
    return Atomics.load(this.#ints, At.isEmitting) === 0 ? promisedUs : undefined;
  }

  // -- Waking and ending --------------------------------------------------------------------------

  /** Wakes the worker. */
  wake(): void {
    Atomics.store(this.#ints, At.sleep, AWAKE);
    Atomics.add(this.#ints, At.wake, 1);
    Atomics.notify(this.#ints, At.wake);
  }

  /** Asks that the next event wakes the worker; else the one that fills half of the ring. */
  sleep(isUntilEvent: boolean): void {
    Atomics.store(this.#ints, At.sleep, isUntilEvent ? UNTIL_EVENT : UNTIL_HALF_FULL);
  }

  /** Resolves when somebody wakes the worker after this call. */
  woken(): Promise<unknown> {
    const wait = Atomics.waitAsync(this.#ints, At.wake, Atomics.load(this.#ints, At.wake));
    return Promise.resolve(wait.value);
  }

  /** Asks the worker to end within this time. */
  stop(withinMs: number): void {
    Atomics.compareExchange(this.#ints, At.stopWithinMs, 0, Math.max(1, Math.ceil(withinMs)));
    this.wake();
  }

  /** Within what time the worker is to end; 0 while it is not. */
  get stopWithinMs(): number {
    return Atomics.load(this.#ints, At.stopWithinMs);
  }

  /** How the worker ended. */
  get outcome(): Outcome {
    return OUTCOMES[Atomics.load(this.#ints, At.outcome)] ?? "running";
  }

  set outcome(outcome: Outcome) {
    Atomics.store(this.#ints, At.outcome, OUTCOMES.indexOf(outcome));
    Atomics.notify(this.#ints, At.outcome);
  }

  /** Stands still until the worker ended; only for a process that is ending. */
  waitForOutcome(withinMs: number): void {
    Atomics.wait(this.#ints, At.outcome, 0, withinMs);
  }

  // -- Counts -------------------------------------------------------------------------------------

  /** Counts events that the bus has. */
  acknowledge(events: number): void {
    Atomics.add(this.#ints, At.settled, events);
  }

  /** Counts events in whose place the bus has a message without any. */
  lose(events: number): void {
    Atomics.add(this.#ints, At.lost, events);
    Atomics.add(this.#ints, At.settled, events);
  }

  /** Events that were emitted, in 32 bits. */
  get emitted(): number {
    return Atomics.load(this.#ints, At.emitted);
  }

  /** Events that the bus has, in 32 bits. */
  get acknowledged(): number {
    return Atomics.load(this.#ints, At.settled) - Atomics.load(this.#ints, At.lost);
  }

  /** Whether the bus has so many events, but for those that are lost; right across the turn of the 32 bits. */
  isSettled(emitted: number): boolean {
    return ((Atomics.load(this.#ints, At.settled) - emitted) | 0) >= 0;
  }

  /** Events that were emitted and neither reached the bus nor are lost. */
  get queued(): number {
    const settled = Atomics.load(this.#ints, At.settled);
    return (Atomics.load(this.#ints, At.emitted) - settled) >>> 0;
  }

  /** Counts something that was dropped; whether it is the first for this reason. */
  drop(reason: Reason, count = 1): boolean {
    return Atomics.add(this.#longs, Long.dropped + REASONS.indexOf(reason), BigInt(count)) === 0n;
  }

  /** What was dropped so far, by the reasons that occurred. */
  dropped(): Record<string, number> {
    const counts = REASONS.map(
      (reason, at) => [reason, Number(Atomics.load(this.#longs, Long.dropped + at))] as const,
    );
    return Object.fromEntries(counts.filter(([, count]) => count > 0));
  }

  get isSpillFull(): boolean {
    return Atomics.load(this.#ints, At.isSpillFull) === 1;
  }

  set isSpillFull(isFull: boolean) {
    Atomics.store(this.#ints, At.isSpillFull, isFull ? 1 : 0);
  }

  get state(): State {
    return STATES[Atomics.load(this.#ints, At.state)] ?? "draining";
  }

  set state(state: State) {
    Atomics.store(this.#ints, At.state, STATES.indexOf(state));
  }

  // -- Requests -----------------------------------------------------------------------------------

  /** A request is being handled. */
  startRequest(): void {
    Atomics.add(this.#ints, At.inFlight, 1);
  }

  /** A request is done. */
  finishRequest(tookUs: number, hasFailed: boolean): void {
    Atomics.sub(this.#ints, At.inFlight, 1);
    Atomics.add(this.#ints, At.requests, 1);
    Atomics.add(this.#longs, Long.sumUs, BigInt(Math.round(tookUs)));
    Atomics.add(this.#ints, At.buckets + bucketOf(tookUs), 1);
    if (hasFailed) Atomics.add(this.#ints, At.errors, 1);
  }

  get inFlight(): number {
    return Atomics.load(this.#ints, At.inFlight);
  }

  /** Requests finished since the last call, and how many of them failed. */
  takeRequests(): { requests: Histogram; errors: number } {
    const take = (at: number) => Atomics.exchange(this.#ints, at, 0);
    const buckets: [number, number][] = [];
    const count = take(At.requests);
    const errors = take(At.errors);
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      const inBucket = take(At.buckets + bucket);
      if (inBucket > 0) buckets.push([bucket, inBucket]);
    }
    return { requests: { count, sum_us: Number(Atomics.exchange(this.#longs, Long.sumUs, 0n)), buckets }, errors };
  }

  // -- The event loop -----------------------------------------------------------------------------

  /** The service's event loop turns, late by so much. */
  tick(nowMs: number, lateMs: number): void {
    Atomics.store(this.#ints, At.tickMs, nowMs | 0);
    if (lateMs > Atomics.load(this.#ints, At.lagMsMax)) Atomics.store(this.#ints, At.lagMsMax, lateMs | 0);
  }

  /** The longest the event loop stood still since the last call, also if it still does. */
  takeLagMs(nowMs: number, everyMs: number): number {
    const standing = ((nowMs | 0) - Atomics.load(this.#ints, At.tickMs) - everyMs) | 0;
    return Math.max(Atomics.exchange(this.#ints, At.lagMsMax, 0), standing, 0);
  }
}

/** Milliseconds of a clock that all threads share and that only goes forward. */
export function monotonicMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + Math.floor(nanoseconds / 1e6);
}
