/**
 * Sends batches in order and keeps each until the bus has acknowledged it.
 *
 * A few messages are under way at a time; when one is refused, late, or the connection breaks, all that
 * are not acknowledged are sent again in order, under the same numbers, one at a time until one is taken.
 * What was under way with a refused one may overtake it, and the numbers tell. While the bus is away,
 * batches go to disk. Start at {@link Sender.step}.
 */

import type { Msg } from "@nats-io/transport-node";

import { Away, header, TooLarge, type Bus, type HeaderPairs } from "../bus/bus.js";
import type { Reason } from "../dropped.js";
import type { Shared } from "../memory/shared.js";
import type { Batch, Batches } from "./batches.js";
import type { Spill } from "./spill.js";

/** An open batch waits this long for more events; longer while the bus is away. */
const SEAL_AFTER_MS = 25;
const SEAL_AFTER_AWAY_MS = 1_000;
/** Messages under way: enough to keep the disk of the bus busy, few to send again. */
const WINDOW = 8;
/** An acknowledgement that takes longer is not awaited. */
export const ACK_WITHIN_MS = 5_000;
/** A refused message is sent again after the first, doubling up to the second. */
const [BACKOFF_MS_MIN, BACKOFF_MS_MAX] = [50, 2_000];
/** JetStream's code for a message that is larger than the stream takes; it will not take it later. */
const MESSAGE_TOO_LARGE = 10_054;
/** The longest sleep: a full disk is tried again. */
const LOOK_EVERY_MS = 1_000;

/** A batch in our hands. */
interface Flight {
  batch: Batch;
  isOnDisk: boolean;
  isAcked: boolean;
  /** When it was sent, and on which connection. */
  sent: { atMs: number; connection: number } | undefined;
}

/** What a sender works with. */
export interface SenderParts {
  readonly shared: Shared;
  readonly batches: Batches;
  readonly bus: Bus;
  readonly spill: Spill | undefined;
  readonly subject: string;
  readonly producer: string;
  readonly wake: () => void;
  readonly warn: (text: string) => void;
}

/** See the module. */
export class Sender {
  readonly #parts: SenderParts;
  readonly #inbox: string;
  #window: Flight[] = [];
  #acks: Msg[] = [];
  #retryAtMs = 0;
  /** When the disk, which refused or was full, is tried again. */
  #diskAgainAtMs = 0;
  #isDiskFailing = false;
  #backoffMs = BACKOFF_MS_MIN;
  /** Whether the end is near: nothing waits for more events. */
  isEnding = false;

  constructor(parts: SenderParts) {
    this.#parts = parts;
    this.#inbox = parts.bus.newInbox();
    // Acknowledgements come to `<inbox>.<number>`.
    parts.bus.subscribe(`${this.#inbox}.*`, (ack) => {
      this.#acks.push(ack);
      parts.wake();
    });
  }

