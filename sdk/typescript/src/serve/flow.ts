/**
 * How far an answer of many messages may be ahead of whoever reads it.
 *
 * Each message but the last names a word of our inbox. There the reader says how many it took, and we send no
 * more than its window ahead; anything else said there, or that nobody listens, means that nobody reads any
 * more. A reader that says no window is not waited for.
 */

import type { Msg } from "@nats-io/transport-node";

import { header } from "../bus/bus.js";
import { Header, wholeNumber } from "../calls/headers.js";
import type { Link } from "../calls/link.js";

/** A reader that takes nothing for so long holds a place in vain. */
const STALLED_AFTER_MS = 30_000;

/** See the module; {@link end} is to be called. */
export class Flow {
  readonly #link: Link;
  readonly #window: number;
  readonly #token: string;
  #sent = 0;
  #taken = 0;
  #isLeft = false;
  #tell = () => {};

  constructor(link: Link, window: string | undefined) {
    this.#link = link;
    this.#window = wholeNumber(window);
    this.#token = link.listen((said) => this.#hear(said));
  }

  /** What a message names. */
  get subject(): string {
    return this.#link.inbox(this.#token);
  }

  /** Whether nobody reads any more. */
  get isLeft(): boolean {
    return this.#isLeft;
  }

  /** Waits until one message more may be sent; `false` where nobody reads any more. */
  async maySend(): Promise<boolean> {
    while (!this.#isLeft && this.#window > 0 && this.#sent >= this.#taken + this.#window) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((tell) => {
        this.#tell = tell;
        timer = setTimeout(() => this.#leave(), STALLED_AFTER_MS);
      });
      clearTimeout(timer);
    }
    this.#sent += 1;
    return !this.#isLeft;
  }

  /** What comes of some work; `undefined` as soon as nobody reads any more. */
  async unlessLeft<T>(work: Promise<T>): Promise<T | undefined> {
    return await new Promise((tell, fail) => {
      this.#tell = () => this.#isLeft && tell(undefined);
      this.#tell();
      work.then(tell, fail);
    });
  }

  /** Nothing more is sent. */
  end(): void {
    this.#link.forget(this.#token);
  }

  #hear(said: Msg | undefined): void {
    const taken = said && header(said, Header.webTaken);
    if (taken === undefined) this.#leave();
    else this.#taken = Math.max(this.#taken, wholeNumber(taken));
    this.#tell();
  }

  #leave(): void {
    this.#isLeft = true;
    this.#tell();
  }
}
