/**
 * Serves endpoints over the bus: admits, runs handlers in the context of their calls, answers, drains.
 *
 * Start at {@link Server.start}; the way of one call is {@link Server.#handle}.
 */

import type { Msg } from "@nats-io/transport-node";

import { Away, header, headerPairs, TooLarge, type HeaderPairs, type Wanted } from "../bus/bus.js";
import { Code, hasFailed, Header, WEB_ENDPOINT, wholeNumber } from "../calls/headers.js";
import type { Link } from "../calls/link.js";
import { hasTrial } from "../calls/route.js";
import { addArm, Context } from "../context.js";
import type { Core } from "../core.js";
import { CallError } from "../errors.js";
import { nowUs } from "../memory/clock.js";
import type { Span } from "../span.js";
import { call as subjectOf, callInstance } from "../subject.js";
import { parseTrace } from "../trace.js";
import { within } from "../within.js";
import { Admission } from "./admit.js";
import { answerOf, answerOfError, answerOfWeb, answerUnrun, type Answer } from "./answer.js";
import { sendWeb } from "./chunks.js";
import type { Endpoint } from "./endpoint.js";
import { answerTo, subjectsOf, VERBS } from "./micro.js";
import { ofError, WebRequest, WebResponse, type Router } from "./web.js";

/** What is served. */
export interface Served {
  readonly endpoints: readonly Endpoint[];
  readonly router: Router;
  readonly concurrency: number;
  readonly waitingMax: number;
  readonly description: string;
}

/** A call between being taken and being answered. */
interface Taken {
  readonly endpoint: Endpoint;
  readonly message: Msg;
  readonly atMs: number;
  readonly timeUs: number;
  readonly deadline: number | undefined;
  startedMs: number | undefined;
  /** Of a web request, the pattern that its path matched. */
  pattern: string | undefined;
}

const sinceUs = (ms: number) => Math.max(0, Math.round((performance.now() - ms) * 1000));

/** Whether a status is the service's fault; a web request is timed out by its visitor. */
const isFault = ({ name }: Endpoint, status: number) => (name === WEB_ENDPOINT ? status >= Code.failed : hasFailed(status));

/** See the module. */
export class Server {
  readonly #core: Core;
  readonly #link: Link;
  readonly #served: Served;
  readonly #admission: Admission;
  readonly #started = new Date().toISOString();
  readonly #running = new Set<Promise<unknown>>();
  #wanted: Wanted[] = [];
  #isDraining = false;

  constructor(core: Core, served: Served) {
    this.#core = core;
    this.#link = core.link();
    this.#served = served;
    this.#admission = new Admission(served.concurrency, served.waitingMax);
  }

  /** Takes calls from now on; resolves once the bus knows it. */
  async start(): Promise<void> {
    const { bus } = this.#link;
    const { who } = this.#core;
    for (const endpoint of this.#served.endpoints) {
      const take = (message: Msg) => this.#take(endpoint, message);
      this.#wanted.push(
        bus.subscribe(subjectOf(who.service, who.version, endpoint.name), take, who.version),
        bus.subscribe(callInstance(who, endpoint.name), take),
      );
    }
    for (const verb of VERBS) {
      const tell = ({ reply }: Msg) => {
        const { description, endpoints } = this.#served;
        const told = answerTo(verb, who, this.#started, description, endpoints);
        if (reply) this.#publish(reply, Buffer.from(JSON.stringify(told)), []);
      };
      this.#wanted.push(...subjectsOf(verb, who).map((subject) => bus.subscribe(subject, tell)));
    }
    for (let isKnown = false; !isKnown; ) {
      await bus.connected();
      isKnown = await bus.flush().then(
        () => true,
        () => false,
      );
    }
  }

