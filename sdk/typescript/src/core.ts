/**
 * What the handles of one instance share: memory, the worker, gauges, the link for calls.
 *
 * `emit` and all that is told write into shared memory and never wait; the worker thread takes it from
 * there. The end of the process drains. Start at {@link Core}.
 */

import { randomBytes } from "node:crypto";
import { Worker } from "node:worker_threads";

import { Link } from "./calls/link.js";
import { Context } from "./context.js";
import type { Reason } from "./dropped.js";
import { nowUs } from "./memory/clock.js";
import { writeEvent } from "./memory/record.js";
import { monotonicMs, Shared, type State } from "./memory/shared.js";
import { Ulids } from "./memory/ulid.js";
import { checkType } from "./name.js";
import type { Settings } from "./options.js";
import { Sampler } from "./sample.js";
import { Span, type Attributes, type Moment } from "./span.js";
import type { Sender } from "./subject.js";
import { TICK_MS } from "./tick.js";
import { childOf, type Trace } from "./trace.js";
import { LINE_KINDS, type LineKind } from "./worker/lines.js";
import type { FromWorker, ToWorker, WorkerData } from "./worker/messages.js";

/** Largest event: with the head of a batch well below NATS's default of 1 MiB per message. */
const EVENT_BYTES_MAX = 512 << 10;
/** Gauges are sampled this often, as often as beats are told. */
const GAUGES_EVERY_MS = 1_000;
/** The end waits this much longer than its deadline for the last beat. */
const LAST_BEAT_WITHIN_MS = 2_000;
/** Types that were checked; a service has some dozens. */
const TYPES_MAX = 1_024;
/** Largest line of telemetry; a larger one is counted as if there were no room. */
const LINE_BYTES_MAX = 64 << 10;
const FULL: Record<LineKind, Reason> = { span: "span-full", log: "log-full", req: "request-full" };

/** What became of the events so far; counted in 32 bits. */
export interface Counts {
  readonly emitted: number;
  readonly acknowledged: number;
  /** By reason. */
  readonly dropped: Readonly<Record<string, number>>;
}

/** What handles and handlers need; {@link Core} over the bus, or a recorder in tests. */
export interface Outlet {
  readonly who: Sender;
  emit(type: string, data: unknown): void;
  tell(kind: LineKind, line: object): void;
  /** Begins a span under another or at the root of a trace, now unless said otherwise. */
  beginSpan(name: string, above: Trace | undefined, attributes?: Attributes, began?: Moment): Span;
  /** Ends a span and tells it, where it is one that is kept. */
  endSpan(span: Span): void;
  setState(state: State): void;
}

/** See the module. Begins at once: events wait in memory until the bus is reached. */
export class Core implements Outlet {
  readonly settings: Settings;
  readonly who: Sender;
  readonly shared: Shared;
  readonly #ulids = new Ulids();
  readonly #sampler = new Sampler(performance.now());
  readonly #worker: Worker;
  readonly #gauges = new Map<string, () => number>();
  readonly #types = new Set<string>();
  readonly #flushes = new Map<number, (isDone: boolean) => void>();
  readonly #ended: Promise<boolean>;
  readonly #timers: NodeJS.Timeout[];
  #link: Link | undefined;
  #nextFlush = 1;
  #holds = 0;
  #isClosed = false;

