/**
 * A bounded ring of records between two threads: one writes, one reads, and neither ever waits.
 *
 * `emit` writes into it from the service's thread, the worker takes from it, also while the
 * service's event loop is blocked. A record is its length and its bytes, in one piece; one that
 * does not fit before the end starts over at the beginning, behind a mark.
 */

const HEAD = 0;
const TAIL = 1;
const POSITIONS_BYTES = 8;
const LENGTH_BYTES = 4;
/** In place of a length: the next record is at the beginning. */
const TURN = 0xffff_ffff;
/**
 * An empty ring is written from its beginning again past this share, so that a quiet one stays small in
 * memory. Until the reader has followed, there is no more room than this share: it must hold a burst.
 */
const TURN_EARLY_SHARE = 1 / 4;
const TURN_EARLY_BYTES_MIN = 1 << 20;

const aligned = (bytes: number) => (bytes + 3) & ~3;

/** See the module. The head is moved by the writer alone, the tail by the reader alone. */
export class Ring {
  readonly #positions: Int32Array;
  readonly #capacity: number;
  readonly #turnsPast: number;
  /** The bytes of the records; write only what was reserved. */
  readonly bytes: Buffer;
  #reservedAt = 0;
  #reservedBytes = 0;

  /** Shared memory for a ring that holds this many bytes. */
  static memory(bytes: number): SharedArrayBuffer {
    return new SharedArrayBuffer(POSITIONS_BYTES + aligned(bytes));
  }

  constructor(memory: SharedArrayBuffer) {
    this.#positions = new Int32Array(memory, 0, 2);
    this.bytes = Buffer.from(memory, POSITIONS_BYTES);
    this.#capacity = this.bytes.length;
    this.#turnsPast = Math.max(TURN_EARLY_BYTES_MIN, this.#capacity * TURN_EARLY_SHARE);
  }

  /** Whether nothing waits to be read. */
  get isEmpty(): boolean {
    return Atomics.load(this.#positions, HEAD) === Atomics.load(this.#positions, TAIL);
  }

  /** Bytes that wait, with their lengths. */
  get used(): number {
    const used = Atomics.load(this.#positions, HEAD) - Atomics.load(this.#positions, TAIL);
    return used < 0 ? used + this.#capacity : used;
  }

  /** Whether more than half of it is taken. */
  get isHalfFull(): boolean {
    return this.used > this.#capacity / 2;
  }

  /** Finds a place for a record; its offset in {@link bytes}, or -1 where there is no room. */
  reserve(length: number): number {
    const need = aligned(LENGTH_BYTES + length);
    const head = Atomics.load(this.#positions, HEAD);
    const tail = Atomics.load(this.#positions, TAIL);
    let at = head;
    if (head < tail) {
      if (head + need >= tail) return -1;
    } else {
      const fitsHere = head + need < this.#capacity || (head + need === this.#capacity && tail > 0);
      const fitsInFront = need < tail;
      const mayTurn = head === tail && head > this.#turnsPast;
      if (fitsInFront && (!fitsHere || mayTurn)) {
        this.bytes.writeUInt32LE(TURN, head);
        at = 0;
      } else if (!fitsHere) {
        return -1;
      }
    }
    this.bytes.writeUInt32LE(length, at);
    this.#reservedAt = at;
    this.#reservedBytes = need;
    return at + LENGTH_BYTES;
  }

  /** Shows the reserved record to the reader. */
  commit(): void {
    const end = this.#reservedAt + this.#reservedBytes;
    Atomics.store(this.#positions, HEAD, end === this.#capacity ? 0 : end);
  }

  /** The oldest record, valid until {@link release}. */
  peek(): Buffer | undefined {
    const head = Atomics.load(this.#positions, HEAD);
    let tail = Atomics.load(this.#positions, TAIL);
    if (head === tail) return undefined;
    if (this.bytes.readUInt32LE(tail) === TURN) {
      tail = 0;
      Atomics.store(this.#positions, TAIL, tail);
    }
    const length = this.bytes.readUInt32LE(tail);
    return this.bytes.subarray(tail + LENGTH_BYTES, tail + LENGTH_BYTES + length);
  }

  /** Forgets the oldest record. */
  release(): void {
    const tail = Atomics.load(this.#positions, TAIL);
    const end = tail + aligned(LENGTH_BYTES + this.bytes.readUInt32LE(tail));
    Atomics.store(this.#positions, TAIL, end === this.#capacity ? 0 : end);
  }
}
