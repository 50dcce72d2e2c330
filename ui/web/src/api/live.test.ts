import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { backoffMs, Live, SILENCE_MS, type LiveStatus, type Source } from './live';

class FakeSource implements Source {
  onopen: Source['onopen'] = null;
  onerror: Source['onerror'] = null;
  isClosed = false;
  readonly listeners = new Map<string, (event: MessageEvent<string>) => void>();
  constructor(readonly address: string) {}
  addEventListener(type: string, listener: (event: MessageEvent<string>) => void): void {
    this.listeners.set(type, listener);
  }
  close(): void {
    this.isClosed = true;
  }
  open(): void {
    this.onopen?.(new Event('open'));
  }
  fail(): void {
    this.onerror?.(new Event('error'));
  }
  say(type: string, data: unknown): void {
    this.listeners.get(type)?.({ data: JSON.stringify(data) } as MessageEvent<string>);
  }
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function setUp(probe: () => Promise<unknown> = () => Promise.resolve()) {
  const sources: FakeSource[] = [];
  const statuses: LiveStatus[] = [];
  const heard: unknown[] = [];
  let address = '/a';
  const live = new Live({
    address: () => address,
    events: ['panels'],
    probe,
    random: () => 0,
    onStatus: (status) => statuses.push(status),
    onMessage: (event, data) => heard.push([event, data]),
    open: (at) => {
      const source = new FakeSource(at);
      sources.push(source);
      return source;
    },
  });
  return { live, sources, statuses, heard, setAddress: (next: string) => { address = next; } };
}

it('backs off by doubling, up to ten seconds, spread by chance', () => {
  expect([0, 1, 2, 3, 10].map((attempt) => backoffMs(attempt, () => 0))).toEqual([500, 1000, 2000, 4000, 10_000]);
  expect(backoffMs(0, () => 1)).toBe(350);
});

it('says down when the line breaks and comes back by itself', async () => {
  const { live, sources, statuses, heard } = setUp();
  live.start();
  sources[0]?.open();
  sources[0]?.say('panels', { a: 1 });
  sources[0]?.fail();
  expect(statuses).toEqual(['connecting', 'open', 'down']);
  expect(sources[0]?.isClosed).toBe(true);
  await vi.advanceTimersByTimeAsync(500);
  sources[1]?.open();
  expect(statuses.at(-1)).toBe('open');
  expect(heard).toEqual([['panels', { a: 1 }]]);
});

it('waits longer each time while the server does not answer', async () => {
  let isAway = true;
  const { live, sources, statuses } = setUp(() => (isAway ? Promise.reject(new Error('away')) : Promise.resolve()));
  live.start();
  sources[0]?.fail();
  await vi.advanceTimersByTimeAsync(500 + 1000 + 2000);
  expect(sources).toHaveLength(1);
  isAway = false;
  await vi.advanceTimersByTimeAsync(4000);
  expect(sources).toHaveLength(2);
  expect(statuses).toEqual(['connecting', 'down']);
});

it('takes a silent line for a dead one', async () => {
  const { live, sources, statuses } = setUp();
  live.start();
  sources[0]?.open();
  await vi.advanceTimersByTimeAsync(SILENCE_MS);
  expect(statuses.at(-1)).toBe('down');
});

it('hears nothing of a connection that was replaced', () => {
  const { live, sources, heard, setAddress } = setUp();
  live.start();
  setAddress('/b');
  live.start();
  sources[0]?.say('panels', 1);
  sources[0]?.fail();
  expect(heard).toEqual([]);
  expect(live.status).toBe('connecting');
  expect(sources.map(({ address }) => address)).toEqual(['/a', '/b']);
});

it('stays closed when stopped', async () => {
  const { live, sources } = setUp();
  live.start();
  sources[0]?.fail();
  live.stop();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(sources).toHaveLength(1);
  expect(live.status).toBe('closed');
});
