/** One connection of the SDK in a scenario, with its handlers. */

import { CallError, chain, connect, Context, html, redirect, stage, WebResponse, type Serin, type Service } from "../dist/index.js";
import type { Fixture } from "./fixture.ts";

type Json = Record<string, any>;

/** Where handlers wait. */
class Gate {
  begin = () => {};
  open = () => {};
  readonly begun = new Promise<void>((tell) => (this.begin = tell));
  readonly opened = new Promise<void>((tell) => (this.open = tell));
}

/** Gates by name. */
export class Gates {
  readonly #gates = new Map<string, Gate>();

  at(name: string): Gate {
    const gate = this.#gates.get(name) ?? new Gate();
    this.#gates.set(name, gate);
    return gate;
  }
}

export class Handle {
  readonly app: Serin;
  readonly service: Service;
  readonly #gates: Gates;
  readonly #isServing: boolean;

  constructor(spec: Json, fixture: Fixture, gates: Gates) {
    const { service, version, instance, queue_bytes_max, spill_bytes_max, concurrency, waiting_max } = spec;
    this.#gates = gates;
    this.app = connect(
      fixture.options({
        bus: fixture.urlOf(instance),
        service,
        version,
        instance,
        ...(queue_bytes_max === undefined ? {} : { queueBytesMax: queue_bytes_max }),
        ...(spill_bytes_max === undefined ? {} : { spillBytesMax: spill_bytes_max }),
      }),
    );
    this.service = this.app.service({
      ...(concurrency === undefined ? {} : { concurrency }),
      ...(waiting_max === undefined ? {} : { waitingMax: waiting_max }),
    });
    this.#isServing = Boolean(spec["endpoints"] ?? spec["web"]);
    for (const [name, behaviour] of Object.entries<Json>(spec["endpoints"] ?? {})) {
      const idempotent = spec["idempotent"]?.includes(name) ?? false;
      this.service.endpoint(name, (data) => this.#behave(behaviour, data), { idempotent });
    }
    if (spec["every"]) this.service.every(spec["every"].ms, this.#task(spec["every"]));
    if (spec["web"]) this.service.web((request) => answerWeb(spec["web"], this.app, gates, request));
  }

  async start(): Promise<void> {
    if (this.#isServing) await this.service.start();
  }

  async end(): Promise<void> {
    if (this.#isServing) await this.service.stop({ deadlineMs: 100 });
    else await this.app.drain({ deadlineMs: 100 });
  }

  #task({ throw: text, emit, times }: Json): () => void {
    let run = 0;
    return () => {
      run += 1;
      if (run === 1) throw new RangeError(text);
      if (run <= times) this.app.emit(emit, { n: run });
    };
  }

  async #behave(behaviour: Json, data: unknown): Promise<unknown> {
    const { app } = this;
    const { gate, emit, call, context, echo, bytes } = behaviour;
    let answer: unknown;
    if (gate) {
      this.#gates.at(gate).begin();
      await this.#gates.at(gate).opened;
    }
    if (emit) app.emit(emit.type, emit.data);
    if (call) answer = await app.call(call.service, call.endpoint, call.data);
    if (behaviour["chain"]) answer = (await runChain(app, behaviour["chain"])).data;
    failAs(behaviour);
    if (context) answer = shapeOf(Context.current());
    if (echo || bytes) answer = data;
    return behaviour["reply"] ?? behaviour["additions"] ?? answer;
  }
}

/** Fails, where the behaviour says so. */
function failAs({ fail, throw: text }: Json): void {
  if (fail) throw new CallError(fail.code, fail.message, { body: fail.body });
  if (text) throw new RangeError(text);
}

function answerWeb(behaviour: Json, app: Serin, gates: Gates, request: import("../dist/index.js").WebRequest): unknown {
  failAs(behaviour);
  if (behaviour["web_echo"]) {
    const { method, path, query, headers } = request;
    return { method, path, query, headers, body: request.text() };
  }
  const { status, headers, body, chunks, hold, tell } = behaviour["web"];
  if (behaviour["web"]["redirect"]) return redirect(behaviour["web"]["redirect"], status, headers);
  if (behaviour["web"]["html"]) return html(behaviour["web"]["html"], status, headers);
  const asked = () => tell && app.emit(tell, {});
  if (hold) return new WebResponse(held(chunks, gates.at(hold), asked), { status, headers });
  return new WebResponse(chunks ? chunks.values() : (body ?? ""), { status, headers });
}

/** Chunks, and then a wait for ever, until it is asked to return. */
function held(chunks: string[], gate: Gate, asked: () => void): AsyncIterable<string> {
  const left = [...chunks];
  const iterator: AsyncIterator<string> = {
    next: async () => {
      const value = left.shift();
      if (value === undefined) return await new Promise<never>(() => {});
      asked();
      return { done: false, value };
    },
    return: async () => {
      gate.begin();
      return { done: true, value: undefined };
    },
  };
  return { [Symbol.asyncIterator]: () => iterator };
}

function shapeOf(context: Context): Json {
  return {
    caller: context.caller ?? null,
    arm: context.arm ?? null,
    trace_id: context.trace?.traceId ?? null,
    depth: context.depth,
    chain_depth: context.chainDepth,
    has_deadline: context.deadline !== undefined,
  };
}

/** Runs a chain as a step or a behaviour says. */
export async function runChain(app: Serin, step: Json) {
  const stages = step["stages"].map((one: Json) => stage(one["enhancers"], { timeoutMs: one["timeout_ms"] }));
  const bounds = step["timeout_ms"] === undefined ? {} : { timeoutMs: step["timeout_ms"] };
  return await app.chain<Json>(chain(step["name"], ...stages), filled(step["data"]), bounds);
}

/** Data with what stands for more. */
export function filled(data: Json): Json {
  const [text, times] = data["$repeat"] ?? [];
  return text === undefined ? data : { text: text.repeat(times) };
}
