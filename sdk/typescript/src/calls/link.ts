/**
 * Requests and their answers over one connection, and the routes that callers follow.
 *
 * Answers come to one inbox and are told apart by its last word. Start at {@link Link.request}.
 */

import type { Msg } from "@nats-io/transport-node";

import { Away, Bus, type HeaderPairs } from "../bus/bus.js";
import type { Settings } from "../options.js";
import { ROUTES, ROUTES_GET } from "../subject.js";
import { within } from "../within.js";
import { readRoutes, type Route, type Routes } from "./route.js";

/** The routes are awaited this long before the first call; without them calls go to any version. */
const ROUTES_WITHIN_MS = 500;
/** An answer at the deadline is on its way for so long at most, also on a busy machine. */
const ANSWERED_WITHIN_MS = 1_000;
/** After a bus came back, services may take this long to listen again: some tries to connect. */
const SETTLES_WITHIN_MS = 1_500;

/** Why a request got no answer. */
export type LinkFailure =
  /** The bus was away for all of the time. */
  | "not-sent"
  /** Nobody listens there. */
  | "no-responders"
  /** It was sent, and no answer came in time. */
  | "late"
  /** It was sent, and the connection broke. */
  | "broken";

/** A request that got no answer. */
export class LinkError extends Error {
  override readonly name = "LinkError";
  readonly failure: LinkFailure;
  /** Where the answer of a late one may still come. */
  readonly token: string | undefined;

  constructor(failure: LinkFailure, token?: string) {
    super(failure);
    this.failure = failure;
    this.token = token;
  }
}

/** A request before it is sent. */
export interface Letter {
  readonly subject: string;
  readonly payload: Uint8Array | string;
  readonly headers: HeaderPairs;
  readonly withinMs: number;
  /** Whether a connection that breaks ends the waiting; else the answer may still come over the next one. */
  readonly givesUpWhenBroken: boolean;
}

interface Waiting {
  readonly givesUpWhenBroken: boolean;
  readonly answer: (message: Msg) => void;
  readonly fail: (error: LinkError) => void;
}

/** See the module. */
export class Link {
  readonly bus: Bus;
  readonly #inbox: string;
  readonly #waiting = new Map<string, Waiting>();
  /** What is to be told of calls that nobody answered: as many as ended within the last moment. */
  readonly #unanswered = new Map<string, () => void>();
  readonly #listening = new Map<string, (message: Msg | undefined) => void>();
  readonly #warn: (text: string) => void;
  #next = 0;
  #connection = 0;
  #routes: Routes = { revision: -1, services: {} };
  #tellRoutes = () => {};
  #routesKnown: Promise<void> | undefined = new Promise((tell) => (this.#tellRoutes = tell));

