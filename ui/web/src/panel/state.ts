// What a panel shows, derived from what is known: its data, the connection, the last request.
//
// Pure. A panel that has data never goes blank: while the server is away it keeps the data and
// says how old it is. Start at `derive`.
import type { PanelData } from '../api/types';
import type { LiveStatus } from '../api/live';
import { formatClock, type Zone } from '../time/format';

export type PanelState = 'loading' | 'ok' | 'empty' | 'error' | 'stale';

export interface Failure {
  code: string;
  message: string;
  /** What the engine said, where the message says it in other words. */
  details?: string | null;
}

export interface Known {
  data: PanelData | undefined;
  /** The last request for data failed with this. */
  failure: Failure | undefined;
  connection: LiveStatus;
  isPaused: boolean;
  /** When this panel's data was last said to be current, in milliseconds. */
  updatedAt: number | undefined;
  /** How far the data lag behind a range that reaches to now, in milliseconds; unknown for others. */
  behind?: number | undefined;
  zone: Zone;
}

/** Beats seal time each second: data that are not complete for so long are no longer those of now. */
const BEHIND_MS = 30_000;

export interface Shown {
  state: PanelState;
  /** What the body is drawn from: stale panels keep theirs. */
  body: 'loading' | 'data' | 'empty' | 'error';
  note: string | undefined;
  failure: Failure | undefined;
}

export function derive(known: Known): Shown {
  const { data, failure } = known;
  const isAway = !known.isPaused && (known.connection === 'down' || (failure !== undefined && data !== undefined));
  if (!data) {
    if (failure) return { state: 'error', body: 'error', note: undefined, failure };
    return { state: 'loading', body: 'loading', note: undefined, failure: undefined };
  }
  const body = data.state === 'ok' && data.data ? 'data' : data.state === 'error' ? 'error' : 'empty';
  const own = body === 'error' ? (data.error ?? { code: 'UNKNOWN', message: 'the server gave no reason' }) : undefined;
  if (isAway) {
    const since = known.updatedAt === undefined ? 'never' : formatClock(known.updatedAt, known.zone);
    return { state: 'stale', body, note: `stale, last updated ${since}`, failure: own };
  }
  if (body === 'data' && known.behind !== undefined && known.behind > BEHIND_MS && data.watermark) {
    return { state: 'stale', body, note: `complete up to ${formatClock(Date.parse(data.watermark), known.zone)}`, failure: own };
  }
  return { state: body === 'data' ? 'ok' : body, body, note: undefined, failure: own };
}

export type Freshness = 'connecting' | 'live' | 'paused' | 'stale' | 'fixed';

/** The state of the whole page, for the dot in the header. */
export function freshness(connection: LiveStatus, isPaused: boolean, hasFailed: boolean, moves: boolean): Freshness {
  if (isPaused) return 'paused';
  if (connection === 'down' || hasFailed) return 'stale';
  if (connection === 'connecting' || connection === 'closed') return 'connecting';
  return moves ? 'live' : 'fixed';
}
