/**
 * A batch as it stands on disk, the same in every language, and how a file of them is read past damage.
 *
 * A record carries its checksum, so that a torn end and flipped bits are known. What is behind the damage is
 * found again: a record is only taken for one if its number follows and its sum is right.
 *
 * ```text
 * record = length:u32 number:u64 sealed_us:i64 events:u32 checksum:u64 payload   (little-endian)
 * ```
 */

import type { Batch } from "./batches.js";

/** Bytes before the payload. */
export const HEAD_BYTES = 4 + 8 + 8 + 4 + 8;
/** The most by which a number is believed to follow another: a gigabyte of records, each with one event, has fewer. */
const STEP_MAX = 1 << 24;
const NOTHING = new Uint8Array();

/** What stands in a segment, in order. */
export interface Contents {
  readonly whole: Batch[];
  /** Outlines of those that are damaged; with one event where their count cannot be read. */
  readonly damaged: Batch[];
}

const [NUMBER_AT, SEALED_AT, EVENTS_AT, SUM_AT] = [4, 12, 20, 24];

/** The record of a batch. */
export function encode(batch: Batch): Buffer {
  const record = Buffer.allocUnsafe(HEAD_BYTES + batch.payload.length);
  record.writeUInt32LE(batch.payload.length, 0);
  record.writeBigUInt64LE(BigInt(batch.number), NUMBER_AT);
  record.writeBigInt64LE(BigInt(batch.sealedUs), SEALED_AT);
  record.writeUInt32LE(batch.events, EVENTS_AT);
  record.writeBigUInt64LE(checksum(batch.payload, batch.number), SUM_AT);
  record.set(batch.payload, HEAD_BYTES);
  return record;
}

/** Everything in a segment whose numbers come after this one. */
export function read(bytes: Buffer, after: number): Contents {
  const found: Contents = { whole: [], damaged: [] };
  for (let [at, last] = [0, after]; at < bytes.length; ) {
    const batch = wholeAt(bytes, at, last);
    const next = batch ? { at, batch } : find(bytes, at + 1, last);
    if (next.at > at) found.damaged.push(...lostBetween(bytes, at, last, next.at, next.batch?.number));
    if (!next.batch) break;
    found.whole.push(next.batch);
    at = next.at + HEAD_BYTES + next.batch.payload.length;
    last = next.batch.number;
  }
  return found;
}

/** The next place with a whole record, or the end. */
function find(bytes: Buffer, from: number, last: number): { at: number; batch?: Batch } {
  for (let at = from; at + HEAD_BYTES <= bytes.length; at++) {
    const batch = wholeAt(bytes, at, last);
    if (batch) return { at, batch };
  }
  return { at: bytes.length };
}

function wholeAt(bytes: Buffer, at: number, last: number): Batch | undefined {
  const outline = headAt(bytes, at, last);
  if (!outline) return undefined;
  const end = at + HEAD_BYTES + bytes.readUInt32LE(at);
  if (end > bytes.length) return undefined;
  const payload = bytes.subarray(at + HEAD_BYTES, end);
  const isWhole = bytes.readBigUInt64LE(at + SUM_AT) === checksum(payload, outline.number);
  return isWhole ? { ...outline, payload } : undefined;
}

/**
 * What was at a damaged place: the numbers that are missing there, or where it was the end, the one whose
 * head can still be read, else the next.
 */
function lostBetween(bytes: Buffer, at: number, last: number, next: number, until: number | undefined): Batch[] {
  const read = headAt(bytes, at, last);
  const head = read && (until === undefined || read.number < until) ? read : undefined;
  const first = last > 0 ? last + 1 : (head?.number ?? (until ?? 0) - 1);
  if (first < 1) return [];
  const end = until ?? (head?.number ?? first) + 1;
  const count = Math.min(end - first, 1 + Math.floor((next - at) / HEAD_BYTES));
  return Array.from({ length: count }, (_, index) => {
    const number = first + index;
    return head?.number === number ? head : { number, events: 1, sealedUs: 0, payload: NOTHING };
  });
}

/** The outline of a head that can be believed: its number follows the last one's, if there was one. */
function headAt(bytes: Buffer, at: number, last: number): Batch | undefined {
  // Quick where it is none, since every place behind damage is tried.
  if (at + HEAD_BYTES > bytes.length || bytes.readUInt32LE(at + NUMBER_AT + 4) !== 0) return undefined;
  const number = bytes.readUInt32LE(at + NUMBER_AT);
  const events = bytes.readUInt32LE(at + EVENTS_AT);
  const follows = number > last && (last === 0 || number - last <= STEP_MAX);
  if (!follows || events > bytes.readUInt32LE(at)) return undefined;
  const sealedUs = Number(bytes.readBigInt64LE(at + SEALED_AT));
  return { number, events: Math.max(events, 1), sealedUs, payload: NOTHING };
}

/**
 * FNV-1a over eight bytes at a time: it must find a torn write, not an attacker.
 *
 * In two halves of 32 bits, since BigInt would take longer than the disk: times the prime
 * 2^40 + 435 is times 435, and the low half moved up by 40 bits.
 */
export function checksum(payload: Uint8Array, number: number): bigint {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  let low = (0x8422_2325 ^ number) >>> 0;
  let high = (0xcbf2_9ce4 ^ Math.floor(number / 2 ** 32)) >>> 0;
  const multiply = () => {
    const product = low * 435;
    high = (high * 435 + Math.floor(product / 2 ** 32) + ((low << 8) >>> 0)) % 2 ** 32;
    low = product % 2 ** 32;
  };
  const words = payload.length >>> 3;
  for (let word = 0; word < words; word++) {
    low = (low ^ view.getUint32(word * 8, true)) >>> 0;
    high = (high ^ view.getUint32(word * 8 + 4, true)) >>> 0;
    multiply();
    const turned = ((high << 29) | (low >>> 3)) >>> 0;
    low = ((low << 29) | (high >>> 3)) >>> 0;
    high = turned;
  }
  for (let at = words * 8; at < payload.length; at++) {
    low = (low ^ view.getUint8(at)) >>> 0;
    multiply();
  }
  return ((BigInt(high) << 32n) | BigInt(low)) ^ BigInt(payload.length);
}
