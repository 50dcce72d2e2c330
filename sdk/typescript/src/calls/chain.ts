/**
 * Enhancement chains: each stage's enhancers are asked in parallel, their additions are merged.
 *
 * Orchestrated by the caller; enhancers are ordinary endpoints that get a {@link Packet} and answer an
 * object. Start at {@link chain}, {@link stage} and {@link runChain}.
 */

import { Context } from "../context.js";
import type { Core } from "../core.js";
import { AbsentError, CallError, ChainError } from "../errors.js";
import { nowUs } from "../memory/clock.js";
import { Span } from "../span.js";
import { call } from "./call.js";
import { Code } from "./headers.js";
import {
  CHAIN_DEPTH_MAX,
  DATA_BYTES_MAX,
  ENHANCERS_MAX,
  isObject,
  merge,
  STAGES_MAX,
  type Data,
  type Hop,
  type HopStatus,
  type Packet,
} from "./packet.js";

/** How long a stage waits for its enhancers unless said otherwise. */
const STAGE_TIMEOUT_MS = 1_000;

/** Enhancers that are asked in parallel; made by {@link stage}. */
export interface Stage {
  readonly enhancers: readonly string[];
  readonly timeoutMs: number;
}

/** A name and up to four stages; made by {@link chain}. */
export interface Chain {
  readonly name: string;
  readonly stages: readonly Stage[];
}

/** What a chain brought: the data with all additions, and how each enhancer did. */
export interface Enhanced<T = Data> {
  readonly data: T;
  readonly hops: readonly Hop[];
}

/**
 * Enhancers that are asked in parallel, each `<service>.<endpoint>`; with `?` after it, it may be
 * absent, late or failed.
 *
 * @example
 * stage(["price.quote", "stock.level", "reviews.top?"], { timeoutMs: 200 });
 */
export function stage(enhancers: string | readonly string[], options: { timeoutMs?: number } = {}): Stage {
  return {
    enhancers: typeof enhancers === "string" ? [enhancers] : enhancers,
    timeoutMs: options.timeoutMs ?? STAGE_TIMEOUT_MS,
  };
}

/** A chain of one to four stages. */
export function chain(name: string, ...stages: Stage[]): Chain {
  return { name, stages };
}

/** Runs a chain; rejects with {@link ChainError}, which has the hops so far. */
export async function runChain(core: Core, of: Chain, start: Data, key?: string): Promise<Enhanced> {
  const around = Context.current();
  const depth = around.chainDepth + 1;
  checkBounds(of, depth);
  const span = new Span(`chain ${of.name}`, around.trace, nowUs());
  const hops: Hop[] = [];
  try {
    // A copy, so that what the caller has stays as it is.
    const data = copied(of, start);
    await span.context(around.with({ chainDepth: depth })).run(async () => {
      for (const [at, each] of of.stages.entries()) {
        checkSize(of, at + 1, data, hops);
        await runStage(core, of, at + 1, each, data, hops, key);
      }
    });
    checkSize(of, of.stages.length, data, hops);
    return { data, hops };
  } catch (error) {
    span.fail(error);
    throw error;
  } finally {
    core.tellSpan(span);
  }
}

function copied(of: Chain, start: Data): Data {
  let copy: unknown;
  try {
    copy = JSON.parse(JSON.stringify(start) ?? "null");
  } catch (error) {
    throw new ChainError(Code.failed, `chain "${of.name}": the data have no JSON: ${String(error)}`);
  }
  if (isObject(copy)) return copy;
  throw new ChainError(Code.failed, `chain "${of.name}": the data must be an object`);
}

function checkBounds(of: Chain, depth: number): void {
  const refuse = (where: string, why: string) => {
    throw new ChainError(Code.tooLarge, `chain "${of.name}"${where} ${why}`);
  };
  if (of.stages.length < 1 || of.stages.length > STAGES_MAX) {
    refuse("", `has ${of.stages.length} stages, must have 1 to ${STAGES_MAX}`);
  }
  for (const [at, { enhancers }] of of.stages.entries()) {
    if (enhancers.length < 1 || enhancers.length > ENHANCERS_MAX) {
      refuse(`, stage ${at + 1}`, `has ${enhancers.length} enhancers, must have 1 to ${ENHANCERS_MAX}`);
    }
  }
  if (depth > CHAIN_DEPTH_MAX) {
    refuse("", `is enclosed by ${depth - 1} others, the most allowed; do chains form a circle?`);
  }
}

function checkSize(of: Chain, stage: number, data: Data, hops: Hop[]): void {
  const bytes = Buffer.byteLength(JSON.stringify(data));
  if (bytes <= DATA_BYTES_MAX) return;
  const why = `the data have ${bytes} bytes at stage ${stage}, at most ${DATA_BYTES_MAX} fit`;
  throw new ChainError(Code.tooLarge, `chain "${of.name}": ${why}`, hops);
}

async function runStage(
  core: Core,
  of: Chain,
  number: number,
  stage: Stage,
  data: Data,
  hops: Hop[],
  key: string | undefined,
): Promise<void> {
  const packet: Packet = { chain: of.name, stage: number, data };
  const answers = await Promise.all(
    stage.enhancers.map((enhancer) => ask(core, nameOf(enhancer), packet, stage.timeoutMs, key)),
  );
  // Merged in the order of the stage, so that whoever answers first changes nothing.
  for (const { hop, additions } of answers) {
    merge(data, additions, hop);
    hops.push(hop);
  }
  for (const [at, enhancer] of stage.enhancers.entries()) {
    const hop = answers[at]?.hop;
    if (!hop || hop.status === "ok" || enhancer.endsWith("?")) continue;
    const why = `chain "${of.name}", stage ${number}: ${enhancer} is ${hop.status}: ${hop.error ?? ""}`;
    throw new ChainError(CODES[hop.status], why, hops);
  }
}

const CODES: Record<Exclude<HopStatus, "ok">, number> = {
  failed: Code.failed,
  late: Code.timeout,
  absent: Code.busy,
};

const nameOf = (enhancer: string) => enhancer.replace(/\?$/, "");

async function ask(core: Core, enhancer: string, packet: Packet, timeoutMs: number, key: string | undefined) {
  const [service = "", endpoint = ""] = enhancer.split(/\.(.*)/s);
  const startedMs = performance.now();
  const head = { stage: packet.stage, enhancer };
  const failed = (status: HopStatus, error: string, times = NO_TIMES) => ({
    hop: {
      ...head,
      status,
      ...times,
      total_us: Math.round((performance.now() - startedMs) * 1000),
      added: [],
      conflicts: [],
      error,
    } satisfies Hop,
    additions: {},
  });
  try {
    const reply = await call<unknown>(core, service, endpoint, packet, { key, timeoutMs });
    const times = {
      total_us: reply.totalUs,
      queue_us: reply.queueUs,
      handler_us: reply.handlerUs,
      network_us: reply.networkUs,
    };
    if (!isObject(reply.data)) return failed("failed", "it did not answer an object of additions", times);
    const hop: Hop = { ...head, status: "ok", ...times, added: [], conflicts: [] };
    return { hop, additions: reply.data };
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    const status = error instanceof AbsentError ? "absent" : error.code === Code.timeout ? "late" : "failed";
    return failed(status, `${error.code} ${error.message}`);
  }
}

const NO_TIMES = { total_us: 0, queue_us: 0, handler_us: 0, network_us: 0 };