  /** One round: take acknowledgements, seal what is old, then send, or put on disk while the bus is away. */
  step(nowMs: number): void {
    const { batches } = this.#parts;
    this.#takeAcks();
    batches.take(nowMs);
    if (this.#isSealDue(nowMs)) batches.seal();
    this.#recall(nowMs);
    if (this.#isAway(nowMs)) return this.#moveAllToDisk(nowMs);
    this.#sendAll(nowMs);
    const isDiskBehind = this.#parts.spill !== undefined && !this.#parts.spill.isAllRead;
    const isStuck = isDiskBehind || this.#window.length >= this.#width;
    if (isStuck && this.#parts.shared.events.isHalfFull) this.#moveAllToDisk(nowMs);
  }

  /** Whether everything emitted is acknowledged. */
  get isDone(): boolean {
    const { batches, spill } = this.#parts;
    return this.#window.length === 0 && (spill?.isAllRead ?? true) && batches.isEmpty;
  }

  /** How long there is nothing to do by the clock. */
  restMs(nowMs: number): number {
    const { batches } = this.#parts;
    const rests = [LOOK_EVERY_MS];
    if (batches.openSinceMs !== undefined) rests.push(batches.openSinceMs + this.#sealAfterMs(nowMs) - nowMs);
    if (this.#retryAtMs > nowMs) rests.push(this.#retryAtMs - nowMs);
    return Math.max(0, Math.min(...rests));
  }

  /** Whether the next event changes what there is to do. */
  get isIdle(): boolean {
    return this.#parts.batches.openSinceMs === undefined;
  }

  /**
   * Leaves what is not acknowledged on disk for the next run, and counts what nobody will send; whether there
   * was nothing.
   */
  leave(nowMs: number): boolean {
    const { batches, spill } = this.#parts;
    this.#takeAcks();
    batches.take(nowMs);
    batches.seal();
    const isDone = this.isDone;
    if (!isDone) {
      this.#diskAgainAtMs = 0;
      this.#moveAllToDisk(nowMs);
      // What the ring had left came as room was made, and its last events have filled no batch.
      batches.seal();
      this.#moveAllToDisk(nowMs);
      this.#abandon(nowMs);
    }
    try {
      spill?.close();
    } catch (error) {
      this.#parts.warn(`cannot leave the spill folder in order: ${String(error)}`);
    }
    return isDone;
  }

  #abandon(nowMs: number): void {
    const { batches, shared, warn } = this.#parts;
    const inHand = this.#window.filter((flight) => !flight.isOnDisk && !flight.isAcked);
    let abandoned = inHand.reduce((sum, { batch }) => sum + batch.events, 0);
    for (let batch = batches.shift(); batch; batch = batches.shift()) {
      abandoned += batch.events;
      // What is still in the ring comes to an end here as well.
      batches.take(nowMs);
      batches.seal();
    }
    if (abandoned === 0) return;
    shared.drop("abandoned", abandoned);
    warn(`${abandoned} events are lost: neither the bus nor the disk took them`);
  }

  #isAway(nowMs: number): boolean {
    return this.#retryAtMs > nowMs || !this.#parts.bus.isConnected;
  }

  #sealAfterMs(nowMs: number): number {
    return this.#isAway(nowMs) ? SEAL_AFTER_AWAY_MS : SEAL_AFTER_MS;
  }

  #isSealDue(nowMs: number): boolean {
    const since = this.#parts.batches.openSinceMs;
    return since !== undefined && (this.isEnding || nowMs - since >= this.#sealAfterMs(nowMs));
  }

  /** Marks as not sent what died with its connection or was not acknowledged in time. */
  #recall(nowMs: number): void {
    const { bus, warn } = this.#parts;
    let isLate = false;
    for (const flight of this.#window) {
      if (flight.isAcked || !flight.sent) continue;
      if (flight.sent.connection !== bus.connection || !bus.isConnected) flight.sent = undefined;
      else if (nowMs - flight.sent.atMs > ACK_WITHIN_MS) isLate = true;
    }
    if (!isLate) return;
    warn("the bus does not acknowledge events; they are kept and sent again");
    this.#backOff(nowMs);
  }

  /** Everything under way is sent again, a little later each time. */
  #backOff(nowMs: number): void {
    this.#retryAtMs = nowMs + this.#backoffMs;
    this.#backoffMs = Math.min(this.#backoffMs * 2, BACKOFF_MS_MAX);
    for (const flight of this.#window) flight.sent = undefined;
  }

  /**
   * How many may be under way: after a refusal the oldest alone, until one is taken. A full stream might have
   * room for a smaller one behind it, and is not asked eight times.
   */
  get #width(): number {
    return this.#backoffMs > BACKOFF_MS_MIN ? 1 : WINDOW;
  }

  #sendAll(nowMs: number): void {
    const width = this.#width;
    for (const flight of this.#window.slice(0, width)) {
      if (!this.#send(flight, nowMs)) return;
    }
    while (this.#window.length < width) {
      const flight = this.#nextFlight();
      if (!flight) return;
      this.#window.push(flight);
      if (!this.#send(flight, nowMs)) return;
    }
  }

  /** The oldest batch that waits: what is on disk is older than what is in memory. */
  #nextFlight(): Flight | undefined {
    const { spill, batches } = this.#parts;
    const spilled = spill?.next();
    if (spilled) {
      const batch = spilled.isWhole ? spilled.batch : this.emptied(spilled.batch, "spill-lost");
      return { batch, isOnDisk: true, isAcked: false, sent: undefined };
    }
    const batch = batches.shift();
    return batch && { batch, isOnDisk: false, isAcked: false, sent: undefined };
  }

  /** A message without events in place of one that cannot be sent, which is counted as lost: numbers have no holes. */
  emptied(lost: Batch, reason: Reason): Batch {
    this.#parts.shared.drop(reason, lost.events);
    this.#parts.warn(`${lost.events} events are lost: ${reason}`);
    return { ...lost, payload: this.#parts.batches.head };
  }

  /** Sends one flight unless it is under way already; whether the next may follow. */
  #send(flight: Flight, nowMs: number): boolean {
    if (flight.sent || flight.isAcked) return true;
    const { bus, subject, producer } = this.#parts;
    const { number, payload } = flight.batch;
    const sent = { atMs: nowMs, connection: bus.connection };
    try {
      bus.publish(subject, payload, {
        reply: `${this.#inbox}.${number}`,
        headers: batchHeaders(producer, 0, number),
      });
    } catch (error) {
      if (error instanceof TooLarge && !this.#isEmptied(flight)) {
        flight.batch = this.emptied(flight.batch, "too-large");
        return this.#send(flight, nowMs);
      }
      if (!(error instanceof Away)) throw error;
      this.#backOff(nowMs);
      return false;
    }
    flight.sent = sent;
    return true;
  }

