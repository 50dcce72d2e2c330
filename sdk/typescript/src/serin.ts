/**
 * The handle a service holds: {@link Serin}, and {@link Service} for one that serves.
 *
 * A service connects as the environment says when it first needs to. Start at {@link connect} and
 * {@link service}.
 */

import { call, type CallOptions, type Reply } from "./calls/call.js";
import { runChain, type Chain, type ChainOptions, type Enhanced } from "./calls/chain.js";
import { WEB_ENDPOINT } from "./calls/headers.js";
import type { Data } from "./calls/packet.js";
import { Context } from "./context.js";
import { Core, type Counts, type Outlet } from "./core.js";
import type { EventType } from "./event.js";
import { Logger } from "./log.js";
import type { State } from "./memory/shared.js";
import { checkName } from "./name.js";
import { fromEnvironment, resolve, type Options } from "./options.js";
import { Endpoint, type EndpointOptions, type Handler } from "./serve/endpoint.js";
import { Periodic, type Task } from "./serve/periodic.js";
import { Server } from "./serve/server.js";
import { Router, type WebHandler } from "./serve/web.js";
import type { Attributes, Span } from "./span.js";
import { within } from "./within.js";

/** Calls handled at a time, and waiting ones, unless said otherwise: a caller's patience is seconds. */
const CONCURRENCY = 64;
const WAITING_MAX = 256;
/** How long a service that is told to end may take for its calls, and then for its events. */
const STOP_WITHIN_MS = 10_000;
const SIGNALS = { SIGTERM: 143, SIGINT: 130 } as const;

/** The connection of a service to Serin. Made by {@link connect}; events wait until the bus is reached. */
export class Serin {
  readonly #connect: () => Core;
  #core: Core | undefined;
  #recorder: Outlet | undefined;

  /** @internal */
  constructor(connect: () => Core) {
    this.#connect = connect;
  }

  /** @internal The connection, made at the first need of it. */
  get core(): Core {
    this.#core ??= this.#connect();
    return this.#core;
  }

  /** @internal Where what is emitted and told goes. */
  get outlet(): Outlet {
    return this.#recorder ?? this.core;
  }

  /** @internal Has what is emitted and told go elsewhere, for tests; `undefined` ends it. */
  recordTo(recorder: Outlet | undefined): void {
    this.#recorder = recorder;
  }

  /**
   * Emits an event. Never waits and never throws; what cannot be taken is counted and told with the
   * beats.
   *
   * @example
   * serin.emit("order.paid", { amount: 19.9, currency: "EUR" });
   */
  emit<T extends object>(type: EventType<T>, data: NoInfer<T>): void;
  emit(type: string, data?: object): void;
  emit(type: string | EventType<object>, data: object = {}): void {
    this.outlet.emit(typeof type === "string" ? type : type.type, data);
  }

  /** Has a value sampled with each beat. The function must be quick. */
  gauge(name: string, sample: () => number): this {
    if (!this.#recorder) this.core.gauge(name, sample);
    return this;
  }

  /** A logger whose lines are told on `tel.log`, each with its trace. */
  logger(source?: string): Logger {
    return new Logger(() => this.outlet, source);
  }

  /** Calls an endpoint and resolves with what it answered; rejects with `CallError`. */
  async call<T = unknown>(service: string, endpoint: string, data?: unknown, options?: CallOptions): Promise<T> {
    return (await this.callReply<T>(service, endpoint, data, options)).data;
  }

  /** The same with who answered, and where the time went. */
  async callReply<T = unknown>(service: string, endpoint: string, data?: unknown, options?: CallOptions): Promise<Reply<T>> {
    return await call<T>(this.core, service, endpoint, data, options);
  }

  /** Has services enhance the data, stage by stage; rejects with `ChainError`. */
  async chain<T = Data>(chain: Chain, data: object, options: ChainOptions = {}): Promise<Enhanced<T>> {
    return (await runChain(this.core, chain, data as Data, options)) as Enhanced<T>;
  }

  /** Runs a piece of work as a span of the trace under way; what is emitted in it belongs to it. */
  async span<R>(name: string, work: (span: Span) => R | Promise<R>, attributes: Attributes = {}): Promise<R> {
    const around = Context.current();
    const { outlet } = this;
    const span = outlet.beginSpan(name, around.trace, { ...attributes });
    try {
      return await span.context(around).run(() => work(span));
    } catch (error) {
      span.fail(error);
      throw error;
    } finally {
      outlet.endSpan(span);
    }
  }

  /** Counts a piece of work as a request, in the beats; an error counts as its failure. */
  async request<R>(work: () => R | Promise<R>): Promise<R> {
    const { shared } = this.core;
    const startedMs = performance.now();
    let hasFailed = true;
    shared.startRequest();
    try {
      const result = await work();
      hasFailed = false;
      return result;
    } finally {
      shared.finishRequest((performance.now() - startedMs) * 1000, hasFailed);
    }
  }

  /** Says at once whether the instance takes work. */
  setState(state: State): void {
    this.outlet.setState(state);
  }

  /** Events emitted, acknowledged, and dropped by reason. */
  counts(): Counts {
    return this.core.counts();
  }

  /** Waits until everything emitted before is on the bus's disk; whether it is. */
  async flush(options: { timeoutMs?: number } = {}): Promise<boolean> {
    return await this.core.flush(options.timeoutMs);
  }

  /**
   * Takes no more events, and waits until all are acknowledged; whether they were. What is left rests
   * in the spill folder for the next run. The end of the process does it by itself.
   */
  async drain(options: { deadlineMs?: number } = {}): Promise<boolean> {
    return await this.core.drain(options.deadlineMs ?? this.core.settings.drainDeadlineMs);
  }

  /** Drains: `await using serin = connect()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.drain();
  }

  /** The service that is served over this connection. */
  service(options: ServiceOptions = {}): Service {
    return new Service(() => this.core, options);
  }
}

/** How a service serves. */
export interface ServiceOptions {
  /** Calls handled at a time; 64 unless said otherwise. */
  concurrency?: number;
  /** Calls that wait for their turn; 256 unless said otherwise. Others are refused at once. */
  waitingMax?: number;
  /** Told by the micro protocol. */
  description?: string;
}

/** A service that serves; made by {@link service}. */
export class Service extends Serin {
  readonly #options: ServiceOptions;
  readonly #endpoints = new Map<string, Endpoint>();
  readonly #router = new Router();
  readonly #periodic: Periodic[] = [];
  #server: Server | undefined;

