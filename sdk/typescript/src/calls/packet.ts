/**
 * A message that services enhance, stage by stage, and the record of how each step went.
 *
 * Everything that could run away is bounded here. Merging is a function of values: whoever answers
 * first changes nothing. Start at {@link merge}.
 */

import { isDeepStrictEqual } from "node:util";

/** Stages of a chain. */
export const STAGES_MAX = 4;
/** Enhancers of one stage. */
export const ENHANCERS_MAX = 16;
/** A packet's data as JSON, bytes. */
export const DATA_BYTES_MAX = 256 << 10;
/** Chains that may enclose each other. */
export const CHAIN_DEPTH_MAX = 4;

/** A JSON object. */
export type Data = Record<string, unknown>;

/** What an enhancer is sent. */
export interface Packet<T = Data> {
  /** The chain's name. */
  readonly chain: string;
  /** The stage, from 1. */
  readonly stage: number;
  /** What is known so far. */
  readonly data: T;
}

/** How an enhancer did: it answered, answered with an error, not in time, or nobody serves it. */
export type HopStatus = "ok" | "failed" | "late" | "absent";

/** How one enhancer did; times in microseconds. */
export interface Hop {
  /** The stage, from 1. */
  readonly stage: number;
  /** `<service>.<endpoint>`. */
  readonly enhancer: string;
  readonly status: HopStatus;
  /** From sending to having the answer; of these, before the handler, in it, and on the way. */
  readonly total_us: number;
  readonly queue_us: number;
  readonly handler_us: number;
  readonly network_us: number;
  /** Fields it added, dotted where inside objects. */
  readonly added: string[];
  /** Fields it added that were there already, and stayed as they were. */
  readonly conflicts: string[];
  /** Why it added nothing, where it failed. */
  readonly error?: string;
  /** The code of this error: the enhancer's own where it answered with one. */
  readonly code?: number;
}

/**
 * Adds what an enhancer answered, and tells the hop what was added and what was there.
 *
 * What is there stays: objects are merged field by field, and any other field that exists already with
 * another value is a conflict. Called in the order in which the stage names its enhancers.
 */
export function merge(data: Data, additions: Data, hop: Pick<Hop, "added" | "conflicts">, path = ""): void {
  for (const key of Object.keys(additions).sort()) {
    const name = path === "" ? key : `${path}.${key}`;
    const [there, value] = [Object.hasOwn(data, key) ? data[key] : undefined, additions[key]];
    if (there === undefined) {
      // Not by assignment, which would take "__proto__" for something else.
      Object.defineProperty(data, key, { value, writable: true, enumerable: true, configurable: true });
      hop.added.push(name);
    } else if (isObject(there) && isObject(value)) {
      merge(there, value, hop, name);
    } else if (!isDeepStrictEqual(there, value)) {
      hop.conflicts.push(name);
    }
  }
}

/** Whether a value is a JSON object. */
export function isObject(value: unknown): value is Data {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);
}