  #takeAcks(): void {
    const acks = this.#acks;
    if (acks.length === 0) return;
    this.#acks = [];
    const { spill, batches, warn } = this.#parts;
    let refusal: Refusal | undefined;
    for (const ack of acks) refusal = this.#takeAck(ack) ?? refusal;
    while (this.#window[0]?.isAcked) {
      const { batch } = this.#window[0];
      this.#window.shift();
      spill?.acknowledge(batch.number);
      batches.acknowledge(batch);
    }
    if (refusal === undefined) {
      [this.#backoffMs, this.#retryAtMs] = [BACKOFF_MS_MIN, 0];
    } else {
      if (this.#backoffMs === BACKOFF_MS_MIN) {
        warn(`the bus refused events, they are kept and sent again: ${refusal.words}`);
      }
      this.#backOff(performance.now());
    }
  }

  #isEmptied(flight: Flight): boolean {
    return flight.batch.payload === this.#parts.batches.head;
  }

  /** Marks the flight it is for; why not, where the bus may take it later. */
  #takeAck(ack: Msg): Refusal | undefined {
    const number = Number(ack.subject.slice(ack.subject.lastIndexOf(".") + 1));
    const flight = this.#window.find((one) => one.batch.number === number && !one.isAcked);
    if (!flight) return undefined;
    const refusal = readAck(ack);
    if (refusal?.isFinal && !this.#isEmptied(flight)) {
      flight.batch = this.emptied(flight.batch, "too-large");
      flight.sent = undefined;
      return undefined;
    }
    if (refusal === undefined) flight.isAcked = true;
    return refusal;
  }

  /** Moves to disk what is not acknowledged: first what is under way, then what waits here and in the ring. */
  #moveAllToDisk(nowMs: number): void {
    const { spill, shared, batches } = this.#parts;
    if (!spill || this.#diskAgainAtMs > nowMs) return;
    let isFull = false;
    for (const flight of this.#window) {
      if (flight.isOnDisk || flight.isAcked) continue;
      if (!this.#store(spill, flight.batch, true)) {
        isFull = true;
        break;
      }
      flight.isOnDisk = true;
    }
    for (let batch = batches.peek(); batch && !isFull; batch = batches.peek()) {
      isFull = !this.#store(spill, batch, false);
      if (isFull) break;
      batches.shift();
      batches.take(nowMs);
    }
    this.#diskAgainAtMs = isFull ? nowMs + LOOK_EVERY_MS : 0;
    shared.isSpillFull = isFull;
  }

  #store(spill: Spill, batch: Batch, isRead: boolean): boolean {
    if (!spill.hasRoom(batch)) return false;
    try {
      spill.append(batch, isRead);
      this.#isDiskFailing = false;
    } catch (error) {
      const text = `cannot keep events in ${spill.folder} while the bus is away: ${String(error)}`;
      if (!this.#isDiskFailing) this.#parts.warn(text);
      this.#isDiskFailing = true;
    }
    return !this.#isDiskFailing;
  }
}

/** The headers of a batch. */
export function batchHeaders(producer: string, epoch: number, number: number): HeaderPairs {
  return [
    ["Nats-Msg-Id", `${producer}/${epoch}/${number}`],
    ["content-type", "application/x-serin-events"],
  ];
}

/** Why JetStream does not have a message. */
export interface Refusal {
  readonly words: string;
  /** Whether it will not be taken later either. */
  readonly isFinal: boolean;
}

/** `undefined` where JetStream has the message. */
export function readAck(ack: Msg): Refusal | undefined {
  const later = (words: string) => ({ words, isFinal: false });
  if (header(ack, "Status") === "503" || ack.headers?.code === 503) return later("no stream takes events");
  try {
    const answer = ack.json<{ seq?: number; error?: { err_code?: number; description?: string } }>();
    // A refusal has a sequence as well: 0.
    if (!answer.error) return answer.seq === undefined ? later("no reason given") : undefined;
    const { err_code, description = "no reason given" } = answer.error;
    return { words: description, isFinal: err_code === MESSAGE_TOO_LARGE };
  } catch {
    return later("its answer cannot be read");
  }
}
