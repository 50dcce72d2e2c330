/**
 * What a call is answered with, and how a web answer is sent in chunks.
 *
 * Start at {@link Answer} and {@link sendWeb}.
 */

import { Away, TooLarge, type HeaderPairs } from "../bus/bus.js";
import { BYTES, Code, Header } from "../calls/headers.js";
import type { Link } from "../calls/link.js";
import { CallError } from "../errors.js";
import { CHUNK_BYTES, isChunks, toBytes, type Chunks, type WebResponse } from "./web.js";

/** A stream waits for the bus after this much. */
const FLUSH_EVERY_BYTES = 1 << 20;
const MORE: HeaderPairs = [[Header.webMore, "1"]];

/** Status, headers and body; or a web response. */
export interface Answer {
  readonly status: number;
  readonly body: Uint8Array;
  readonly headers: HeaderPairs;
  /** What went wrong, where something did. */
  readonly error?: string;
  readonly web?: WebResponse;
}

const NOTHING = new Uint8Array();

/** What a handler returned: bytes as they are, anything else as JSON. */
export function answerOf(value: unknown): Answer {
  const headers: HeaderPairs = value instanceof Uint8Array ? [[Header.contentType, BYTES]] : [];
  const body = value instanceof Uint8Array ? value : Buffer.from(JSON.stringify(value) ?? "");
  return { status: 200, body, headers };
}

/** An error with its code and message. */
export function answerOfError(error: CallError): Answer {
  return {
    status: error.code,
    body: error.body === undefined ? NOTHING : Buffer.from(JSON.stringify(error.body) ?? ""),
    headers: [
      [Header.error, error.message],
      [Header.errorCode, String(error.code)],
    ],
    error: error.message,
  };
}

/** A refusal: the handler did not run. */
export function answerUnrun(code: number, message: string): Answer {
  const answer = answerOfError(new CallError(code, message, { mayHaveRun: false }));
  return { ...answer, headers: [...answer.headers, [Header.notRun, "1"]] };
}

/** A web answer. */
export function answerOfWeb(web: WebResponse): Answer {
  const error = web.status < 400 ? {} : { error: `answered ${web.status}` };
  return { status: web.status, body: NOTHING, headers: [], web, ...error };
}

/**
 * Sends a web answer: status and headers with the first chunk, `more` on all but the last.
 *
 * A stream carries a reply subject of ours, where we are told when nobody reads any more: by the gateway,
 * or by the bus where nobody listens. Then the service's iterator is asked to return.
 */
export async function sendWeb(link: Link, reply: string, web: WebResponse, own: HeaderPairs, warn: (text: string) => void): Promise<void> {
  const head = [...own, ...web.head()];
  if (isChunks(web.body)) return await sendStream(link, reply, web.body, head, own, warn);
  const { body } = web;
  let at = 0;
  let headers: HeaderPairs = head;
  for (; body.length - at > CHUNK_BYTES; at += CHUNK_BYTES) {
    link.bus.publish(reply, body.subarray(at, at + CHUNK_BYTES), { headers: [...headers, ...MORE] });
    headers = [];
  }
  link.bus.publish(reply, body.subarray(at), { headers });
}

async function sendStream(
  link: Link,
  reply: string,
  chunks: Chunks,
  head: HeaderPairs,
  own: HeaderPairs,
  warn: (text: string) => void,
): Promise<void> {
  const { token, answer } = link.expect();
  const asked = new Asked(chunks);
  const leave = () => asked.leave();
  answer.then(leave, leave);
  let headers = head;
  let unflushed = 0;
  try {
    for (let chunk = await asked.next(); chunk !== undefined; chunk = await asked.next()) {
      for (const piece of pieces(toBytes(chunk))) {
        link.bus.publish(reply, piece, { reply: link.inbox(token), headers: [...headers, ...MORE] });
        headers = [];
        unflushed += piece.length;
      }
      if (unflushed > FLUSH_EVERY_BYTES) {
        await link.bus.flush();
        unflushed = 0;
      }
    }
    if (!asked.isLeft) link.bus.publish(reply, NOTHING, { headers });
  } catch (error) {
    if (error instanceof Away || error instanceof TooLarge) throw error;
    warn(`a stream failed: ${String(error)}`);
    const failed = answerOfError(new CallError(Code.failed, "the stream failed"));
    const status: HeaderPairs = headers.length > 0 ? [...own, [Header.webStatus, String(Code.failed)]] : [];
    link.bus.publish(reply, NOTHING, { headers: [...status, ...failed.headers] });
  } finally {
    link.forget(token);
    asked.close(warn);
  }
}

/** The chunks of a service's iterator, until it ends or nobody reads them any more. */
class Asked {
  readonly #iterator: Iterator<string | Uint8Array> | AsyncIterator<string | Uint8Array>;
  #isOver = false;
  #tellLeft = () => {};
  isLeft = false;

  constructor(chunks: Chunks) {
    this.#iterator = Symbol.asyncIterator in chunks ? chunks[Symbol.asyncIterator]() : chunks[Symbol.iterator]();
  }

  /** Nobody reads any more. */
  leave(): void {
    this.isLeft = true;
    this.#tellLeft();
  }

  async next(): Promise<string | Uint8Array | undefined> {
    return await new Promise((tell, fail) => {
      this.#tellLeft = () => tell(undefined);
      if (this.isLeft) tell(undefined);
      else this.#ask().then(tell, fail);
    });
  }

  async #ask(): Promise<string | Uint8Array | undefined> {
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
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) yield bytes.subarray(at, at + CHUNK_BYTES);
}
