// Asks the server, and turns every way of failing into one kind of error with a code.
//
// A missing session (401) is told to whoever registered with `onSignedOut`, so that no page has to
// think of it. Start at `get`.
import { parseExact } from './json';
import type {
  Chosen,
  DashboardData,
  DashboardDefinition,
  DashboardSummary,
  Decision,
  QueryResult,
  RangeText,
  Service,
  Session,
  Variable,
} from './types';

const BASE = '/api/v1';

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }

  /** The server could not be reached at all. */
  get isUnreachable(): boolean {
    return this.status === 0;
  }
}

let signedOut: () => void = () => {};

export function onSignedOut(tell: () => void): void {
  signedOut = tell;
}

export function tellSignedOut(): void {
  signedOut();
}

/** Reads both error shapes: `{error: text, code}` and `{error: {message, code}}`. */
export function errorOf(status: number, body: unknown): ApiError {
  const outer = (body ?? {}) as { error?: unknown; code?: unknown; message?: unknown };
  const inner = (typeof outer.error === 'object' && outer.error !== null ? outer.error : outer) as {
    code?: unknown;
    message?: unknown;
    error?: unknown;
  };
  const message = [inner.message, inner.error].find((text) => typeof text === 'string');
  const code = typeof inner.code === 'string' ? inner.code : status === 200 ? 'FAILED' : `HTTP ${status}`;
  return new ApiError(status, code, (message as string | undefined) ?? `the server answered with status ${status}`);
}

export function unreachable(): ApiError {
  return new ApiError(0, 'UNREACHABLE', 'the server cannot be reached; is `serin up` running?');
}

export async function request<T>(path: string, init: RequestInit = {}): Promise<T> {
  let response: Response;
  try {
    response = await fetch(BASE + path, { credentials: 'same-origin', ...init });
  } catch (cause) {
    if (init.signal?.aborted) throw cause;
    throw unreachable();
  }
  const body: unknown = await response.text().then(parseExact).catch((cause: unknown) => {
    // An answer that was cut off is none; an error may well come without a body of ours.
    if (init.signal?.aborted) throw cause;
    if (response.ok) throw unreachable();
    return null;
  });
  if (response.status === 401) tellSignedOut();
  if (!response.ok) throw errorOf(response.status, body);
  return body as T;
}

export function withParameters(path: string, parameters: Record<string, string | undefined>, chosen: Chosen = {}): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) if (value) search.set(name, value);
  for (const [name, values] of Object.entries(chosen)) for (const value of values) search.append(`var.${name}`, value);
  const text = search.toString();
  return text ? `${path}?${text}` : path;
}

const dashboardPath = (name: string): string => `/dashboards/${encodeURIComponent(name)}`;

export const session = (): Promise<Session> => request('/session');

/** The code of a new sign-in link, for whoever has the token. */
export const signInCode = (token: string): Promise<{ code: string }> =>
  request('/signin', { method: 'POST', headers: { authorization: `Bearer ${token}` } });

export const dashboards = (): Promise<DashboardSummary[]> => request('/dashboards');

export const dashboard = (name: string, signal?: AbortSignal): Promise<DashboardDefinition> =>
  request(dashboardPath(name), { signal: signal ?? null });

export const dashboardData = (
  name: string,
  range: RangeText | undefined,
  chosen: Chosen,
  signal?: AbortSignal,
): Promise<DashboardData> =>
  request(withParameters(`${dashboardPath(name)}/data`, { ...range }, chosen), { signal: signal ?? null });

/** The variables of a dashboard with the values there are. */
export const dashboardVariables = (name: string, range: RangeText | undefined, signal?: AbortSignal): Promise<Variable[]> =>
  request(withParameters(`${dashboardPath(name)}/variables`, { ...range }), { signal: signal ?? null });

/** Writes the YAML of a built-in dashboard into the folder. */
export const copyDashboard = (name: string): Promise<{ file: string }> =>
  request(`${dashboardPath(name)}/copy`, { method: 'POST' });

/** The address of the event stream of one dashboard. */
export const liveAddress = (name: string, range: RangeText | undefined, chosen: Chosen): string =>
  BASE + withParameters(`${dashboardPath(name)}/live`, { ...range }, chosen);

export const decisions = (limit: number, signal?: AbortSignal): Promise<Decision[]> =>
  request(withParameters('/decisions', { limit: String(limit) }), { signal: signal ?? null });

export const services = (signal?: AbortSignal): Promise<Service[]> =>
  request<{ services: Service[] }>('/services', { signal: signal ?? null }).then((answer) => answer.services);

export const query = (sql: string, range: RangeText, signal?: AbortSignal): Promise<QueryResult> =>
  request('/query', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ sql, ...range }),
    signal: signal ?? null,
  });
