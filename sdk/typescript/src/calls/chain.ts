/**
 * Enhancement chains: each stage's enhancers are asked in parallel, their additions are merged.
 *
 * Orchestrated by the caller; enhancers are ordinary endpoints that get a {@link Packet} and answer an
 * object. Start at {@link chain}, {@link stage} and {@link runChain}.
 */

import { Context } from "../context.js";
import type { Core } from "../core.js";
import { AbsentError, CallError, ChainError } from "../errors.js";
import { checkName } from "../name.js";
import { call, TIMEOUT_MS } from "./call.js";
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

/** How to run a chain. */
export interface ChainOptions {
  /** Calls with the same key go to the same versions. */
  key?: string;
  /** How long it may take in all; 5 s unless said otherwise, and never longer than our own caller waits. */
  timeoutMs?: number;
}

/** What a chain brought: the data with all additions, and how each enhancer did. */
export interface Enhanced<T = Data> {
  readonly data: T;
  readonly hops: readonly Hop[];
}

/**
 * Enhancers that are asked in parallel, each `<service>.<endpoint>`; with `?` after it, it may be
 * absent, late or failed. Throws {@link ChainError} where one is not named so.
 *
 * @example
 * stage(["price.quote", "stock.level", "reviews.top?"], { timeoutMs: 200 });
 */
export function stage(enhancers: string | readonly string[], options: { timeoutMs?: number } = {}): Stage {
  const all = typeof enhancers === "string" ? [enhancers] : enhancers;
  for (const enhancer of all) {
    const [service, endpoint] = parts(nameOf(enhancer));
    if (checkName("service", service) ?? checkName("endpoint", endpoint)) {
      const why = `enhancer "${enhancer}" must be <service>.<endpoint>, such as price.quote`;
      throw new ChainError(Code.badRequest, why);
    }
  }
  return { enhancers: all, timeoutMs: options.timeoutMs ?? STAGE_TIMEOUT_MS };
}

/** A chain of one to four stages. */
export function chain(name: string, ...stages: Stage[]): Chain {
  return { name, stages };
}

/** Runs a chain; rejects with {@link ChainError}, which has the hops so far. */
export async function runChain(core: Core, of: Chain, start: Data, options: ChainOptions): Promise<Enhanced> {
  const around = Context.current();
  const depth = around.chainDepth + 1;
  checkBounds(of, depth);
  const span = core.beginSpan(of.name, around.trace, { kind: "chain", stages: of.stages.length });
  const hops: Hop[] = [];
  try {
    // A copy, so that what the caller has stays as it is.
    let data = copied(of, start);
    const deadline = Math.min(performance.now() + (options.timeoutMs ?? TIMEOUT_MS), around.deadline ?? Infinity);
    await span.context(around.with({ chainDepth: depth, deadline })).run(async () => {
      for (const [at, each] of of.stages.entries()) {
        data = await runStage(core, of, at + 1, each, data, hops, options.key);
      }
    });
    return { data, hops };
  } catch (error) {
    span.fail(error);
    throw error;
  } finally {
    core.endSpan(span);
  }
}

function copied(of: Chain, start: Data): Data {
  let copy: unknown;
  try {
    copy = JSON.parse(JSON.stringify(start) ?? "null");
  } catch (error) {
    throw new ChainError(Code.failed, `chain "${of.name}": the data have no JSON: ${String(error)}`);
  }
  if (isObject(copy)) {
    const bytes = bytesOf(copy);
    if (bytes <= DATA_BYTES_MAX) return copy;
    throw new ChainError(Code.tooLarge, `chain "${of.name}": the data have ${bytes} bytes, at most ${DATA_BYTES_MAX} fit`);
  }
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

const bytesOf = (data: Data) => Buffer.byteLength(JSON.stringify(data));

async function runStage(
  core: Core,
  of: Chain,
  number: number,
  stage: Stage,
  data: Data,
  hops: Hop[],
  key: string | undefined,
): Promise<Data> {
  const packet: Packet = { chain: of.name, stage: number, data };
  const answers = await Promise.all(
    stage.enhancers.map((enhancer) => ask(core, nameOf(enhancer), packet, stage.timeoutMs, key)),
  );
  // Merged in the order of the stage, so that whoever answers first changes nothing.
  let merged = data;
  const ofStage = answers.map(({ hop, additions }) => {
    const taken = take(merged, hop, additions);
    merged = taken.data;
    return taken.hop;
  });
  hops.push(...ofStage);
  for (const [at, enhancer] of stage.enhancers.entries()) {
    const hop = ofStage[at];
    if (!hop || hop.status === "ok" || enhancer.endsWith("?")) continue;
    const why = `chain "${of.name}", stage ${number}: ${enhancer} is ${hop.status}: ${hop.error ?? ""}`;
    throw new ChainError(hop.code ?? Code.failed, why, hops);
  }
  return merged;
}

/** Merges additions, unless they make the data too large: then the enhancer failed and the data stay. */
function take(data: Data, hop: Hop, additions: Data): { data: Data; hop: Hop } {
  const tried = structuredClone(data);
  merge(tried, additions, hop);
  const bytes = bytesOf(tried);
  if (bytes <= DATA_BYTES_MAX) return { data: tried, hop };
  const error = `with its additions the data have ${bytes} bytes, at most ${DATA_BYTES_MAX} fit`;
  return { data, hop: { ...hop, status: "failed", added: [], conflicts: [], error, code: Code.tooLarge } };
}

const hopOf = ({ chain, stage }: Packet) => ({ chain, stage });

const nameOf = (enhancer: string) => enhancer.replace(/\?$/, "");

function parts(name: string): [service: string, endpoint: string] {
  const [service = "", endpoint = ""] = name.split(/\.(.*)/s);
  return [service, endpoint];
}

async function ask(core: Core, enhancer: string, packet: Packet, timeoutMs: number, key: string | undefined) {
  const [service, endpoint] = parts(enhancer);
  const startedMs = performance.now();
  const head = { stage: packet.stage, enhancer };
  const failed = (status: HopStatus, code: number, error: string, times = NO_TIMES) => ({
    hop: {
      ...head,
      status,
      ...times,
      total_us: Math.round((performance.now() - startedMs) * 1000),
      added: [],
      conflicts: [],
      error,
      code,
    } satisfies Hop,
    additions: {},
  });
  try {
    const reply = await call<unknown>(core, service, endpoint, packet, { key, timeoutMs }, hopOf(packet));
    const times = {
      total_us: reply.totalUs,
      queue_us: reply.queueUs,
      handler_us: reply.handlerUs,
      network_us: reply.networkUs,
    };
    if (!isObject(reply.data)) return failed("failed", Code.failed, "it did not answer an object of additions", times);
    const hop: Hop = { ...head, status: "ok", ...times, added: [], conflicts: [] };
    return { hop, additions: reply.data };
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    const status = error instanceof AbsentError ? "absent" : error.code === Code.timeout ? "late" : "failed";
    return failed(status, error.code, `${error.code} ${error.message}`);
  }
}

const NO_TIMES = { total_us: 0, queue_us: 0, handler_us: 0, network_us: 0 };
