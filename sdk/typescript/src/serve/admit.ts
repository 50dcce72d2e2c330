/** How many calls an instance takes at a time, and how many wait; all others are refused at once. */

/** A bounded number of places, and a bounded line before them. */
export class Admission {
  #free: number;
  readonly #waitingMax: number;
  readonly #line = new Set<(isIn: boolean) => void>();

  constructor(places: number, waitingMax: number) {
    this.#free = places;
    this.#waitingMax = waitingMax;
  }

  /** Whether one more is taken, at once or after a wait. */
  get hasRoom(): boolean {
    return this.#free > 0 || this.#line.size < this.#waitingMax;
  }

  /** Takes a place, first come first served; `false` where none was free in time. Leave it with {@link leave}. */
  async enter(withinMs: number | undefined): Promise<boolean> {
    if (withinMs !== undefined && withinMs <= 0) return false;
    if (this.#free > 0) {
      this.#free -= 1;
      return true;
    }
    let timer: NodeJS.Timeout | undefined;
    const isIn = await new Promise<boolean>((tell) => {
      this.#line.add(tell);
      if (withinMs === undefined) return;
      timer = setTimeout(() => {
        this.#line.delete(tell);
        tell(false);
      }, withinMs);
    });
    clearTimeout(timer);
    return isIn;
  }

  /** Gives the place to the next in line. */
  leave(): void {
    const [next] = this.#line;
    if (next) {
      this.#line.delete(next);
      next(true);
    } else {
      this.#free += 1;
    }
  }
}
