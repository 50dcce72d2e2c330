/**
 * A batch as it stands on disk, the same in every language:
 *
 * ```text
 * record = length:u32 number:u64 sealed_us:i64 events:u32 checksum:u64 payload   (little-endian)
 * ```
 */

import type { Batch } from "./batches.js";

/** Bytes before the payload. */
export const HEAD_BYTES = 4 + 8 + 8 + 4 + 8;
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

/** The batches of a segment, up to a torn end. */
export function* decode(bytes: Buffer): Generator<Batch> {
  for (let at = 0; at + HEAD_BYTES <= bytes.length; ) {
    const end = at + HEAD_BYTES + bytes.readUInt32LE(at);
    const number = Number(bytes.readBigUInt64LE(at + NUMBER_AT));
    if (end > bytes.length || number === 0) return;
    const payload = bytes.subarray(at + HEAD_BYTES, end);
    if (bytes.readBigUInt64LE(at + SUM_AT) !== checksum(payload, number)) return;
    yield {
      number,
      events: bytes.readUInt32LE(at + EVENTS_AT),
      sealedUs: Number(bytes.readBigInt64LE(at + SEALED_AT)),
      payload,
    };
    at = end;
  }
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