  constructor(settings: Settings, warn: (text: string) => void) {
    this.#warn = warn;
    this.bus = new Bus(settings.address, settings.instance, () => this.#changed(), warn);
    this.#inbox = this.bus.newInbox();
    this.bus.subscribe(`${this.#inbox}.*`, (message) => this.#take(message));
    this.bus.subscribe(ROUTES, (message) => this.#takeRoutes(message));
    this.bus.start();
  }

  /** Ends the connection; who waits for an answer is told. */
  async close(): Promise<void> {
    for (const token of [...this.#waiting.keys()]) this.#break(token);
    await this.bus.close();
  }

  /** The answer to a message; rejects with {@link LinkError}, or `TooLarge`. */
  async request({ subject, payload, headers, withinMs, givesUpWhenBroken }: Letter): Promise<Msg> {
    const untilMs = performance.now() + withinMs;
    if (!this.bus.isConnected && !(await this.#connectedWithin(withinMs))) throw new LinkError("not-sent");
    const { token, answer } = this.expect(givesUpWhenBroken);
    let timer: NodeJS.Timeout | undefined;
    try {
      this.bus.publish(subject, payload, { reply: this.inbox(token), headers });
      const late = new Promise<never>((_, fail) => {
        timer = setTimeout(() => fail(new LinkError("late", token)), Math.max(0, untilMs - performance.now()));
      });
      const message = await Promise.race([answer, late]);
      if (isUnheard(message)) throw new LinkError("no-responders");
      return message;
    } catch (error) {
      throw error instanceof Away ? new LinkError("not-sent") : error;
    } finally {
      clearTimeout(timer);
      this.forget(token);
    }
  }

  /**
   * Calls this a moment later, unless an answer still comes: whoever takes a call tells it, and answers no later
   * than at its deadline.
   */
  tellUnlessAnswered(token: string, tell: () => void): void {
    this.#unanswered.set(token, tell);
    setTimeout(() => this.#tellUnanswered(token), ANSWERED_WITHIN_MS).unref();
  }

  #tellUnanswered(token: string): void {
    const tell = this.#unanswered.get(token);
    this.#unanswered.delete(token);
    tell?.();
  }

  /** Tells of the calls that nobody answered so far: the process ends. */
  tellNow(): void {
    for (const token of [...this.#unanswered.keys()]) this.#tellUnanswered(token);
  }

  /** A new word of the inbox, and what comes to it; forgotten by {@link forget}. */
  expect(givesUpWhenBroken: boolean): { token: string; answer: Promise<Msg> } {
    const token = this.#newToken();
    const answer = new Promise<Msg>((tell, fail) => this.#waiting.set(token, { givesUpWhenBroken, answer: tell, fail }));
    // Whoever does not await it any more need not hear that the connection broke.
    answer.catch(() => {});
    return { token, answer };
  }

  /**
   * A new word of the inbox; calls with each message there until {@link forget}, and with `undefined` when the
   * connection breaks.
   */
  listen(hear: (message: Msg | undefined) => void): string {
    const token = this.#newToken();
    this.#listening.set(token, hear);
    return token;
  }

  #newToken(): string {
    return (++this.#next).toString(36);
  }

  /** Nothing more is expected there. */
  forget(token: string): void {
    this.#listening.delete(token);
    this.#waiting.delete(token);
  }

  /** The subject of a word. */
  inbox(token: string): string {
    return `${this.#inbox}.${token}`;
  }

  /** Waits, not long, until somebody has told routes. */
  async routesKnown(): Promise<void> {
    if (!this.#routesKnown) return;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((tell) => (timer = setTimeout(tell, ROUTES_WITHIN_MS)));
    await Promise.race([this.#routesKnown, late]);
    clearTimeout(timer);
    this.#routesKnown = undefined;
  }

  /** The route of a service as known now; `undefined` where nobody tells any. */
  route(service: string): Route | undefined {
    return Object.hasOwn(this.#routes.services, service) ? this.#routes.services[service] : undefined;
  }

  /** Of the routes known now; -1 before the first. */
  get revision(): number {
    return this.#routes.revision;
  }

  async #connectedWithin(ms: number): Promise<boolean> {
    return await within(this.bus.connected(), ms);
  }

  #take(message: Msg): void {
    const token = message.subject.slice(message.subject.lastIndexOf(".") + 1);
    this.#listening.get(token)?.(message);
    this.#unanswered.delete(token);
    const waiting = this.#waiting.get(token);
    this.#waiting.delete(token);
    waiting?.answer(message);
  }

  #changed(): void {
    if (!this.bus.isConnected) {
      for (const [token, { givesUpWhenBroken }] of [...this.#waiting]) if (givesUpWhenBroken) this.#break(token);
      for (const hear of [...this.#listening.values()]) hear(undefined);
    } else if (this.bus.connection !== this.#connection) {
      this.#connection = this.bus.connection;
      // A bus that was made anew begins at revision one.
      void this.askRoutes(true);
    }
  }

  #break(token: string): void {
    this.#waiting.get(token)?.fail(new LinkError("broken"));
    this.#waiting.delete(token);
  }

  /** Asks for the routes; those of a bus that `isNew` are taken whatever their revision. */
  async askRoutes(isNew = false): Promise<void> {
    const letter = { subject: ROUTES_GET, payload: "", headers: [], withinMs: ROUTES_WITHIN_MS, givesUpWhenBroken: true };
    try {
      this.#takeRoutes(await this.request(letter), isNew);
    } catch {
      // Nobody tells any: calls go to any version until somebody does.
      this.#tellRoutes();
    }
  }

  /** Whether the bus just came back, so that who serves may still be on the way. */
  get isSettling(): boolean {
    const { foundAgainMs } = this.bus;
    return foundAgainMs !== undefined && performance.now() - foundAgainMs < SETTLES_WITHIN_MS;
  }

  #takeRoutes(message: Msg, isNew = false): void {
    try {
      const told = readRoutes(message.string());
      if (isNew || told.revision > this.#routes.revision) this.#routes = told;
    } catch (error) {
      this.#warn(`the routes on ${message.subject} cannot be read: ${String(error)}`);
    }
    this.#tellRoutes();
  }
}

/** The server's own answer where nobody listens. */
function isUnheard(message: Msg): boolean {
  return message.data.length === 0 && message.headers?.code === 503;
}
