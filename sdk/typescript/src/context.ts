/**
 * What caused the work under way, carried along it by AsyncLocalStorage.
 *
 * A handler runs inside the context that the request's headers said; every `emit`, `call` and log
 * line in there takes it up by itself. Start at {@link Context.run} and {@link Context.current}.
 */

import { AsyncLocalStorage } from "node:async_hooks";

import { parseTrace, toTraceparent, type Trace } from "./trace.js";

/** Longest arm that is carried; a longer one is cut at its oldest hop. */
const ARM_BYTES_MAX = 256;

const storage = new AsyncLocalStorage<Context>();

/** What a context is made of; each may be absent. */
export interface ContextParts {
  trace?: Trace | undefined;
  arm?: string | undefined;
  deadline?: number | undefined;
  caller?: string | undefined;
  depth?: number;
  chainDepth?: number;
}

/** What caused the work under way. */
export class Context {
  /** The trace, with the innermost span. */
  readonly trace: Trace | undefined;
  /** The versions under trial that served the cause, `cart=v8,pay=v2`. */
  readonly arm: string | undefined;
  /** When the caller stops waiting, in milliseconds of `performance.now()`. */
  readonly deadline: number | undefined;
  /** The service that called. */
  readonly caller: string | undefined;
  /** How many calls enclose this work. */
  readonly depth: number;
  /** How many chains enclose this work. */
  readonly chainDepth: number;

  constructor(of: ContextParts = {}) {
    this.trace = of.trace;
    this.arm = of.arm === undefined ? undefined : cutArm(of.arm);
    this.deadline = of.deadline;
    this.caller = of.caller;
    this.depth = of.depth ?? 0;
    this.chainDepth = of.chainDepth ?? 0;
  }

  /** Reads the headers `traceparent` and `serin-arm`; what is not valid is left out. */
  static fromHeaders(traceparent?: string | null, arm?: string | null): Context {
    return new Context({
      trace: traceparent ? parseTrace(traceparent) : undefined,
      arm: arm ?? undefined,
    });
  }

  /** The context of the work under way; empty where nothing set one. */
  static current(): Context {
    return storage.getStore() ?? EMPTY;
  }

  /** Runs a function, and everything it awaits, with this context. */
  run<R>(work: () => R): R {
    return storage.run(this, work);
  }

  /** This context with some of it replaced. */
  with(of: ContextParts): Context {
    return new Context({ ...this, ...of });
  }

  /** How long the caller still waits, in milliseconds; `undefined` where nobody said. */
  remainingMs(): number | undefined {
    return this.deadline === undefined ? undefined : this.deadline - performance.now();
  }

  /** The header `traceparent` to send along. */
  traceparent(): string | undefined {
    return this.trace && toTraceparent(this.trace);
  }
}

const EMPTY = new Context();

/** An arm that fits: cut at its oldest hops, `undefined` where nothing is left. */
function cutArm(arm: string): string | undefined {
  let rest = arm;
  while (Buffer.byteLength(rest) > ARM_BYTES_MAX) {
    const comma = rest.indexOf(",");
    if (comma < 0) return undefined;
    rest = rest.slice(comma + 1);
  }
  return rest === "" ? undefined : rest;
}

/** The arm with the hop `service=version`, unless that very hop is in it. */
export function addArm(arm: string | undefined, service: string, version: string): string {
  const hop = `${service}=${version}`;
  if (!arm) return hop;
  return arm.split(",").includes(hop) ? arm : `${arm},${hop}`;
}
