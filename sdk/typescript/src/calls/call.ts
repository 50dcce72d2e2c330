/**
 * Calls of other services: the version by the routes, one retry, and where the time went.
 *
 * What is sent along (remaining time, trace, arms, depths) comes from the context of the work under
 * way. A call is told by whoever takes it, and by us where nobody did. `docs/decisions/005-calls.md`
 * has the rules. Start at {@link call}.
 */

import { setTimeout as pause } from "node:timers/promises";

import type { Msg } from "@nats-io/transport-node";

import { header, TooLarge, type HeaderPairs } from "../bus/bus.js";
import { Context } from "../context.js";
import type { Core } from "../core.js";
import { AbsentError, CallError } from "../errors.js";
import { nowUs } from "../memory/clock.js";
import { checkName } from "../name.js";
import type { Span, Attributes } from "../span.js";
import { call as subjectOf, callAny } from "../subject.js";
import { BYTES, Code, DEPTH_MAX, Header, readBody, wholeNumber } from "./headers.js";
import { LinkError, type Link } from "./link.js";
import { otherThan, SLOTS, slotOf, versionOf } from "./route.js";

/** How long a call waits in all unless said otherwise. */
export const TIMEOUT_MS = 5_000;
/** The pause between tries while services listen again. */
const SETTLE_EVERY_MS = 50;

/** How to call. */
export interface CallOptions {
  /** Calls with the same key go to the same version while its weight allows it. */
  key?: string | undefined;
  /** How long to wait in all; 5 s unless said otherwise, and never longer than our own caller waits. */
  timeoutMs?: number | undefined;
  /** Running it twice does no harm: a lost answer is asked for once more. */
  idempotent?: boolean | undefined;
}

/** What a call brought back. */
export interface Reply<T> {
  /** The body, read as JSON; bytes where it is said to be something else. */
  readonly data: T;
  /** Who answered, where it says so. */
  readonly version: string | undefined;
  readonly instance: string | undefined;
  /** Microseconds from sending to having the answer; of these, before the handler, in it, on the way. */
  readonly totalUs: number;
  readonly queueUs: number;
  readonly handlerUs: number;
  readonly networkUs: number;
}

interface Asked extends CallOptions {
  readonly service: string;
  readonly endpoint: string;
  readonly target: string;
  readonly body: Uint8Array | string;
  readonly isBytes: boolean;
}

/** A message that answers a call. */
interface Answered {
  readonly message: Msg;
  readonly sentMs: number;
  /** Whether a try before it got no answer, and may have run. */
  readonly wasLost: boolean;
}

/** Makes a call and tells its span, with the `hop` of a chain that it is; rejects with {@link CallError}. */
export async function call<T>(
  core: Core,
  service: string,
  endpoint: string,
  data: unknown,
  options: CallOptions = {},
  hop: Attributes = {},
): Promise<Reply<T>> {
  const around = Context.current();
  const span = core.beginSpan(`${service}.${endpoint}`, around.trace, { kind: "client", ...hop });
  try {
    const asked = prepare(service, endpoint, data, options, around);
    return readReply<T>(await attempt(core, asked, span.context(around), span), asked.target, span);
  } catch (error) {
    span.fail(error);
    throw error;
  } finally {
    core.endSpan(span);
  }
}

function prepare(service: string, endpoint: string, data: unknown, options: CallOptions, around: Context): Asked {
  const target = `${service}.${endpoint}`;
  const wrong = checkName("service", service) ?? checkName("endpoint", endpoint);
  if (wrong) throw new CallError(Code.failed, `cannot call ${target}: ${wrong}`, { mayHaveRun: false });
  if (around.depth >= DEPTH_MAX) {
    throw new CallError(
      Code.tooLarge,
      `${around.depth} calls enclose each other before ${target}, the most allowed; do services call each other in a circle?`,
      { mayHaveRun: false },
    );
  }
  const isBytes = data instanceof Uint8Array;
  try {
    return { ...options, service, endpoint, target, isBytes, body: isBytes ? data : (JSON.stringify(data) ?? "") };
  } catch (cause) {
    const why = `cannot call ${target}: the data have no JSON: ${String(cause)}`;
    throw new CallError(Code.failed, why, { mayHaveRun: false, cause });
  }
}

async function attempt(core: Core, asked: Asked, context: Context, span: Span): Promise<Answered> {
  const link = core.link();
  const beganMs = performance.now();
  const untilMs = Math.min(beganMs + (asked.timeoutMs ?? TIMEOUT_MS), context.deadline ?? Infinity);
  await link.routesKnown();
  const slot = asked.key ? slotOf(asked.service, asked.key) : Math.floor(Math.random() * SLOTS);
  let avoided: string | undefined;
  let isLast = false;
  let lost: LinkError | undefined;
  for (let attempts = 1; ; attempts++) {
    if (attempts > 1) span.attributes["attempts"] = attempts;
    const { subject, version, isIdempotent } = aim(link, asked, slot, avoided);
    const sentMs = performance.now();
    const leftMs = Math.max(untilMs - sentMs, 0);
    const mayRepeat = isIdempotent && !isLast;
    const headers = headersOf(core, asked, context, leftMs);
    const withinMs = mayRepeat ? leftMs / 2 : leftMs;
    try {
      const message = await link.request({ subject, payload: asked.body, headers, withinMs, givesUpWhenBroken: mayRepeat });
      if (isLast || header(message, Header.notRun) === undefined) {
        return { message, sentMs, wasLost: lost !== undefined };
      }
    } catch (error) {
      const failure = error instanceof LinkError ? error.failure : undefined;
      if (failure === "no-responders" && link.isSettling && leftMs > SETTLE_EVERY_MS) {
        await pause(SETTLE_EVERY_MS);
        continue;
      }
      const isLost = failure === "late" || failure === "broken";
      if (isLast || !(isLost ? mayRepeat : failure === "no-responders")) {
        // The try before may have run, whatever became of this one.
        const failed = explain(lost ?? error, asked, Math.round(performance.now() - beganMs));
        if (error instanceof LinkError && failed instanceof CallError) {
          tell(core, link, error, lineOf(asked, version, context, failed.code, performance.now() - beganMs));
        }
        throw failed;
      }
      if (isLost && error instanceof LinkError) {
        lost = error;
      } else {
        avoided = version;
        await link.askRoutes();
      }
    }
    isLast = true;
  }
}

