/** What a call is answered with. Start at {@link Answer}. */

import type { HeaderPairs } from "../bus/bus.js";
import { BYTES, Header } from "../calls/headers.js";
import { CallError } from "../errors.js";
import type { WebResponse } from "./web.js";

/** Status, headers and body; or a web response. */
export interface Answer {
  readonly status: number;
  readonly body: Uint8Array;
  readonly headers: HeaderPairs;
  /** What went wrong, where something did. */
  readonly error?: string;
  readonly web?: WebResponse;
}

type Encoded = Pick<Answer, "body" | "headers">;

const NOTHING = new Uint8Array();

/** What a handler returned: bytes as they are, anything else as JSON. */
export function answerOf(value: unknown): Answer {
  return { status: 200, ...encoded(value) };
}

/** An error with its code and message; without its body where that has no JSON. */
export function answerOfError(error: CallError): Answer {
  const { body, headers } = moreOf(error);
  return {
    status: error.code,
    body,
    headers: [[Header.error, error.message], [Header.errorCode, String(error.code)], ...headers],
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

function moreOf(error: CallError): Encoded {
  try {
    return encoded(error.body);
  } catch (cause) {
    console.error("left out what more an error says:", cause);
    return { body: NOTHING, headers: [] };
  }
}

/** A body, and the headers that say what it is. */
function encoded(value: unknown): Encoded {
  if (value instanceof Uint8Array) return { body: value, headers: [[Header.contentType, BYTES]] };
  return { body: Buffer.from(JSON.stringify(value) ?? ""), headers: [] };
}
