// Looks again and again, one look at a time, and rests while nobody sees the page.
//
// What a look found is the page's own business; this only says how it stands: loading, live, paused,
// fixed or stale, as the dot in the header shows. Start at `poller`.
import { ApiError } from '../api/client';
import { h, setAttribute, setText } from '../dom';
import { currentZone } from '../settings';
import { formatClock } from '../time/format';

export type Standing = 'connecting' | 'live' | 'paused' | 'fixed' | 'stale';

export interface Poller {
  /** The dot and its words. */
  readonly element: HTMLElement;
  readonly isPaused: boolean;
  /** Drops the look under way and looks at once. */
  now: () => void;
  /** Whether to go on after each look; a fixed range is looked at once. */
  setMoving: (moves: boolean) => void;
  setPaused: (isPaused: boolean) => void;
  stop: () => void;
}

export interface PollOptions {
  everyMs: number;
  /** One look; it throws an `ApiError` where the server refused or is away. */
  look: (signal: AbortSignal) => Promise<void>;
  /** The last look failed, or is fine again (undefined). */
  onFailure: (failure: ApiError | undefined) => void;
}

const WORDS: Record<Standing, string> = { connecting: 'loading', live: 'live', paused: 'paused', fixed: 'fixed range', stale: 'stale' };

export function poller({ everyMs, look, onFailure }: PollOptions): Poller {
  const element = h('span', { class: 'freshness', role: 'status', 'data-testid': 'freshness' });
  let request: AbortController | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let moves = true;
  let isPaused = false;
  let isEnded = false;
  let updatedAt: number | undefined;
  let failure: ApiError | undefined;

  function show(): void {
    const standing: Standing = failure ? 'stale' : updatedAt === undefined ? 'connecting' : isPaused ? 'paused' : moves ? 'live' : 'fixed';
    setAttribute(element, 'data-state', standing);
    const since = standing === 'stale' && updatedAt !== undefined ? `, last updated ${formatClock(updatedAt, currentZone())}` : '';
    setText(element, WORDS[standing] + since);
  }

  async function run(): Promise<void> {
    clearTimeout(timer);
    request?.abort();
    const own = new AbortController();
    request = own;
    try {
      await look(own.signal);
      if (own.signal.aborted) return;
      failure = undefined;
      updatedAt = Date.now();
    } catch (error) {
      if (own.signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      failure = error;
    }
    onFailure(failure);
    show();
    again();
  }

  function again(): void {
    clearTimeout(timer);
    // What failed is tried again, also for a range that does not move.
    if (isEnded || isPaused || document.hidden || (!moves && !failure)) return;
    timer = setTimeout(() => void run(), everyMs);
  }

  const wake = (): void => {
    if (!document.hidden && !isPaused && (moves || failure)) void run();
  };
  document.addEventListener('visibilitychange', wake);
  show();
  return {
    element,
    get isPaused() {
      return isPaused;
    },
    now: () => void run(),
    setMoving: (next) => {
      moves = next;
      show();
      again();
    },
    setPaused: (next) => {
      isPaused = next;
      show();
      if (!next) void run();
      else clearTimeout(timer);
    },
    stop: () => {
      isEnded = true;
      clearTimeout(timer);
      request?.abort();
      document.removeEventListener('visibilitychange', wake);
    },
  };
}
