// Keeps one Server-Sent Events connection alive: opens, watches, and opens again with a back-off.
//
// The browser's own retry gives up on an error status and never notices a silent line, so each
// loss closes the source and a timer opens a fresh one after asking `probe` whether it makes sense.
// It never holds data; it only says `open`, `down` and hands messages on. Start at `Live`.
import { parseExact } from './json';

export type LiveStatus = 'connecting' | 'open' | 'down' | 'closed';

export interface Source {
  addEventListener(type: string, listener: (event: MessageEvent<string>) => void): void;
  close(): void;
  onopen: ((event: Event) => void) | null;
  onerror: ((event: Event) => void) | null;
}

export interface LiveOptions {
  address: () => string;
  events: string[];
  onMessage: (event: string, data: unknown) => void;
  onStatus: (status: LiveStatus) => void;
  /** Resolves when a new connection is worth trying; rejects while the server is away. */
  probe: () => Promise<unknown>;
  open?: (address: string) => Source;
  random?: () => number;
}

const FIRST_DELAY_MS = 500;
// Ten seconds is the longest that a recovered server goes unnoticed.
const LONGEST_DELAY_MS = 10_000;
// The server ticks every few seconds; silence for this long means that the line is dead.
export const SILENCE_MS = 25_000;

/** Doubles from half a second to ten, each shortened by up to 30 % so that pages do not return in step. */
export function backoffMs(attempt: number, random: () => number): number {
  const full = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.max(0, attempt));
  return Math.round(full * (1 - 0.3 * random()));
}

export class Live {
  #status: LiveStatus = 'closed';
  #source: Source | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  #generation = 0;
  readonly #options: LiveOptions;

  constructor(options: LiveOptions) {
    this.#options = options;
  }

  get status(): LiveStatus {
    return this.#status;
  }

  /** Connects, or connects anew (for instance to a new address). */
  start(): void {
    this.#drop();
    this.#attempt = 0;
    this.#connect(true);
  }

  /** Tries at once when a retry is waiting: the network came back or the page is looked at again. */
  nudge(): void {
    if (this.#status !== 'down') return;
    this.#drop();
    void this.#tryAgain();
  }

  stop(): void {
    this.#drop();
    this.#set('closed');
  }

  #connect(isFirst: boolean): void {
    const generation = ++this.#generation;
    if (isFirst) this.#set('connecting');
    const open = this.#options.open ?? ((address: string): Source => new EventSource(address));
    const source = open(this.#options.address());
    this.#source = source;
    const isCurrent = (): boolean => generation === this.#generation;
    source.onopen = () => {
      if (!isCurrent()) return;
      this.#attempt = 0;
      this.#heard();
      this.#set('open');
    };
    source.onerror = () => {
      if (isCurrent()) this.#lost();
    };
    for (const event of this.#options.events) {
      source.addEventListener(event, (message) => {
        if (!isCurrent()) return;
        this.#heard();
        this.#options.onMessage(event, parseExact(message.data));
      });
    }
  }

  #lost(): void {
    this.#drop();
    this.#set('down');
    const delay = backoffMs(this.#attempt, this.#options.random ?? Math.random);
    this.#attempt += 1;
    this.#retry = setTimeout(() => void this.#tryAgain(), delay);
  }

  async #tryAgain(): Promise<void> {
    const generation = ++this.#generation;
    const isWorthIt = await this.#options.probe().then(
      () => true,
      () => false,
    );
    if (generation !== this.#generation) return;
    if (isWorthIt) this.#connect(false);
    else this.#lost();
  }

  #heard(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#lost(), SILENCE_MS);
  }

  #drop(): void {
    this.#generation += 1;
    clearTimeout(this.#retry);
    clearTimeout(this.#silence);
    this.#source?.close();
    this.#source = undefined;
  }

  #set(status: LiveStatus): void {
    if (status === this.#status) return;
    this.#status = status;
    this.#options.onStatus(status);
  }
}
