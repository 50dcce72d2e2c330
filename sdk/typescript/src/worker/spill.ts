/**
 * Batches on disk while the bus is away: written in order, read in order, gone when acknowledged.
 *
 * A run has a folder of its own with segments of some megabytes in it. While the run lives, the
 * folder's name says whose it is (see `left.ts`); what it leaves is sent on by a later run, under the
 * old numbers. All folders of a service share one bound. Nothing is synced: a spill survives its process, not a power cut.
 */

import { closeSync, ftruncateSync, mkdirSync, openSync, readSync, rmSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";

import type { Batch } from "./batches.js";
import { bytesBeside, heldName, release } from "./left.js";
import { encode, HEAD_BYTES } from "./segment.js";

/** A segment is closed at this size; a whole one is removed at once when it is acknowledged. */
const SEGMENT_BYTES = 8 << 20;

interface Segment {
  readonly index: number;
  readonly path: string;
  readonly file: number;
  bytes: number;
}

interface Stored {
  readonly segment: Segment;
  readonly offset: number;
  readonly length: number;
  /** Without its payload. */
  readonly outline: Batch;
}

const NOTHING = new Uint8Array();

/** The folder of one run; nothing is made on disk before the first record. */
export class Spill {
  readonly #parent: string;
  readonly #run: string;
  readonly #bytesMax: number;
  readonly folder: string;
  #isMade = false;
  #bytes = 0;
  /** What other runs of the service have on disk, when it was last looked at. */
  #bytesBeside = 0;
  #segments: Segment[] = [];
  /** Whether the last segment takes more. */
  #isOpen = false;
  #nextSegment = 1;
  /** All records that are not acknowledged, oldest first, and how many of them were read. */
  #stored: Stored[] = [];
  #read = 0;

  /** `run` is `<producer>.<epoch>`. */
  constructor(parent: string, run: string, bytesMax: number) {
    this.#parent = parent;
    this.#run = run;
    this.#bytesMax = bytesMax;
    this.folder = join(parent, heldName(run));
  }

  /** Whether nothing waits to be read. */
  get isAllRead(): boolean {
    return this.#read === this.#stored.length;
  }

  /** Whether there is room for a batch beside what all runs of the service have on disk. */
  hasRoom(batch: Batch): boolean {
    const own = this.#bytes + HEAD_BYTES + batch.payload.length;
    // Looked at again where it decides: what others left may have been sent meanwhile.
    const mustLook = this.#segments.length === 0 || own + this.#bytesBeside > this.#bytesMax;
    if (mustLook) this.#bytesBeside = bytesBeside(this.#parent, this.folder);
    return own + this.#bytesBeside <= this.#bytesMax;
  }

  /** Appends a batch. One that is in the sender's hands already is not read again from here. */
  append(batch: Batch, isRead: boolean): void {
    const record = encode(batch);
    const segment = this.#lastSegment(record.length);
    try {
      writeAll(segment.file, record, segment.bytes);
    } catch (error) {
      // What is torn is cut off, and the next try writes there. A file that cannot be cut is left, so that
      // its end is torn and nothing is behind that.
      this.#isOpen = isCut(segment.file, segment.bytes);
      throw error;
    }
    this.#stored.push({
      segment,
      offset: segment.bytes + HEAD_BYTES,
      length: batch.payload.length,
      outline: { ...batch, payload: NOTHING },
    });
    segment.bytes += record.length;
    this.#bytes += record.length;
    if (isRead) this.#read += 1;
  }

  /** The next batch that was not read, and whether the disk gave it back whole. */
  next(): { batch: Batch; isWhole: boolean } | undefined {
    const stored = this.#stored[this.#read];
    if (!stored) return undefined;
    this.#read += 1;
    const payload = Buffer.alloc(stored.length);
    const isWhole = readAll(stored.segment.file, payload, stored.offset);
    return { batch: { ...stored.outline, payload }, isWhole };
  }

  /** Forgets everything up to this number, and removes segments that are empty then. */
  acknowledge(number: number): void {
    const left = this.#stored.findIndex((one) => one.outline.number > number);
    const gone = left < 0 ? this.#stored.length : left;
    if (gone === 0) return;
    this.#stored.splice(0, gone);
    this.#read = Math.max(0, this.#read - gone);
    const oldest = this.#stored[0]?.segment.index ?? Infinity;
    while (this.#segments[0] && this.#segments[0].index < oldest) this.#remove(this.#segments[0]);
  }

  /** Removes the folder when nothing is left in it; else it waits for a later run. */
  close(): void {
    for (const segment of this.#segments) closeSync(segment.file);
    if (!this.#isMade) return;
    if (this.#stored.length === 0) rmSync(this.folder, { recursive: true, force: true });
    else release(this.#parent, this.#run, this.folder);
  }

  #remove(segment: Segment): void {
    this.#segments.shift();
    this.#bytes -= segment.bytes;
    closeSync(segment.file);
    try {
      unlinkSync(segment.path);
    } catch {
      // A later run sends it a second time then, and the bus knows it by its numbers.
    }
  }

  #lastSegment(more: number): Segment {
    if (!this.#isMade) mkdirSync(this.folder, { mode: 0o700, recursive: true });
    this.#isMade = true;
    const last = this.#segments.at(-1);
    if (last && this.#isOpen && last.bytes + more <= SEGMENT_BYTES) return last;
    const index = this.#nextSegment;
    const path = join(this.folder, `${String(index).padStart(8, "0")}.seg`);
    const segment: Segment = { index, path, file: openSync(path, "wx+", 0o600), bytes: 0 };
    this.#bytesBeside = bytesBeside(this.#parent, this.folder);
    this.#nextSegment += 1;
    this.#segments.push(segment);
    this.#isOpen = true;
    return segment;
  }
}

function writeAll(file: number, bytes: Uint8Array, offset: number): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, bytes.length - at, offset + at);
}

function isCut(file: number, length: number): boolean {
  try {
    ftruncateSync(file, length);
    return true;
  } catch {
    return false;
  }
}

/** Whether all of it could be read. */
function readAll(file: number, into: Uint8Array, offset: number): boolean {
  try {
    for (let at = 0; at < into.length; ) {
      const read = readSync(file, into, at, into.length - at, offset + at);
      if (read === 0) return false;
      at += read;
    }
    return true;
  } catch {
    return false;
  }
}
