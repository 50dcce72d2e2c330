/** A piece of work with a beginning, a duration and its place in a trace; told on `tel.span`. */

import type { Context } from "./context.js";
import type { Sender } from "./subject.js";
import type { Trace } from "./trace.js";

/** What a span says beside its times. */
export type Attributes = Record<string, string | number | boolean>;

/** A moment by two clocks: microseconds since 1970, and milliseconds that only go forward. */
export interface Moment {
  readonly us: number;
  readonly ms: number;
}

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
  readonly #began: Moment;

  /** Begins with its own place in the trace, under another or at the root. */
  constructor(name: string, trace: Trace, above: Trace | undefined, began: Moment, attributes: Attributes = {}) {
    this.name = name;
    this.trace = trace;
    this.attributes = attributes;
    this.#above = above;
    this.#began = began;
  }

  /** How long it took by now. */
  durationUs(): number {
    return Math.round((performance.now() - this.#began.ms) * 1000);
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
      time: this.#began.us,
      duration_us: this.durationUs(),
      status: this.hasFailed ? "error" : "ok",
      ...(Object.keys(this.attributes).length > 0 ? { attributes: this.attributes } : {}),
    };
  }
}