  /** @internal */
  constructor(connect: () => Core, options: ServiceOptions) {
    super(connect);
    this.#options = options;
  }

  /**
   * Serves a handler under a name. It gets the body of the call and answers with what it returns; it
   * throws `CallError` to answer with a code of its own.
   */
  endpoint<T = unknown, R = unknown>(name: string, handler: Handler<T, R>, options: EndpointOptions<T> = {}): this {
    const wrong = checkName("endpoint", name);
    if (wrong) throw new TypeError(wrong);
    if (this.#endpoints.has(name)) throw new TypeError(`two handlers serve the endpoint "${name}"; name one of them otherwise`);
    this.#endpoints.set(name, new Endpoint(name, handler as Handler<unknown, unknown>, options as EndpointOptions<unknown>));
    return this;
  }

  /** Serves web requests: all of them, or those of a pattern, `web("GET /items/{id}", handler)`. */
  web(handler: WebHandler): this;
  web(pattern: string, handler: WebHandler): this;
  web(first: string | WebHandler, second?: WebHandler): this {
    if (typeof first === "function") this.#router.add(undefined, first);
    else if (second) this.#router.add(first, second);
    if (!this.#endpoints.has(WEB_ENDPOINT)) this.endpoint(WEB_ENDPOINT, () => undefined);
    return this;
  }

  /**
   * Runs a function again and again while the service serves, for the first time after one period. A run that takes
   * long makes the next one late; what one throws is told.
   */
  every(ms: number, task: Task): this {
    if (!(ms > 0)) throw new RangeError(`a task cannot run every ${ms} ms; it must be more than 0`);
    this.#periodic.push(new Periodic(ms, task, (text) => this.core.warn(text)));
    return this;
  }

  /** Serves from now on; resolves once the bus knows it. */
  async start(): Promise<void> {
    const { concurrency = CONCURRENCY, waitingMax = WAITING_MAX, description = "" } = this.#options;
    this.core.setState("starting");
    this.#server = new Server(this.core, {
      endpoints: [...this.#endpoints.values()],
      router: this.#router,
      concurrency,
      waitingMax,
      description,
    });
    await this.#server.start();
    this.core.setState("ready");
    for (const one of this.#periodic) one.start();
  }

  /** Drains calls and tasks, then events; whether all were done in time. */
  async stop(options: { deadlineMs?: number } = {}): Promise<boolean> {
    const { deadlineMs = STOP_WITHIN_MS } = options;
    this.core.setState("draining");
    const ending = Promise.all(this.#periodic.map((one) => one.end()));
    const [areAnswered = true, areEnded] = await Promise.all([
      this.#server?.drain(deadlineMs),
      within(ending, deadlineMs),
    ]);
    return (await this.core.drain(deadlineMs)) && areAnswered && areEnded;
  }

  /** Serves until SIGTERM or SIGINT, then drains within the deadline and ends the process with 143 or 130. */
  run(options: { deadlineMs?: number } = {}): void {
    let isEnding = false;
    const end = async (signal: keyof typeof SIGNALS) => {
      if (isEnding) return;
      isEnding = true;
      if (!(await this.stop(options))) this.core.warn("ended with work undone, since the time to drain was over");
      process.exit(SIGNALS[signal]);
    };
    for (const signal of Object.keys(SIGNALS) as (keyof typeof SIGNALS)[]) process.on(signal, () => void end(signal));
    void this.start();
  }
}

/** Connects as the environment says, or as the options do. Returns at once. */
export function connect(options?: Options): Serin {
  const core = new Core(resolve(options ?? fromEnvironment(process.env)), "ready");
  return new Serin(() => core);
}

/**
 * A service, connected as the environment says when it is first needed. The name is for runs without
 * `SERIN_SERVICE`.
 *
 * @example
 * const app = service("hello");
 * app.web((request) => `Hello, ${request.query.name ?? "world"}!`);
 * app.run();
 */
export function service(name?: string, options: ServiceOptions = {}): Service {
  return new Service(() => new Core(resolve(fromEnvironment(process.env, name)), "starting"), options);
}
