/**
 * What the bus has against us, told once. A bus that reads its configuration anew turns away who is just
 * saying who it is, and takes it a moment later: that is not told. Pure.
 */

/** Who is turned away for longer is not so because the configuration is being read. */
const READS_WITHIN_MS = 1_000;
const TURNED_AWAY = /authorization violation/i;

/** See the module. */
export class Trouble {
  #said = "";
  /** Since when the bus turns us away. */
  #sinceMs: number | undefined;

  /** Whether what the bus says is to be told. */
  isNews(said: string, nowMs: number): boolean {
    if (TURNED_AWAY.test(said)) {
      this.#sinceMs ??= nowMs;
      if (nowMs - this.#sinceMs < READS_WITHIN_MS) return false;
    }
    const isNew = said !== this.#said;
    this.#said = said;
    return isNew;
  }

  /** The bus takes us. */
  end(): void {
    this.#said = "";
    this.#sinceMs = undefined;
  }
}