  constructor(settings: Settings, state: State) {
    this.settings = settings;
    this.who = { service: settings.service, version: settings.version, instance: settings.instance };
    const memory = Shared.memory(settings.queueBytesMax + EVENT_BYTES_MAX);
    this.shared = new Shared(memory);
    this.shared.state = state;
    this.shared.tick(monotonicMs(), 0);
    const producer = `${settings.service}-${randomBytes(16).toString("hex")}`;
    const workerData: WorkerData = { settings, memory, producer, startedUs: nowUs() };
    // Without the flags of this process: the worker is plain JavaScript.
    this.#worker = new Worker(new URL("./worker/main.js", import.meta.url), { workerData, execArgv: [] });
    this.#ended = new Promise((tell) => {
      this.#worker.on("message", (message: FromWorker) => this.#hear(message, tell));
      this.#worker.on("error", (error) => this.warn(`the sending thread failed: ${String(error)}`));
      this.#worker.on("exit", () => {
        // One that failed said nothing, and nobody is to wait for it.
        if (this.shared.outcome === "running") this.shared.outcome = "left";
        tell(this.shared.outcome === "done");
      });
    });
    // After the listeners, which hold the process as well.
    this.#worker.unref();
    void this.#ended.then(() => this.#end());
    this.#timers = [setInterval(() => this.#sampleGauges(), GAUGES_EVERY_MS), this.#startTicks()];
    for (const timer of this.#timers) timer.unref();
    process.on("exit", this.#drainAtExit);
  }

  // -- What a service says ------------------------------------------------------------------------

  emit(type: string, data: unknown): void {
    const reason = this.#push(type, data);
    if (reason && this.shared.drop(reason)) {
      this.warn(`dropped an event of type ${JSON.stringify(String(type).slice(0, 64))}: ${reason}; further ones are counted`);
    }
  }

  #push(type: string, data: unknown): Reason | undefined {
    if (this.#isClosed) return "drained";
    if (!this.#types.has(type)) {
      if (typeof type !== "string" || checkType(type) !== undefined) return "bad-type";
      if (this.#types.size < TYPES_MAX) this.#types.add(type);
    }
    let text: string | undefined;
    try {
      text = JSON.stringify(data);
    } catch {
      return "not-json";
    }
    if (text === undefined || text.charCodeAt(0) !== OPEN_BRACE) return "not-an-object";
    const dataBytes = Buffer.byteLength(text);
    if (dataBytes > EVENT_BYTES_MAX) return "too-large";
    const { trace, arm } = Context.current();
    if (writeEvent(this.shared, this.#ulids, { type, data: text, dataBytes, trace, arm }, nowUs)) return undefined;
    return this.shared.isSpillFull ? "spill-full" : "queue-full";
  }

  /** Tells a line of telemetry, or counts it as dropped. */
  tell(kind: LineKind, line: object): void {
    const text = jsonOf(line);
    const bytes = Buffer.byteLength(text);
    const ring = this.shared.telemetry;
    const at = this.#isClosed || bytes === 0 || bytes > LINE_BYTES_MAX ? -1 : ring.reserve(1 + bytes);
    if (at < 0) {
      this.shared.drop(FULL[kind]);
      return;
    }
    ring.bytes[at] = LINE_KINDS.indexOf(kind);
    ring.bytes.write(text, at + 1, bytes, "utf8");
    ring.commit();
  }

  beginSpan(name: string, above: Trace | undefined, attributes: Attributes = {}, began = momentNow()): Span {
    const trace = childOf(above, (traceId) => this.#sampler.takes(traceId));
    return new Span(name, trace, above, began, attributes);
  }

  endSpan(span: Span): void {
    const { traceId, flags } = span.trace;
    const offer = { traceId, flags, name: span.name, durationUs: span.durationUs(), hasFailed: span.hasFailed };
    if (this.#sampler.keeps(offer, performance.now())) this.tell("span", span.line(this.who));
    else this.shared.drop("span-sampled");
  }

  /** Has a value sampled with each beat. */
  gauge(name: string, sample: () => number): void {
    this.#gauges.set(name, sample);
    this.#sampleGauges();
  }

  /** Says with a beat, at once, whether the instance takes work. */
  setState(state: State): void {
    this.shared.state = state;
    this.#post({ kind: "state" });
  }

  counts(): Counts {
    const { emitted, acknowledged } = this.shared;
    return { emitted: emitted >>> 0, acknowledged: acknowledged >>> 0, dropped: this.shared.dropped() };
  }

  /** Something the operator should know; at most once in a while. */
  warn(text: string): void {
    process.emitWarning(text, "SerinWarning");
  }

  // -- Waiting ------------------------------------------------------------------------------------

  /** The link for calls, made at the first need of it. */
  link(): Link {
    this.#link ??= new Link(this.settings, (text) => this.warn(text));
    return this.#link;
  }

  /** Whether everything emitted before is acknowledged, in time. */
  async flush(withinMs?: number): Promise<boolean> {
    const id = this.#nextFlush++;
    const emitted = this.shared.emitted;
    if (this.shared.isSettled(emitted)) return true;
    if (this.shared.outcome !== "running") return false;
    let timer: NodeJS.Timeout | undefined;
    const done = new Promise<boolean>((tell) => {
      this.#flushes.set(id, tell);
      if (withinMs !== undefined) timer = setTimeout(tell, withinMs, false);
    });
    this.#post({ kind: "flush", id, emitted });
    try {
      return await this.#held(done);
    } finally {
      clearTimeout(timer);
      this.#flushes.delete(id);
    }
  }

  /** Takes no more events, and ends; whether all were acknowledged in time. */
  async drain(deadlineMs: number): Promise<boolean> {
    this.#link?.tellNow();
    this.#isClosed = true;
    this.shared.state = "draining";
    this.shared.stop(deadlineMs);
    await this.#link?.close();
    return await this.#held(this.#ended);
  }

  /** Keeps the process alive while something is awaited. */
  async #held<T>(work: Promise<T>): Promise<T> {
    this.#holds += 1;
    this.#worker.ref();
    try {
      return await work;
    } finally {
      this.#holds -= 1;
      if (this.#holds === 0) this.#worker.unref();
    }
  }

  #post(message: ToWorker): void {
    this.#worker.postMessage(message);
  }

  #hear(message: FromWorker, ended: (isDone: boolean) => void): void {
    if (message.kind === "warning") this.warn(message.text);
    else if (message.kind === "ended") ended(message.isDone);
    else this.#flushes.get(message.id)?.(message.isDone);
  }

  #end(): void {
    process.off("exit", this.#drainAtExit);
    for (const timer of this.#timers) clearInterval(timer);
    for (const tell of this.#flushes.values()) tell(false);
  }

  /** At the end of the process: what was emitted is acknowledged, or rests on disk. */
  readonly #drainAtExit = () => {
    this.#link?.tellNow();
    this.#isClosed = true;
    this.shared.stop(this.settings.drainDeadlineMs);
    this.shared.waitForOutcome(this.settings.drainDeadlineMs + LAST_BEAT_WITHIN_MS);
  };

  #startTicks(): NodeJS.Timeout {
    let lastMs = monotonicMs();
    return setInterval(() => {
      const now = monotonicMs();
      this.shared.tick(now, Math.max(0, now - lastMs - TICK_MS));
      lastMs = now;
    }, TICK_MS);
  }

  /** One that throws is left out from now on, since beats must go on. */
  #sampleGauges(): void {
    if (this.#gauges.size === 0) return;
    const values: Record<string, number> = {};
    for (const [name, sample] of this.#gauges) {
      try {
        const value = sample();
        if (Number.isFinite(value)) values[name] = value;
      } catch (error) {
        this.#gauges.delete(name);
        this.warn(`the gauge ${JSON.stringify(name)} failed and is sampled no more: ${String(error)}`);
      }
    }
    this.#post({ kind: "gauges", values });
  }
}

const OPEN_BRACE = "{".charCodeAt(0);

const momentNow = (): Moment => ({ us: nowUs(), ms: performance.now() });

/** Empty where there is no JSON: telling something must not fail the work it is about. */
function jsonOf(line: object): string {
  try {
    return JSON.stringify(line);
  } catch {
    return "";
  }
}
