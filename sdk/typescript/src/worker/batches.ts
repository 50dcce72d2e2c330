/**
 * Events from the shared ring become numbered batches, each one message.
 *
 * An event that is in a numbered batch is never dropped, so that a producer's numbers have no holes.
 * Here too: up to what moment everything emitted is in a batch. No IO. Start at {@link Batches.take}.
 */

import type { Shared } from "../memory/shared.js";

/** A batch is sealed at this size: the bus syncs to disk per message, and reaches most of the disk's speed at 100 KB. */
const SEAL_BYTES = 128 << 10;
/** Batches that wait in memory beside the ring: some more than are sent at a time. */
const WAITING_BYTES_MAX = 2 << 20;

/** A sealed batch: one message, with its number. */
export interface Batch {
  readonly number: number;
  readonly events: number;
  /** Every event emitted with a time up to this is in this batch or an earlier one. */
  readonly sealedUs: number;
  readonly payload: Uint8Array;
}

/** Acknowledged up to this number; complete up to this time. */
export interface Mark {
  readonly number: number;
  readonly timeUs: number;
}

/** See the module. */
export class Batches {
  /** What every message of this instance begins with. */
  readonly head: Buffer;
  readonly #shared: Shared;
  readonly #nowUs: () => number;
  #parts: Buffer[] = [];
  #openBytes = 0;
  #number = 1;
  #waiting: Batch[] = [];
  #waitingBytes = 0;
  /** Everything emitted up to here is taken from the ring. */
  #takenUs: number;
  #mark: Mark;
  /** When the open batch got its first event, by the monotonic clock; `undefined` where there is none. */
  openSinceMs: number | undefined;

  constructor(shared: Shared, head: Buffer, nowUs: () => number) {
    this.#shared = shared;
    this.head = head;
    this.#nowUs = nowUs;
    this.#takenUs = nowUs() - 1;
    this.#mark = { number: 0, timeUs: this.#takenUs };
  }

  /** Whether more events are taken from the ring. */
  get hasRoom(): boolean {
    return this.#waitingBytes <= WAITING_BYTES_MAX;
  }

  /** Takes events from the ring while there is room for batches. */
  take(nowMs: number): void {
    const ring = this.#shared.events;
    const promisedUs = this.#shared.promise(this.#nowUs());
    for (;;) {
      if (!this.hasRoom) return;
      const event = ring.peek();
      if (!event) break;
      if (this.#openBytes + event.length > SEAL_BYTES && this.#parts.length > 0) this.seal();
      this.#parts.push(Buffer.from(event));
      this.#openBytes += event.length;
      this.openSinceMs ??= nowMs;
      ring.release();
    }
    // "Up to" is inclusive, hence one less.
    if (promisedUs !== undefined) this.#takenUs = promisedUs - 1;
  }

  /** Seals the open batch, if an event is in it. */
  seal(): void {
    if (this.#parts.length === 0) return;
    const batch: Batch = {
      number: this.#number++,
      events: this.#parts.length,
      sealedUs: this.#takenUs,
      payload: Buffer.concat([this.head, ...this.#parts]),
    };
    this.#parts = [];
    this.#openBytes = 0;
    this.openSinceMs = undefined;
    this.#waiting.push(batch);
    this.#waitingBytes += batch.payload.length;
  }

  /** The oldest sealed batch; it stays until {@link shift}. */
  peek(): Batch | undefined {
    return this.#waiting[0];
  }

  /** Takes the oldest sealed batch. */
  shift(): Batch | undefined {
    const batch = this.#waiting.shift();
    this.#waitingBytes -= batch?.payload.length ?? 0;
    return batch;
  }

  /** Whether nothing waits here or in the ring. */
  get isEmpty(): boolean {
    return this.#waiting.length === 0 && this.#parts.length === 0 && this.#shared.events.isEmpty;
  }

  /** The bus has this batch and all before it. */
  acknowledge(batch: Batch): void {
    this.#mark = { number: batch.number, timeUs: batch.sealedUs };
    if (batch.payload === this.head) this.#shared.lose(batch.events);
    else this.#shared.acknowledge(batch.events);
  }

  /** Up to when everything emitted is acknowledged; this moment, where nothing is under way. */
  mark(nowMs: number): Mark {
    this.take(nowMs);
    if (this.#mark.number + 1 === this.#number && this.#parts.length === 0) {
      this.#mark = { number: this.#mark.number, timeUs: Math.max(this.#takenUs, this.#mark.timeUs) };
    }
    return this.#mark;
  }
}
