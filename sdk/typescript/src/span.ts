/** A piece of work with a beginning, a duration and its place in a trace; told on `tel.span`. */

import type { Context } from "./context.js";
import type { Sender } from "./subject.js";
import { childOf, type Trace } from "./trace.js";

/** What a span says beside its times. */
export type Attributes = Record<string, string | number | boolean>;

/** A span as it travels. */
export interface SpanLine {
  readonly trace_id: string;
  readonly span_id: string;
  readonly parent_id?: string;
  readonly name: string;
  readonly service: string;
  readonly version: string;
  readonly instance: string;
  readonly time: number;
  readonly duration_us: number;
  readonly status: "ok" | "error";
  readonly attributes?: Attributes;
}

/** A span that is open. */
export class Span {
  readonly name: string;
  /** Its place in the trace. */
  readonly trace: Trace;
  /** What is said of it; may be added to while it is open. */
  readonly attributes: Attributes;
  hasFailed = false;
  readonly #above: Trace | undefined;
  readonly #timeUs: number;
  readonly #startedMs = performance.now();

  /** Begins under another, or at the root of a new trace. */
  constructor(name: string, above: Trace | undefined, nowUs: number, attributes: Attributes = {}) {
    this.name = name;
    this.trace = childOf(above);
    this.attributes = attributes;
    this.#above = above;
    this.#timeUs = nowUs;
  }

  /** The context of work in this span. */
  context(around: Context): Context {
    return around.with({ trace: this.trace });
  }

  /** Notes why it failed. */
  fail(error: unknown): void {
    this.hasFailed = true;
    this.attributes["error"] = error instanceof Error ? error.message : String(error);
  }

  /** Its line, ended now. */
  line(who: Sender): SpanLine {
    return {
      trace_id: this.trace.traceId,
      span_id: this.trace.spanId,
      ...(this.#above ? { parent_id: this.#above.spanId } : {}),
      name: this.name,
      ...who,
      time: this.#timeUs,
      duration_us: Math.round((performance.now() - this.#startedMs) * 1000),
      status: this.hasFailed ? "error" : "ok",
      ...(Object.keys(this.attributes).length > 0 ? { attributes: this.attributes } : {}),
    };
  }
}