  /** Refuses new calls, and waits for those under way; whether all ended in time. */
  async drain(deadlineMs: number): Promise<boolean> {
    this.#isDraining = true;
    const untilMs = performance.now() + deadlineMs;
    await Promise.all(this.#wanted.splice(0).map((one) => this.#link.bus.unsubscribe(one)));
    return await within(Promise.all(this.#running), Math.max(0, untilMs - performance.now()));
  }

  #take(endpoint: Endpoint, message: Msg): void {
    const atMs = performance.now();
    const timeout = header(message, Header.timeoutMs);
    const deadline = timeout === undefined ? undefined : atMs + wholeNumber(timeout);
    const taken: Taken = { endpoint, message, atMs, timeUs: nowUs(), deadline, startedMs: undefined, pattern: undefined };
    this.#track(this.#handle(taken));
  }

  #track(work: Promise<unknown>): void {
    const tracked = work
      .catch((error: unknown) => this.#core.warn(`a call was not answered: ${String(error)}`))
      .finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
  }

  /** From taking a call to answering it. */
  async #handle(taken: Taken): Promise<void> {
    const { shared } = this.#core;
    if (this.#isDraining) {
      // Not a request of ours: the caller asks another instance.
      await this.#answer(taken, answerUnrun(Code.busy, "the instance drains"), new Context());
      return;
    }
    shared.startRequest();
    let status: number = Code.failed;
    try {
      status = await this.#admit(taken);
    } finally {
      shared.finishRequest(sinceUs(taken.atMs), isFault(taken.endpoint, status));
    }
  }

  async #admit(taken: Taken): Promise<number> {
    if (!this.#admission.hasRoom) {
      return await this.#refuse(taken, Code.busy, "too many calls are being handled");
    }
    const leftMs = taken.deadline === undefined ? undefined : taken.deadline - performance.now();
    if (!(await this.#admission.enter(leftMs))) {
      return await this.#refuse(taken, Code.timeout, "the time was over before the handler ran");
    }
    return await this.#run(taken);
  }

  /** Answers without running the handler; the status. */
  async #refuse(taken: Taken, code: number, why: string): Promise<number> {
    const span = this.#begin(taken);
    const context = span.context(this.#contextOf(taken, header(taken.message, Header.arm)));
    return await this.#told(taken, answerUnrun(code, why), context, span);
  }

  /** Runs the handler in the context of the call, and answers no later than the caller waits. */
  async #run(taken: Taken): Promise<number> {
    const span = this.#begin(taken);
    const context = span.context(this.#contextOf(taken, this.#armOf(taken)));
    taken.startedMs = performance.now();
    const work = context.run(() => this.#work(taken, context));
    // A handler cannot be stopped: its place is given back when it ends.
    this.#track(work.finally(() => this.#admission.leave()));
    const answer = await this.#inTime(work, taken);
    return await context.run(() => this.#told(taken, answer, context, span));
  }

  #begin({ endpoint, message, timeUs, atMs }: Taken): Span {
    const above = parseTrace(header(message, Header.traceparent) ?? "");
    return this.#core.beginSpan(endpoint.name, above, { kind: "server" }, { us: timeUs, ms: atMs });
  }

  async #inTime(work: Promise<Answer>, { deadline }: Taken): Promise<Answer> {
    if (deadline === undefined) return await work;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<Answer>((tell) => {
      const over = () => tell(answerOfError(new CallError(Code.timeout, "the time was over before the handler ended")));
      timer = setTimeout(over, Math.max(0, deadline - performance.now()));
    });
    const answer = await Promise.race([work, late]);
    clearTimeout(timer);
    return answer;
  }

  /** The arms of the call, with ours where our service is under trial. */
  #armOf({ message }: Taken): string | undefined {
    const { service, version } = this.#core.who;
    const route = this.#link.route(service);
    const arm = header(message, Header.arm);
    return route && hasTrial(route) ? addArm(arm, service, version) : arm;
  }

