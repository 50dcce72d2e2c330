// The first steps of a young folder: how they stand, and what can be tried.
import { request } from './client';

export interface FirstSteps {
  is_open: boolean;
  service: string;
  /** Where visitors come. */
  url: string;
  /** The line by which DuckDB reads the same events. */
  attach: string;
  are_coming: boolean;
  answered: number;
  failed: number;
}

export interface Killed {
  killed: string;
  replacement: string;
  took_us: number;
  /** Null where no visitors were coming. */
  lost: number | null;
}

const post = <T>(path: string, body?: unknown): Promise<T> =>
  request(`/first-steps/${path}`, body === undefined ? { method: 'POST' } : { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });

export const firstSteps = (signal: AbortSignal): Promise<FirstSteps> => request('/first-steps', { signal });
export const sendVisitors = (areWanted: boolean): Promise<FirstSteps> => post('visitors', { are_wanted: areWanted });
export const killOne = (): Promise<Killed> => post('kill');
export const closeFirstSteps = (): Promise<unknown> => post('close');
