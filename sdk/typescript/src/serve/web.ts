/**
 * Web requests over the bus: what the gateway sends to the endpoint `http`, and what it gets back.
 *
 * Start at {@link WebRequest}, {@link WebResponse} and {@link Router}. No IO.
 */

import type { HeaderPairs } from "../bus/bus.js";
import { BYTES, Code, Header, WEB_HEADER_PREFIX, webStatus } from "../calls/headers.js";
import { CallError } from "../errors.js";

/** A body is sent in messages of at most this; NATS takes 1 MiB with headers by default. */
export const CHUNK_BYTES = 256 << 10;

/** Pieces of a body that come one after the other. */
export type Chunks = Iterable<string | Uint8Array> | AsyncIterable<string | Uint8Array>;

/** A web request; header names are lower case. */
export class WebRequest {
  readonly method: string;
  /** Decoded, without the service's own prefix. */
  readonly path: string;
  /** As it was sent, percent-encoded. */
  readonly rawPath: string;
  /** The last value by name. */
  readonly query: Readonly<Record<string, string>>;
  /** All values in order. */
  readonly search: URLSearchParams;
  readonly headers: Readonly<Record<string, string>>;
  readonly headerPairs: HeaderPairs;
  readonly body: Uint8Array;
  /** What the pattern's `{names}` matched. */
  params: Readonly<Record<string, string>> = {};
  /** The path of the pattern that matched, `/items/{id}`; `undefined` where none did. */
  pattern: string | undefined;

  constructor(target: string, headerPairs: HeaderPairs, body: Uint8Array) {
    const [, method = "GET", rawPath = "/", query = ""] = /^(\S+) ([^?]*)\??(.*)$/s.exec(target) ?? [];
    this.method = method;
    this.rawPath = rawPath || "/";
    this.path = decoded(this.rawPath);
    this.search = new URLSearchParams(query);
    this.query = Object.fromEntries(this.search);
    this.headerPairs = headerPairs;
    this.headers = Object.fromEntries(headerPairs);
    this.body = body;
  }

  /** From the headers of the message. */
  static read(headers: HeaderPairs, body: Uint8Array): WebRequest {
    const target = headers.find(([name]) => name === Header.webRequest)?.[1] ?? "GET /";
    const own = headers.filter(([name]) => name.startsWith(WEB_HEADER_PREFIX));
    return new WebRequest(
      target,
      own.map(([name, value]) => [name.slice(WEB_HEADER_PREFIX.length).toLowerCase(), value]),
      body,
    );
  }

  /** A request for tests: `WebRequest.of("POST /items", { body: "{}" })`. */
  static of(target: string, more: { headers?: Record<string, string>; body?: string | Uint8Array } = {}): WebRequest {
    const pairs = Object.entries(more.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value] as const);
    return new WebRequest(target, pairs, toBytes(more.body ?? ""));
  }

  /** The body as text. */
  text(): string {
    return new TextDecoder().decode(this.body);
  }

  /** The body as JSON; answers 400 where it is none. */
  json<T = unknown>(): T {
    try {
      return JSON.parse(this.text()) as T;
    } catch (cause) {
      throw new CallError(Code.badRequest, `the body is not JSON: ${String(cause)}`, { cause });
    }
  }

  /** The body as fields of a form. */
  form(): URLSearchParams {
    return new URLSearchParams(this.text());
  }
}

/** Headers of an answer: an object, or pairs where a name stands more than once. */
export type WebHeaders = Readonly<Record<string, string>> | HeaderPairs;

const pairsOf = (headers: WebHeaders): HeaderPairs =>
  Array.isArray(headers) ? (headers as HeaderPairs) : Object.entries(headers as Record<string, string>);

/** A web answer with status and headers. `body` is text, bytes, any JSON, or chunks that come one by one. */
export class WebResponse {
  readonly status: number;
  readonly headers: HeaderPairs;
  /** Bytes, or a stream of pieces. */
  readonly body: Uint8Array | Chunks;

  constructor(body?: unknown, more: { status?: number; headers?: WebHeaders } = {}) {
    const { status = 200, headers = [] } = more;
    const named = pairsOf(headers).map(([name, value]) => [name.toLowerCase(), value] as const);
    const hasType = named.some(([name]) => name === "content-type");
    const type = typeOf(body);
    this.status = status;
    this.headers = hasType || type === undefined ? named : [...named, ["content-type", type]];
    this.body = isChunks(body) ? body : toBytes(body);
  }

  /** What a handler returned, as an answer. */
  static async of(value: unknown): Promise<WebResponse> {
    if (value instanceof WebResponse) return value;
    if (!(value instanceof Response)) return new WebResponse(value);
    // Of the standard's Response; it does not say whether its body streams, so it does.
    const cookies = value.headers.getSetCookie().map((cookie) => ["set-cookie", cookie] as const);
    const others = [...value.headers].filter(([name]) => name !== "set-cookie");
    const body = value.body as AsyncIterable<Uint8Array> | null;
    return new WebResponse(body ?? new Uint8Array(), { status: value.status, headers: [...others, ...cookies] });
  }

