/**
 * One connection to the bus that stands for ever: made anew whenever it breaks.
 *
 * The NATS client keeps what was published while disconnected and sends it later, which would put
 * events out of order and answer calls nobody waits for. So each connection here is a new one: a
 * message is handed over only while connected, and subscriptions are made again.
 */

import { randomBytes } from "node:crypto";

import {
  connect,
  headers as newHeaders,
  type Msg,
  type MsgHdrs,
  type NatsConnection,
  type Subscription,
} from "@nats-io/transport-node";

import type { Address } from "../options.js";
import { inbox } from "../subject.js";
import { within } from "../within.js";
import { Trouble } from "./trouble.js";

/** Headers to send, in order; a name may stand more than once. */
export type HeaderPairs = readonly (readonly [name: string, value: string])[];
/** Takes a message. It must not throw. */
export type Take = (message: Msg) => void;

/** A connection that is silent is asked after this, and given up after two more. */
const PING_EVERY_MS = 5_000;
const CONNECT_WITHIN_MS = 2_000;
const RECONNECT_EVERY_MS = 100;
/** How long the end waits for what was published to be out. */
const FLUSH_WITHIN_MS = 1_000;
/** NATS's own default, until the server has said its bound. */
const PAYLOAD_BYTES_MAX = 1 << 20;

/** The bus cannot be reached now; nothing was sent. */
export class Away extends Error {
  override readonly name = "Away";
}

/** The message is larger than the bus takes. */
export class TooLarge extends Error {
  override readonly name = "TooLarge";
}

/** A subscription that outlives connections. */
export interface Wanted {
  readonly subject: string;
  readonly queue: string | undefined;
  readonly take: Take;
  made: Subscription | undefined;
}

/** See the module. */
export class Bus {
  readonly #address: Address;
  readonly #name: string;
  readonly #onChange: () => void;
  readonly #warn: (text: string) => void;
  readonly #wanted = new Set<Wanted>();
  #waiting: (() => void)[] = [];
  #client: NatsConnection | undefined;
  #isEnding = false;
  readonly #trouble = new Trouble();
  #retry: NodeJS.Timeout | undefined;
  /** When the bus was found again, by `performance.now()`; `undefined` before a second connection. */
  foundAgainMs: number | undefined;
  /** Rises with each connection, so that one knows which sendings died with one. */
  connection = 0;

  /** `onChange` is called whenever the connection breaks or stands again. */
  constructor(address: Address, name: string, onChange: () => void, warn: (text: string) => void) {
    this.#address = address;
    this.#name = name;
    this.#onChange = onChange;
    this.#warn = warn;
  }

  /** Connects in the background and for ever. */
  start(): void {
    void this.#stand();
  }

  /** What subjects begin with that answers to us, and nobody else's, come to. */
  newInbox(): string {
    return `${inbox(this.#address.user)}.${randomBytes(12).toString("hex")}`;
  }

  /** Whether a message can be sent now. */
  get isConnected(): boolean {
    return this.#client !== undefined;
  }

