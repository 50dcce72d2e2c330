/**
 * An event as it stands in a batch (`wire/src/batch.rs`), written straight into shared memory.
 *
 * ```text
 * event = present:u8 time_us:i64 id:16 bytes text(type) [trace] [text(arm)] text(data)
 * text  = varint length, then that many bytes of UTF-8
 * trace = 16 bytes trace id, 8 bytes span id, 1 byte flags
 * ```
 */

import type { Trace } from "../trace.js";
import type { Ring } from "./ring.js";
import type { Shared } from "./shared.js";
import type { Ulids } from "./ulid.js";

const HAS_TRACE = 1;
const HAS_ARM = 2;
const TIME_AT = 1;
const ID_AT = TIME_AT + 8;
const TYPE_AT = ID_AT + 16;
const TRACE_BYTES = 16 + 8 + 1;
const TWO_POW_32 = 2 ** 32;
/** ASCII texts up to this are written byte by byte, which is quicker than a call of Node's. */
const SHORT_BYTES = 24;

/** One event before it is written. */
export interface Entry {
  readonly type: string;
  /** The text of a JSON object. */
  readonly data: string;
  readonly dataBytes: number;
  readonly trace: Trace | undefined;
  readonly arm: string | undefined;
}

/** Writes an event into the ring of events; `false` where there is no room. */
export function writeEvent(shared: Shared, ulids: Ulids, entry: Entry, now: () => number): boolean {
  const { type, data, dataBytes, trace, arm } = entry;
  // Types are ASCII, and an arm is a header, so their characters are bytes.
  const armBytes = arm === undefined ? 0 : Buffer.byteLength(arm);
  const length =
    TYPE_AT +
    textBytes(type.length) +
    (trace ? TRACE_BYTES : 0) +
    (arm === undefined ? 0 : textBytes(armBytes)) +
    textBytes(dataBytes);
  const ring = shared.events;
  const at = ring.reserve(length);
  if (at < 0) return false;
  const out = ring.bytes;
  const timeUs = shared.beginEmit(now);
  out[at] = (trace ? HAS_TRACE : 0) | (arm === undefined ? 0 : HAS_ARM);
  out.writeUInt32LE(timeUs % TWO_POW_32, at + TIME_AT);
  out.writeInt32LE(Math.floor(timeUs / TWO_POW_32), at + TIME_AT + 4);
  ulids.write(timeUs, out, at + ID_AT);
  let end = putText(ring, at + TYPE_AT, type, type.length);
  if (trace) {
    out.write(trace.traceId, end, "hex");
    out.write(trace.spanId, end + 16, "hex");
    out[end + 24] = trace.flags;
    end += TRACE_BYTES;
  }
  if (arm !== undefined) end = putText(ring, end, arm, armBytes);
  putText(ring, end, data, dataBytes);
  shared.endEmit();
  return true;
}

/** The time of a written event. */
export function timeOf(event: Buffer): number {
  return event.readUInt32LE(TIME_AT) + event.readInt32LE(TIME_AT + 4) * TWO_POW_32;
}

/** The head of a batch: magic, version, flags, and who emitted it. */
export function batchHead(service: string, version: string, instance: string): Buffer {
  const texts = [service, version, instance].map((text) =>
    Buffer.concat([varint(Buffer.byteLength(text)), Buffer.from(text)]),
  );
  return Buffer.concat([Buffer.from("SB\x01\x00", "latin1"), ...texts]);
}

function putText(ring: Ring, at: number, text: string, bytes: number): number {
  let rest = bytes;
  let end = at;
  while (rest >= 0x80) {
    ring.bytes[end++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  ring.bytes[end++] = rest;
  if (bytes > text.length) ring.bytes.write(text, end, bytes, "utf8");
  else if (bytes > SHORT_BYTES) ring.bytes.write(text, end, bytes, "latin1");
  else for (let place = 0; place < bytes; place++) ring.bytes[end + place] = text.charCodeAt(place);
  return end + bytes;
}

/** Bytes of a text with its length before it. */
function textBytes(bytes: number): number {
  let length = 1;
  for (let rest = bytes >>> 7; rest > 0; rest >>>= 7) length++;
  return length + bytes;
}

function varint(value: number): Buffer {
  const bytes = [];
  let rest = value;
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return Buffer.from([...bytes, rest]);
}
