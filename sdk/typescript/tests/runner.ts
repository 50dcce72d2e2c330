/** One conformance scenario under way; a step `do: x` is the method `x` of {@link Steps}. */

import assert from "node:assert/strict";

import { headers as newHeaders, type Msg } from "@nats-io/transport-node";

import { slotOf } from "../dist/calls/route.js";
import { CallError, Context } from "../dist/index.js";
import { filled, Gates, Handle, runChain } from "./handle.ts";
import { mismatch } from "./matching.ts";
import { PATIENCE_MS, Fixture, until } from "./fixture.ts";

type Json = Record<string, any>;
/** Steps whose expectations are checked where they are done. */
const CHECKED_BY_ITSELF = new Set(["message", "lines"]);

/** A bounded wait for what comes one by one. */
class Kept {
  readonly #messages: Json[] = [];
  #tell: (() => void) | undefined;

  push(message: Json): void {
    this.#messages.push(message);
    this.#tell?.();
  }

  async next(withinMs: number, seen: string[]): Promise<Json> {
    const untilMs = performance.now() + withinMs;
    for (;;) {
      const message = this.#messages.shift();
      if (message) return message;
      const leftMs = untilMs - performance.now();
      assert(leftMs > 0, `nothing matched: ${seen.slice(-3).join("; ")}`);
      await new Promise<void>((tell) => {
        const timer = setTimeout(tell, leftMs);
        this.#tell = () => (clearTimeout(timer), tell());
      });
    }
  }
}

export class Runner {
  readonly #scenario: Json;
  readonly #fixture: Fixture;
  readonly #gates = new Gates();
  readonly #handles = new Map<string, Handle>();
  readonly #kept = new Map<string, Kept>();
  readonly #background = new Map<string, Promise<unknown>>();
  #routes: Json | undefined;
  #revision = -1;

  constructor(scenario: Json) {
    this.#scenario = scenario;
    this.#fixture = new Fixture(scenario["mappings"], scenario["users"]);
  }

