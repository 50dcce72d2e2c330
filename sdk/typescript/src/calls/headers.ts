/**
 * What a call carries beside its body: headers of the request and of the reply, and codes.
 *
 * Errors travel as the micro protocol has them (ADR-32). Names are compared exactly.
 */

/** The headers by what they say. */
export const Header = {
  /** Milliseconds the caller will still wait, at the moment of sending. */
  timeoutMs: "serin-timeout-ms",
  /** The service that calls. */
  caller: "serin-from",
  /** The canary arms taken on the way here. */
  arm: "serin-arm",
  /** W3C trace context. */
  traceparent: "traceparent",
  /** How many calls enclose this one: 0, or absent, where it comes from no call. */
  depth: "serin-depth",
  /** How many chains enclose this call. */
  chainDepth: "serin-chain-depth",
  /** What the body is, where it is not JSON. */
  contentType: "content-type",
  /** Reply: who answered, and its version. */
  instance: "serin-instance",
  version: "serin-version",
  /** Reply: microseconds between taking the message and starting the handler, and in it. */
  queueUs: "serin-queue-us",
  handlerUs: "serin-handler-us",
  /** Reply: the handler did not run, so that the call may be made again elsewhere. */
  notRun: "serin-not-run",
  /** Reply: what went wrong, one line, and its code. */
  error: "Nats-Service-Error",
  errorCode: "Nats-Service-Error-Code",
  /** Web request: `GET /path?query`. */
  webRequest: "serin-http",
  /** Web reply: the status; and that more chunks of the body follow. */
  webStatus: "serin-http-status",
  webMore: "serin-http-more",
  /** Web reply: the pattern that the path matched, where it matched one: requests are counted by it. */
  webPattern: "serin-http-pattern",
  /** Web request: messages of the answer that may be sent ahead of those that were taken. */
  webWindow: "serin-http-window",
  /** To the reply subject of a chunk: how many messages of the answer were taken so far. */
  webTaken: "serin-http-taken",
} as const;

/** The content type of a body of bytes. */
export const BYTES = "application/octet-stream";
/** Calls that may enclose each other; services that call each other in a circle end here. */
export const DEPTH_MAX = 32;
/** Web requests over the bus go to the endpoint of this name. */
export const WEB_ENDPOINT = "http";
/** Before the lower-case name of each HTTP header, both ways. */
export const WEB_HEADER_PREFIX = "h-";

/** Codes, as HTTP has them. */
export const Code = {
  /** The body could not be understood. */
  badRequest: 400,
  /** The time was over before the handler ran or ended. */
  timeout: 408,
  /** A bound was passed: size, depth. */
  tooLarge: 413,
  /** The handler failed without a code of its own. */
  failed: 500,
  /** Too much is being handled, or the instance drains; the handler did not run. */
  busy: 503,
} as const;

/** Whether a call that ended with this code counts as failed: by its service's fault, not its caller's. */
export function hasFailed(code: number): boolean {
  return code >= Code.failed || code === Code.timeout;
}

/** The status of HTTP for what fails with this code: there 408 would be the visitor's fault. */
export function webStatus(code: number): number {
  if (code === Code.timeout) return 504;
  return code >= 400 && code < 600 ? code : Code.failed;
}

/** A whole number in a header; 0 where there is none. */
export function wholeNumber(text: string | undefined): number {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : 0;
}

/** A body as JSON, or as bytes where it is said to be something else; nothing is `undefined`. */
export function readBody(bytes: Uint8Array, contentType: string | undefined): unknown {
  if (contentType && !contentType.includes("json")) return bytes;
  return bytes.length === 0 ? undefined : JSON.parse(new TextDecoder().decode(bytes));
}