  /** Resolves once the connection stands. */
  async connected(): Promise<void> {
    while (!this.#client) await new Promise<void>((tell) => this.#waiting.push(tell));
  }

  /** Hands a message over; throws {@link Away} or {@link TooLarge}. */
  publish(subject: string, payload: Uint8Array | string, more: { reply?: string; headers?: HeaderPairs } = {}): void {
    const client = this.#client;
    if (!client || client.isClosed()) throw new Away("the bus is away");
    const { reply, headers } = more;
    const bytes = typeof payload === "string" ? Buffer.from(payload) : payload;
    const said = headers?.length ? toHeaders(headers) : undefined;
    if (bytes.length + headerBytes(headers) > (client.info?.max_payload ?? PAYLOAD_BYTES_MAX)) {
      throw new TooLarge(`a message of ${bytes.length} bytes is more than the bus takes`);
    }
    client.publish(subject, bytes, { ...(reply ? { reply } : {}), ...(said ? { headers: said } : {}) });
  }

  /** Has a function called for each message, on this connection and all later ones. */
  subscribe(subject: string, take: Take, queue?: string): Wanted {
    const wanted: Wanted = { subject, queue, take, made: undefined };
    this.#wanted.add(wanted);
    this.#make(wanted);
    return wanted;
  }

  /** Takes no more messages, once those that were sent to us already are taken. */
  async unsubscribe(wanted: Wanted): Promise<void> {
    this.#wanted.delete(wanted);
    const made = wanted.made;
    if (made && this.#client) await within(made.drain(), FLUSH_WITHIN_MS);
  }

  /** Resolves once the bus has taken everything so far; throws {@link Away}. */
  async flush(): Promise<void> {
    const client = this.#client;
    const isOut = client && (await within(Promise.race([client.flush(), isClosed(client)]), CONNECT_WITHIN_MS));
    if (!isOut || this.#client !== client) throw new Away("the bus is away");
  }

  /** Sends what is pending, and ends. */
  async close(): Promise<void> {
    this.#isEnding = true;
    clearTimeout(this.#retry);
    const client = this.#client;
    if (!client) return;
    await within(client.flush(), FLUSH_WITHIN_MS);
    await within(client.close(), FLUSH_WITHIN_MS);
  }

  async #stand(): Promise<void> {
    try {
      const { host, port, user, password, token } = this.#address;
      const client = await connect({
        servers: `${host.includes(":") ? `[${host}]` : host}:${port}`,
        name: this.#name,
        reconnect: false,
        timeout: CONNECT_WITHIN_MS,
        pingInterval: PING_EVERY_MS,
        noAsyncTraces: true,
        ...(user === undefined ? {} : { user }),
        ...(password === undefined ? {} : { pass: password }),
        ...(token === undefined ? {} : { token }),
      });
      if (this.#isEnding) return await client.close();
      this.#stands(client);
      const error = await client.closed();
      if (error) this.#tell(error);
    } catch (error) {
      this.#tell(error);
    }
    if (this.#client) {
      this.#client = undefined;
      this.#onChange();
    }
    if (!this.#isEnding) this.#retry = setTimeout(() => void this.#stand(), RECONNECT_EVERY_MS);
  }

  #stands(client: NatsConnection): void {
    this.#client = client;
    this.connection += 1;
    if (this.connection > 1) this.foundAgainMs = performance.now();
    this.#trouble.end();
    for (const wanted of this.#wanted) this.#make(wanted);
    void this.#watch(client);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const tell of waiting) tell();
    this.#onChange();
  }

  #make(wanted: Wanted): void {
    const { subject, queue, take } = wanted;
    if (!this.#client) return;
    wanted.made = this.#client.subscribe(subject, {
      ...(queue === undefined ? {} : { queue }),
      callback: (error, message) => (error ? this.#tell(error) : take(message)),
    });
  }

  /** What the server says beside messages: a permission that is missing, a slow consumer. */
  async #watch(client: NatsConnection): Promise<void> {
    for await (const status of client.status()) {
      if (status.type === "error") this.#tell(status.error);
    }
  }

  /** Says once what is wrong, not at each of ten tries a second. */
  #tell(error: unknown): void {
    const said = error instanceof Error ? error.message : String(error);
    const isNews = this.#trouble.isNews(said, performance.now());
    if (isNews && !this.#isEnding) this.#warn(`the bus: ${said}`);
  }
}

/** All headers of a message, in order by name. */
export function headerPairs(message: Msg): [string, string][] {
  return [...(message.headers ?? [])].flatMap(([name, values]) =>
    values.map((value): [string, string] => [name, value]),
  );
}

/** The last value of a header. */
export function header(message: Msg, name: string): string | undefined {
  return message.headers?.has(name) ? message.headers.last(name) : undefined;
}

function toHeaders(pairs: HeaderPairs): MsgHdrs {
  const headers = newHeaders();
  // A line break would end the header.
  for (const [name, value] of pairs) headers.append(name, value.replace(/[\r\n]+/g, " "));
  return headers;
}

function headerBytes(pairs: HeaderPairs | undefined): number {
  // "NATS/1.0", then "name: value" each with a line break.
  return (pairs ?? []).reduce((sum, [name, value]) => sum + name.length + Buffer.byteLength(value) + 4, 12);
}

const isClosed = async (client: NatsConnection) => {
  await client.closed();
  throw new Away("the bus is away");
};
