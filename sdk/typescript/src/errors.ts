/** The errors of this package: why a service cannot connect, why a call or a chain failed. */

import type { Hop } from "./calls/packet.js";

/** Why a service cannot connect. A bus that is away is no reason: events wait for it. */
export class ConnectError extends Error {
  override readonly name: string = "ConnectError";
}

/**
 * A call that failed; a handler throws it to answer with a code and a message of its own.
 *
 * Codes are HTTP's: 400 bad request, 408 time over, 413 a bound was passed, 500 the handler failed,
 * 503 nobody takes the call.
 */
export class CallError extends Error {
  override readonly name: string = "CallError";
  /** As HTTP has it. */
  readonly code: number;
  /** Whatever more the endpoint says, as JSON. */
  readonly body: unknown;
  /** Whether the service may have done what it was asked for. */
  readonly mayHaveRun: boolean;

  constructor(code: number, message: string, more: { body?: unknown; mayHaveRun?: boolean; cause?: unknown } = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.code = code;
    this.body = more.body;
    this.mayHaveRun = more.mayHaveRun ?? true;
  }
}

/** Nobody serves what was called. */
export class AbsentError extends CallError {
  override readonly name = "AbsentError";
}

/** A chain failed: a required enhancer did, or a bound was passed. */
export class ChainError extends CallError {
  override readonly name = "ChainError";
  /** The hops so far, the one that failed among them. */
  readonly hops: readonly Hop[];

  constructor(code: number, message: string, hops: readonly Hop[] = []) {
    super(code, message);
    this.hops = hops;
  }
}