  async run(): Promise<void> {
    try {
      await this.#fixture.start();
      for (const [index, step] of this.#scenario["steps"].entries()) {
        try {
          await this.#step(step);
        } catch (error) {
          const at = `${this.#scenario["name"]}, step ${index}: ${JSON.stringify(step).slice(0, 160)}`;
          throw new Error(`${at}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
        }
      }
    } finally {
      for (const handle of this.#handles.values()) await handle.end();
      await this.#fixture.close();
    }
  }

  async #step(step: Json): Promise<void> {
    const perform = this.#steps[step["do"]];
    assert(perform, `no step is called ${step["do"]}`);
    // A thrown CallError is an outcome; a `request` is on the bus once `perform` has returned.
    const work = perform(step).catch((error: unknown) => {
      if (error instanceof CallError) return error;
      throw error;
    });
    if (step["background"]) {
      work.catch(() => {});
      this.#background.set(step["as"], work);
      await this.#fixture.client.flush();
    } else {
      this.#check(step, await inTime(work));
    }
  }

  #check(step: Json, outcome: any): void {
    const { error, expect } = step;
    if (outcome instanceof CallError) {
      assert("error" in step, `failed: ${outcome.code} ${outcome.message}`);
      const { code, message, body, mayHaveRun } = outcome;
      assert.equal(mismatch(error, { code, message, body, may_have_run: mayHaveRun }, "the error"), "");
    } else {
      assert(!("error" in step), `expected an error, it answered ${JSON.stringify(outcome)}`);
      if (!("expect" in step) || CHECKED_BY_ITSELF.has(step["do"])) return;
      if (expect.messages) {
        const problems = expect.messages.map((one: Json, at: number) => messageMismatch(one, outcome.messages[at]));
        assert.deepEqual(problems.filter((problem: string) => problem !== ""), []);
      } else {
        const isMessage = outcome?.headers !== undefined && outcome.subject !== undefined;
        assert.equal(isMessage ? messageMismatch(expect, outcome) : mismatch(expect, outcome), "");
      }
    }
  }

  #handle(step: Json): Handle {
    const handle = this.#handles.get(step["handle"]);
    assert(handle, `the handle ${step["handle"]} is not started`);
    return handle;
  }

  async #next(name: string, seen: string[]): Promise<Json> {
    const kept = this.#kept.get(name);
    assert(kept, `nothing is kept as ${name}`);
    return await kept.next(PATIENCE_MS / 3, seen);
  }

  #keep(name: string, subject: string, answer?: (message: Msg) => void, options: { queue?: string; max?: number } = {}): void {
    const kept = new Kept();
    this.#kept.set(name, kept);
    this.#fixture.client.subscribe(subject, {
      ...options,
      callback: (_, message) => {
        kept.push(shapeOf(message));
        answer?.(message);
      },
    });
  }

  readonly #steps: Record<string, (step: Json) => Promise<unknown>> = {
    start: async ({ handle: name }) => {
      const handle = new Handle(this.#scenario["handles"][name], this.#fixture, this.#gates);
      this.#handles.set(name, handle);
      await handle.start();
    },
    routes: async ({ revision, services }) => {
      const { client } = this.#fixture;
      const isFirst = this.#routes === undefined;
      this.#routes = { revision, services };
      const told = () => JSON.stringify(this.#routes);
      if (isFirst) client.subscribe("ctl.routes.get", { callback: (_, message) => void message.respond(told()) });
      client.publish("ctl.routes", told());
      await client.flush();
      this.#revision = Math.max(this.#revision, revision);
      for (const { app } of this.#handles.values()) {
        const link = app.core.link();
        await link.bus.connected();
        await link.bus.flush();
        await until(() => link.revision >= this.#revision);
      }
    },
    listen: async ({ subject, as }) => {
      this.#keep(as, subject);
      await this.#fixture.client.flush();
    },
    message: async ({ of, expect }) => {
      for (const seen: string[] = []; seen.at(-1) !== ""; ) {
        seen.push(messageMismatch(expect, await this.#next(of, seen)));
      }
    },
    lines: async ({ of, expect, never }) => {
      for (const seen: string[] = []; ; ) {
        const { text } = await this.#next(of, seen);
        const lines = text.split("\n").filter(Boolean);
        if (never) for (const line of lines) assert(mismatch(never, JSON.parse(line)), `told what is not to be told: ${line}`);
        seen.push(...lines.map((line: string) => mismatch(expect, JSON.parse(line))));
        if (seen.includes("")) return;
      }
    },
    emit: async (step) => {
      const { type, data, traceparent, arm, times, from = 0 } = step;
      const { app } = this.#handle(step);
      Context.fromHeaders(traceparent, arm).run(() => {
        if (times === undefined) app.emit(type, filled(data));
        else for (let n = from; n < from + times; n++) app.emit(type, { ...data, n });
      });
    },
    flush: async (step) => assert(await this.#handle(step).app.flush({ timeoutMs: PATIENCE_MS })),
    counts: async (step) => this.#handle(step).app.counts(),
    events: async ({ expect, numbered }) => {
      const count = numbered ?? expect.length;
      await until(async () => (await this.#fixture.events()).length >= count);
      const found = await this.#fixture.events();
      if (numbered !== undefined) {
        assert.deepEqual(found.map(({ data }) => data["n"]), Array.from({ length: count }, (_, n) => n));
        const ids = found.map(({ id }) => id);
        assert.deepEqual(ids, [...new Set(ids)].sort());
      }
      return found;
    },
    request: async ({ subject, headers, body, text, replies, take, leave }) => {
      const { client } = this.#fixture;
      const inbox = `_INBOX.runner.${Math.random().toString(36).slice(2)}`;
      const kept = new Kept();
      client.subscribe(inbox, { callback: (_, message) => kept.push({ ...shapeOf(message), reply: message.reply }) });
      const payload = text ?? JSON.stringify(body ?? null);
      client.publish(subject, payload, { reply: inbox, ...(headers ? { headers: toHeaders(headers) } : {}) });
      const messages: Json[] = [];
      while (messages.length < (replies ?? 1)) {
        const message = await kept.next(PATIENCE_MS, []);
        messages.push(message);
        const headers = toHeaders({ "serin-http-taken": String(messages.length) });
        if (messages.length === take) client.publish(message["reply"], undefined, { headers });
      }
      if (leave) client.publish(messages.at(-1)!["reply"]);
      return replies === undefined ? messages[0] : { messages };
    },
    serve_raw: async (step) => {
      const payload = "body" in step ? JSON.stringify(step["body"]) : "";
      const headers = step["headers"] ? { headers: toHeaders(step["headers"]) } : {};
      const answer = step["silent"] ? undefined : (message: Msg) => void message.respond(payload, headers);
      const { queue, times: max } = step;
      this.#keep(step["as"], step["subject"], answer, { ...(queue ? { queue } : {}), ...(max ? { max } : {}) });
      await this.#fixture.client.flush();
    },
    call: async (step) => {
      const { service, endpoint, data, bytes, key, idempotent, timeout_ms: timeoutMs } = step;
      const sent = bytes === undefined ? data : Buffer.from(bytes);
      const answer = await this.#handle(step).app.call(service, endpoint, sent, { key, idempotent, timeoutMs });
      return answer instanceof Uint8Array ? Buffer.from(answer).toString() : answer;
    },
    chain: async (step) => await runChain(this.#handle(step).app, step),
    slots: async ({ expect }) => expect.map(([service, key]: string[]) => [service, key, slotOf(service!, key!)]),
    open: async ({ gate }) => this.#gates.at(gate).open(),
    begun: async ({ gate }) => await this.#gates.at(gate).begun,
    bus: async (step) => await (step["is"] === "stop" ? this.#fixture.stop() : this.#fixture.start()),
    stream: async ({ set }) => await this.#fixture.setStream(set),
    spilled: async (step) => await until(() => this.#fixture.isSpilled() === step["is"]),
    drain: async (step) => await this.#handle(step).app.drain({ deadlineMs: step["deadline_ms"] }),
    stop: async (step) => await this.#handle(step).service.stop({ deadlineMs: step["deadline_ms"] }),
    join: async ({ of }) => await this.#background.get(of),
  };
}

/** A message as expectations see it. */
function shapeOf(message: Msg): Json {
  const text = message.string();
  let json: unknown = null;
  try {
    json = JSON.parse(text);
  } catch {
    // The body is no JSON.
  }
  return { subject: message.subject, headers: Object.fromEntries(message.headers ?? []), json, text };
}

/** Headers that are expected as one value are compared with the last. */
function messageMismatch(expected: Json, found: Json): string {
  const headers = Object.entries(found["headers"] as Record<string, string[]>).map(([name, values]) => [
    name,
    Array.isArray(expected["headers"]?.[name]) ? values : values.at(-1),
  ]);
  return mismatch(expected, { ...found, headers: Object.fromEntries(headers) });
}

function toHeaders(pairs: Record<string, string>) {
  const headers = newHeaders();
  for (const [name, value] of Object.entries(pairs)) headers.append(name, value);
  return headers;
}

async function inTime<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, fail) => {
    timer = setTimeout(() => fail(new Error("the step did not end in time")), PATIENCE_MS);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
