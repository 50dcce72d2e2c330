/** One endpoint: its handler, what it makes of a body, and its counts. */

import { Code, readBody } from "../calls/headers.js";
import { CallError } from "../errors.js";
import type { Context } from "../context.js";

/** Answers a call: any JSON, bytes, or nothing; throws {@link CallError} to answer with a code. */
export type Handler<T, R> = (data: T, context: Context) => R | Promise<R>;

/** Makes a typed value of a body, or throws; the `parse` of most schema libraries fits. */
export interface Schema<T> {
  parse(data: unknown): T;
}

/** How an endpoint is served. */
export interface EndpointOptions<T> {
  /** Running it twice does no harm: callers may ask again where an answer was lost. */
  idempotent?: boolean;
  /** What the body must be; a call with another body is answered 400. */
  schema?: Schema<T>;
}

/** See the module. */
export class Endpoint {
  readonly name: string;
  readonly handler: Handler<unknown, unknown>;
  readonly isIdempotent: boolean;
  readonly #schema: Schema<unknown> | undefined;
  /** As the micro protocol counts. */
  requests = 0;
  errors = 0;
  lastError = "";
  processingUs = 0;

  constructor(name: string, handler: Handler<unknown, unknown>, options: EndpointOptions<unknown> = {}) {
    this.name = name;
    this.handler = handler;
    this.isIdempotent = options.idempotent ?? false;
    this.#schema = options.schema;
  }

  /** What the handler is called with; throws {@link CallError} 400. */
  read(bytes: Uint8Array, contentType: string | undefined): unknown {
    let body: unknown;
    try {
      body = readBody(bytes, contentType);
    } catch (cause) {
      throw new CallError(Code.badRequest, `the body is not JSON: ${String(cause)}`, { cause });
    }
    try {
      return this.#schema ? this.#schema.parse(body) : body;
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new CallError(Code.badRequest, `the body does not fit: ${why}`, { cause });
    }
  }

  /** A call ended. */
  count(tookUs: number, error: string | undefined): void {
    this.requests += 1;
    this.processingUs += tookUs;
    if (error === undefined) return;
    this.errors += 1;
    this.lastError = error;
  }
}
