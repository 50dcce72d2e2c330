/**
 * ULIDs as 16 bytes, each greater than the one before, also when the clock stands still or goes back.
 *
 * A new millisecond starts from random bits; within it they count up. The highest of the lowest 24
 * bits starts at 0, so that counting up has room.
 */

import { randomFillSync } from "node:crypto";

const TIME_BYTES = 6;
const BYTES = 16;
/** Random bytes are fetched for this many at a time, since each fetch costs a microsecond. */
const POOL_IDS = 256;
const RANDOM_BYTES = BYTES - TIME_BYTES;

/** Makes ULIDs. */
export class Ulids {
  readonly #last = Buffer.alloc(BYTES);
  readonly #pool = Buffer.alloc(POOL_IDS * RANDOM_BYTES);
  #poolAt = this.#pool.length;
  #lastMs = -1;

  /** Writes the next one to `to` at `at`. */
  write(nowUs: number, to: Buffer, at: number): void {
    const ms = Math.floor(nowUs / 1000);
    if (ms <= this.#lastMs) this.#increment();
    else this.#renew(ms);
    to.set(this.#last, at);
  }

  #renew(ms: number): void {
    if (this.#poolAt === this.#pool.length) {
      randomFillSync(this.#pool);
      this.#poolAt = 0;
    }
    this.#lastMs = ms;
    this.#last.writeUIntBE(ms, 0, TIME_BYTES);
    this.#pool.copy(this.#last, TIME_BYTES, this.#poolAt, this.#poolAt + RANDOM_BYTES);
    this.#last[13] = (this.#last[13] ?? 0) & 0x7f;
    this.#poolAt += RANDOM_BYTES;
  }

  #increment(): void {
    for (let at = BYTES - 1; at >= 0; at--) {
      const next = ((this.#last[at] ?? 0) + 1) & 0xff;
      this.#last[at] = next;
      if (next !== 0) return;
    }
  }
}
