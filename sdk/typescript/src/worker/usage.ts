/** What this process uses of its machine. */

/** A share over less is mostly chance. */
const SHARE_OVER_AT_LEAST_MS = 250;

/** How much of a core was used lately. */
export class CpuShare {
  #us: number;
  #atMs: number;
  #share = 0;

  constructor(us: number, atMs: number) {
    [this.#us, this.#atMs] = [us, atMs];
  }

  /**
   * The share since it was last told, 1 being a whole core. Too soon after that it is the last one
   * again: a few milliseconds of an ending say nothing of a service.
   */
  next(us: number, atMs: number): number {
    const overMs = atMs - this.#atMs;
    if (overMs >= SHARE_OVER_AT_LEAST_MS) {
      this.#share = (us - this.#us) / 1000 / overMs;
      [this.#us, this.#atMs] = [us, atMs];
    }
    return this.#share;
  }
}

/** Microseconds of processor time this process has used. */
export function cpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}
