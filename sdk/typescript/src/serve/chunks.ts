/**
 * How a web answer is sent: status and headers with the first message, `more` on all but the last.
 *
 * An answer of many messages is no further ahead of its reader than its window, and ends when nobody reads any
 * more; a service's iterator is asked to return then. Start at {@link sendWeb}.
 */

import { Away, TooLarge, type HeaderPairs } from "../bus/bus.js";
import { Code, Header } from "../calls/headers.js";
import type { Link } from "../calls/link.js";
import { CallError } from "../errors.js";
import { answerOfError } from "./answer.js";
import { Flow } from "./flow.js";
import { CHUNK_BYTES, isChunks, toBytes, type Chunks, type WebResponse } from "./web.js";

/** A stream waits for the bus after this much. */
const FLUSH_EVERY_BYTES = 1 << 20;
const NOTHING = new Uint8Array();
const MORE: HeaderPairs = [[Header.webMore, "1"]];

/** What is needed to send a web answer. */
export interface Sending {
  readonly link: Link;
  readonly reply: string;
  /** Of ours, beside the answer's. */
  readonly own: HeaderPairs;
  /** As the request says it. */
  readonly window: string | undefined;
  readonly warn: (text: string) => void;
}

/** Sends a web answer. */
export async function sendWeb(sending: Sending, web: WebResponse): Promise<void> {
  const { link, reply, own, window } = sending;
  const { body } = web;
  const head = [...own, ...web.head()];
  if (!isChunks(body) && body.length <= CHUNK_BYTES) return link.bus.publish(reply, body, { headers: head });
  const flow = new Flow(link, window);
  try {
    if (isChunks(body)) await sendStream(sending, body, head, flow);
    else await sendPieces(sending, body, head, flow);
  } finally {
    flow.end();
  }
}

async function sendPieces({ link, reply }: Sending, body: Uint8Array, head: HeaderPairs, flow: Flow): Promise<void> {
  let headers = head;
  let at = 0;
  for (const piece of pieces(body)) {
    if (!(await flow.maySend())) return;
    at += piece.length;
    if (at === body.length) link.bus.publish(reply, piece, { headers });
    else link.bus.publish(reply, piece, { reply: flow.subject, headers: [...headers, ...MORE] });
    headers = [];
  }
}

async function sendStream({ link, reply, own, warn }: Sending, chunks: Chunks, head: HeaderPairs, flow: Flow): Promise<void> {
  const asked = new Asked(chunks);
  let headers = head;
  let unflushed = 0;
  try {
    // A message may be sent before the service is asked for what is in it.
    while (await flow.maySend()) {
      const chunk = await flow.unlessLeft(asked.next());
      if (chunk === undefined) break;
      for (const [index, piece] of [...pieces(toBytes(chunk))].entries()) {
        if (index > 0 && !(await flow.maySend())) return;
        link.bus.publish(reply, piece, { reply: flow.subject, headers: [...headers, ...MORE] });
        headers = [];
        unflushed += piece.length;
      }
      if (unflushed > FLUSH_EVERY_BYTES) {
        await link.bus.flush();
        unflushed = 0;
      }
    }
    if (!flow.isLeft) link.bus.publish(reply, NOTHING, { headers });
  } catch (error) {
    if (error instanceof Away || error instanceof TooLarge) throw error;
    warn(`a stream failed: ${String(error)}`);
    const failed = answerOfError(new CallError(Code.failed, "the stream failed"));
    const status: HeaderPairs = headers.length > 0 ? [...own, [Header.webStatus, String(Code.failed)]] : [];
    link.bus.publish(reply, NOTHING, { headers: [...status, ...failed.headers] });
  } finally {
    asked.close(warn);
  }
}

/** The chunks of a service's iterator. */
class Asked {
  readonly #iterator: Iterator<string | Uint8Array> | AsyncIterator<string | Uint8Array>;
  #isOver = false;

  constructor(chunks: Chunks) {
    this.#iterator = Symbol.asyncIterator in chunks ? chunks[Symbol.asyncIterator]() : chunks[Symbol.iterator]();
  }

  async next(): Promise<string | Uint8Array | undefined> {
    try {
      const { done, value } = await this.#iterator.next();
      this.#isOver = done === true;
      return done ? undefined : value;
    } catch (error) {
      this.#isOver = true;
      throw error;
    }
  }

  /** Ends an iterator that has more. Not awaited: a generator that waits for something returns when that has come. */
  close(warn: (text: string) => void): void {
    if (this.#isOver) return;
    const returning = Promise.resolve().then(() => this.#iterator.return?.());
    returning.catch((error: unknown) => warn(`the end of a stream failed: ${String(error)}`));
  }
}

function* pieces(bytes: Uint8Array): Generator<Uint8Array> {
  // At least one, also of nothing: a message for each that may be sent.
  for (let at = 0; at === 0 || at < bytes.length; at += CHUNK_BYTES) yield bytes.subarray(at, at + CHUNK_BYTES);
}
