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