  /** Status and headers for the first message. */
  head(): HeaderPairs {
    const own = this.headers.map(([name, value]) => [WEB_HEADER_PREFIX + name, value] as const);
    return [[Header.webStatus, String(this.status)], ...own];
  }
}

/** An answer that is a page. What comes from outside must be escaped. */
export function html(text: string, status = 200, headers: WebHeaders = []): WebResponse {
  const given = pairsOf(headers);
  const hasType = given.some(([name]) => name.toLowerCase() === "content-type");
  const type = ["content-type", "text/html; charset=utf-8"] as const;
  return new WebResponse(text, { status, headers: hasType ? given : [...given, type] });
}

/**
 * Sends the visitor elsewhere, as after a form. `items/7` is below the page they are at; a path from the root begins
 * with where the service is mounted, which the header `x-forwarded-prefix` says.
 */
export function redirect(location: string, status = 303, headers: WebHeaders = []): WebResponse {
  // What a header cannot carry is encoded, so that a value from outside adds no header of its own.
  const place = location.replace(/[^\x21-\x7e]+/g, (text) => encodeURIComponent(text.toWellFormed()));
  return new WebResponse(undefined, { status, headers: [["location", place], ...pairsOf(headers)] });
}

/** An error as a web answer. */
export function ofError(error: CallError): WebResponse {
  return new WebResponse({ error: error.message }, { status: webStatus(error.code) });
}

/** A body, or a chunk of one. */
export function toBytes(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return value;
  if (typeof value === "string") return Buffer.from(value);
  return Buffer.from(value === undefined ? "" : JSON.stringify(value));
}

/** Whether a body comes piece by piece: what can be iterated, and is no value of JSON. */
export function isChunks(body: unknown): body is Chunks {
  if (typeof body !== "object" || body === null || Array.isArray(body) || body instanceof Uint8Array) return false;
  return Symbol.asyncIterator in body || Symbol.iterator in body;
}

function typeOf(body: unknown): string | undefined {
  if (body === undefined) return undefined;
  if (body instanceof Uint8Array) return BYTES;
  if (typeof body === "string" || isChunks(body)) return "text/plain; charset=utf-8";
  return "application/json";
}

/** Answers a web request: text, bytes, any JSON, {@link WebResponse}, the standard's `Response`, or chunks. */
export type WebHandler = (request: WebRequest) => unknown;

interface Path {
  readonly pattern: string;
  readonly method: string | undefined;
  readonly words: readonly string[];
  readonly handler: WebHandler;
}

/** Which handler takes a request: patterns in the order they were added, then the one for all. */
export class Router {
  readonly #paths: Path[] = [];
  #rest: WebHandler | undefined;

  /** `GET /items/{id}`, `/items/{id}`, or `undefined` for everything else. */
  add(pattern: string | undefined, handler: WebHandler): void {
    if (pattern === undefined) {
      this.#rest = handler;
      return;
    }
    const [, method, path] = /^(?:([A-Za-z]+) )?(\/\S*)$/.exec(pattern) ?? [];
    if (path === undefined) throw new TypeError(`the pattern ${JSON.stringify(pattern)} must look like "GET /items/{id}"`);
    this.#paths.push({ pattern: path, method: method?.toUpperCase(), words: wordsOf(path), handler });
  }

  /** The handler; throws {@link CallError} 404 or 405. */
  find(request: WebRequest): WebHandler {
    const words = wordsOf(request.rawPath);
    let isThere = false;
    for (const { pattern, method, words: wanted, handler } of this.#paths) {
      const params = match(wanted, words);
      if (!params) continue;
      isThere = true;
      if (method && method !== request.method && !(method === "GET" && request.method === "HEAD")) continue;
      request.params = params;
      request.pattern = pattern;
      return handler;
    }
    if (this.#rest) return this.#rest;
    if (isThere) throw new CallError(405, `${request.method} is not served at ${request.path}`);
    throw new CallError(404, `nothing is at ${request.path}`);
  }
}

const wordsOf = (path: string) => path.replace(/^\/+|\/+$/g, "").split("/");

function match(wanted: readonly string[], words: readonly string[]): Record<string, string> | undefined {
  if (wanted.length !== words.length) return undefined;
  const params: Record<string, string> = {};
  for (const [at, pattern] of wanted.entries()) {
    const word = decoded(words[at] ?? "");
    const name = /^\{(.+)\}$/.exec(pattern)?.[1];
    if (name !== undefined && word !== "") params[name] = word;
    else if (pattern !== word) return undefined;
  }
  return params;
}

/** Percent-decoded; as it is where it cannot be. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