  #contextOf({ message, deadline }: Taken, arm: string | undefined): Context {
    return new Context({
      arm,
      deadline,
      caller: header(message, Header.caller),
      depth: wholeNumber(header(message, Header.depth)),
      chainDepth: wholeNumber(header(message, Header.chainDepth)),
    });
  }

  /** Runs the handler; whatever it throws is an answer. */
  async #work(taken: Taken, context: Context): Promise<Answer> {
    const { endpoint, message } = taken;
    const isWeb = endpoint.name === WEB_ENDPOINT;
    try {
      if (isWeb) {
        const request = WebRequest.read(headerPairs(message), message.data);
        const handler = this.#served.router.find(request);
        taken.pattern = request.pattern;
        return answerOfWeb(await WebResponse.of(await handler(request)));
      }
      const data = endpoint.read(message.data, header(message, Header.contentType));
      return answerOf(await endpoint.handler(data, context));
    } catch (error) {
      if (error instanceof CallError) return isWeb ? answerOfWeb(ofError(error)) : answerOfError(error);
      const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
      console.error(`the handler of ${endpoint.name} failed:`, error);
      // What failed inside is not for whoever browses.
      if (isWeb) return answerOfWeb(ofError(new CallError(Code.failed, "the service failed")));
      return answerOfError(new CallError(Code.failed, text));
    }
  }

  /** Answers, and tells the row of the call and its span; the status. */
  async #told(taken: Taken, answer: Answer, context: Context, span: Span): Promise<number> {
    const { endpoint, startedMs, atMs } = taken;
    const sent = await this.#answer(taken, answer, context);
    const { status, error } = sent;
    const tookUs = sinceUs(atMs);
    const handlerUs = startedMs === undefined ? 0 : sinceUs(startedMs);
    const queueUs = Math.max(0, tookUs - handlerUs);
    const caller = context.caller ? { caller: context.caller } : {};
    endpoint.count(tookUs, status >= 400 ? (error ?? `answered ${status}`) : undefined);
    // The row of a web request is told by the gateway alone.
    if (endpoint.name !== WEB_ENDPOINT) {
      this.#core.tell("req", {
        time: taken.timeUs,
        endpoint: endpoint.name,
        status,
        duration_us: tookUs,
        queue_us: queueUs,
        bytes: sent.body.length,
        trace_id: span.trace.traceId,
        ...caller,
        ...(context.arm ? { arm: context.arm } : {}),
      });
    }
    Object.assign(span.attributes, { status, queue_us: queueUs, handler_us: handlerUs, ...caller });
    if (error !== undefined) span.attributes["error"] = error;
    span.hasFailed = isFault(endpoint, status);
    this.#core.endSpan(span);
    return status;
  }

  /** What was answered in the end. */
  async #answer(taken: Taken, answer: Answer, context: Context): Promise<Answer> {
    const { reply } = taken.message;
    const { instance, version } = this.#core.who;
    const own: [string, string][] = [
      [Header.instance, instance],
      [Header.version, version],
    ];
    if (taken.startedMs !== undefined) {
      own.push([Header.queueUs, String(Math.round((taken.startedMs - taken.atMs) * 1000))]);
      own.push([Header.handlerUs, String(sinceUs(taken.startedMs))]);
    }
    if (taken.pattern !== undefined) own.push([Header.webPattern, taken.pattern]);
    if (!reply) return answer;
    try {
      const { web } = answer;
      if (!web) this.#link.bus.publish(reply, answer.body, { headers: [...own, ...answer.headers] });
      else {
        const window = header(taken.message, Header.webWindow);
        const sending = { link: this.#link, reply, own, window, warn: (text: string) => this.#core.warn(text) };
        await context.run(() => sendWeb(sending, web));
      }
    } catch (error) {
      // An answer is lost with its connection.
      if (error instanceof Away) return answer;
      if (!(error instanceof TooLarge)) throw error;
      const why = `the reply has ${answer.body.length} bytes, more than the bus takes`;
      const refusal = answerOfError(new CallError(Code.tooLarge, why));
      this.#publish(reply, refusal.body, [...own, ...refusal.headers]);
      return refusal;
    }
    return answer;
  }

  #publish(reply: string, payload: Uint8Array, headers: HeaderPairs): void {
    try {
      this.#link.bus.publish(reply, payload, { headers });
    } catch (error) {
      if (!(error instanceof Away)) throw error;
    }
  }
}