/** Where to send: by the slot, past a version that nobody serves any more though the routes still say so. */
function aim(link: Link, asked: Asked, slot: number, avoided: string | undefined) {
  const route = link.route(asked.service);
  let version = route && versionOf(route, slot);
  if (route && avoided !== undefined && version === avoided) version = otherThan(route, avoided) ?? version;
  const subject =
    version === undefined ? callAny(asked.service, asked.endpoint) : subjectOf(asked.service, version, asked.endpoint);
  return { subject, version, isIdempotent: asked.idempotent || route?.idempotent?.includes(asked.endpoint) || false };
}

function headersOf(core: Core, asked: Asked, context: Context, leftMs: number): HeaderPairs {
  const headers: [string, string][] = [
    [Header.timeoutMs, String(Math.max(1, Math.floor(leftMs)))],
    [Header.caller, core.settings.service],
    [Header.depth, String(context.depth + 1)],
  ];
  const traceparent = context.traceparent();
  if (traceparent) headers.push([Header.traceparent, traceparent]);
  if (context.arm) headers.push([Header.arm, context.arm]);
  if (context.chainDepth > 0) headers.push([Header.chainDepth, String(context.chainDepth)]);
  if (asked.isBytes) headers.push([Header.contentType, BYTES]);
  return headers;
}

/** What went wrong, in words for whoever called. */
function explain(error: unknown, asked: Asked, waitedMs: number): unknown {
  const { target } = asked;
  if (error instanceof TooLarge) {
    const text = `the request to ${target} is more than the bus takes: ${error.message}`;
    return new CallError(Code.tooLarge, text, { mayHaveRun: false });
  }
  if (!(error instanceof LinkError)) return error;
  switch (error.failure) {
    case "no-responders":
      return new AbsentError(
        Code.busy,
        `nobody serves ${target}; is the service deployed, and has it an endpoint of this name?`,
        { mayHaveRun: false },
      );
    case "not-sent":
      return new CallError(Code.busy, `the bus was away for ${waitedMs} ms; ${target} was not called`, { mayHaveRun: false });
    case "late":
      return new CallError(Code.timeout, `${target} did not answer within ${waitedMs} ms; it may have run`);
    case "broken":
      return new CallError(Code.timeout, `${target} lost the connection within ${waitedMs} ms; it may have run`);
  }
}

/** What is told of a call that nobody took. */
function lineOf({ service, endpoint }: Asked, version: string | undefined, context: Context, status: number, ms: number) {
  const tookUs = Math.round(ms * 1000);
  return {
    time: nowUs() - tookUs,
    endpoint,
    status,
    duration_us: tookUs,
    callee: { service, ...(version === undefined ? {} : { version }) },
    ...(context.trace ? { trace_id: context.trace.traceId } : {}),
    ...(context.arm ? { arm: context.arm } : {}),
  };
}

/** Tells a call that nobody took. Where there was no answer, one that still comes shows that its service tells it. */
function tell(core: Core, link: Link, { failure, token }: LinkError, line: object): void {
  const now = () => core.tell("req", line);
  if (failure === "no-responders" || failure === "not-sent") now();
  else if (token !== undefined) link.tellUnlessAnswered(token, now);
}

function readReply<T>({ message, sentMs, wasLost }: Answered, target: string, span: Span): Reply<T> {
  const totalUs = Math.round((performance.now() - sentMs) * 1000);
  const queueUs = wholeNumber(header(message, Header.queueUs));
  const handlerUs = wholeNumber(header(message, Header.handlerUs));
  const networkUs = Math.max(0, totalUs - queueUs - handlerUs);
  Object.assign(span.attributes, { queue_us: queueUs, handler_us: handlerUs, network_us: networkUs });
  const code = header(message, Header.errorCode);
  const text = header(message, Header.error);
  let data: unknown;
  try {
    data = readBody(message.data, header(message, Header.contentType));
  } catch (cause) {
    if (code === undefined && text === undefined) {
      throw new CallError(Code.failed, `cannot read what ${target} answered: ${String(cause)}`, { cause });
    }
    data = message.data;
  }
  if (code !== undefined || text !== undefined) {
    throw new CallError(wholeNumber(code) || Code.failed, text ?? "it gave no reason", {
      body: data,
      mayHaveRun: wasLost || header(message, Header.notRun) === undefined,
    });
  }
  const version = header(message, Header.version);
  const instance = header(message, Header.instance);
  if (version !== undefined) span.attributes["peer_version"] = version;
  if (instance !== undefined) span.attributes["peer_instance"] = instance;
  return { data: data as T, version, instance, totalUs, queueUs, handlerUs, networkUs };
}
