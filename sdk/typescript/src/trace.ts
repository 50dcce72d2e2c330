/**
 * W3C trace context: the identity part of `traceparent`, and new identities.
 *
 * Source: https://www.w3.org/TR/trace-context/, section 3.2.
 */

import { randomBytes } from "node:crypto";

/** Where in a trace something happened. */
export interface Trace {
  /** 32 lower-case hex digits, never all zero. */
  readonly traceId: string;
  /** 16 lower-case hex digits, never all zero. */
  readonly spanId: string;
  /** Bit 0 is "sampled". */
  readonly flags: number;
}

const SHAPE = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const ZEROS = /^0+$/;
/** W3C's flag "sampled". */
export const SAMPLED = 1;

/** Reads a `traceparent`; `undefined` for anything that must be ignored by the standard. */
export function parseTrace(traceparent: string): Trace | undefined {
  const [, version, traceId, spanId, flags, more] = SHAPE.exec(traceparent) ?? [];
  if (!traceId || !spanId || !flags || version === "ff") return undefined;
  if (version === "00" && more !== undefined) return undefined;
  if (ZEROS.test(traceId) || ZEROS.test(spanId)) return undefined;
  return { traceId, spanId, flags: Number.parseInt(flags, 16) };
}

/** Writes a version-00 `traceparent`. */
export function toTraceparent(trace: Trace): string {
  return `00-${trace.traceId}-${trace.spanId}-${trace.flags.toString(16).padStart(2, "0")}`;
}

/** A new span: in the trace of `above`, or the root of a new one, which is sampled where `takes` says so. */
export function childOf(above: Trace | undefined, takes: (traceId: string) => boolean = () => true): Trace {
  const random = randomBytes(above ? 8 : 24).toString("hex");
  const spanId = random.slice(0, 16);
  // All zero is one in 2^64; the standard asks for another then.
  if (ZEROS.test(spanId)) return childOf(above, takes);
  const traceId = above?.traceId ?? random.slice(16);
  return { traceId, spanId, flags: above?.flags ?? (takes(traceId) ? SAMPLED : 0) };
}
