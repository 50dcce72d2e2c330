import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { DashboardStore } from './store';

class FakeSource {
  static all: FakeSource[] = [];
  static get open(): FakeSource[] {
    return FakeSource.all.filter(({ isClosed }) => !isClosed);
  }
  isClosed = false;
  onopen: (() => void) | null = null;
  readonly #listeners = new Map<string, (event: { data: string }) => void>();
  constructor() {
    FakeSource.all.push(this);
  }
  addEventListener(type: string, listener: (event: { data: string }) => void): void {
    this.#listeners.set(type, listener);
  }
  close(): void {
    this.isClosed = true;
  }
  /** Opens, and brings these panels. */
  bring(names: string[]): void {
    this.onopen?.();
    const panels = Object.fromEntries(names.map((name) => [name, { panel: name, title: name, draw: 'stat', state: 'empty' }]));
    const from = '2026-01-10T14:00:00Z';
    this.#listeners.get('panels')?.({ data: JSON.stringify({ from, to: '2026-01-10T15:00:00Z', step_s: 60, panels, watermark: from }) });
  }
}

/** How the server answers when it is asked for the definition. */
let answer: () => Promise<Response>;
const withPanels = (...names: string[]) => (): Promise<Response> =>
  Promise.resolve(Response.json({ name: 'shop', range: { from: 'now-1h', to: 'now' }, panels: Object.fromEntries(names.map((name) => [name, {}])), variables: [] }));
const settle = (): Promise<unknown> => vi.advanceTimersByTimeAsync(0);

async function opened(): Promise<DashboardStore> {
  const store = new DashboardStore('shop', () => {});
  store.start(undefined, {});
  await settle();
  FakeSource.all[0]?.bring(['a', 'b']);
  return store;
}

beforeEach(() => {
  vi.useFakeTimers();
  FakeSource.all = [];
  answer = withPanels('a', 'b');
  vi.stubGlobal('EventSource', FakeSource);
  vi.stubGlobal('fetch', () => answer());
});
afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

it('takes up after a pause what became of the definition', async () => {
  const store = await opened();
  expect([store.isLoading, store.connection]).toEqual([false, 'open']);
  store.setPaused(true);
  answer = withPanels('a', 'c');
  store.setPaused(false);
  FakeSource.all[1]?.bring(['a', 'c']);
  expect(store.isLoading).toBe(true);
  await settle();
  expect(Object.keys(store.definition?.panels ?? {})).toEqual(['a', 'c']);
  expect(store.isLoading).toBe(false);
});

it('does nothing more once it was stopped', async () => {
  let fail = (): void => {};
  answer = () => new Promise((_, reject) => { fail = () => reject(new TypeError('away')); });
  const store = new DashboardStore('shop', () => {});
  store.start(undefined, {});
  store.stop();
  fail();
  await vi.advanceTimersByTimeAsync(60_000);
  expect([FakeSource.all.length, FakeSource.open.length]).toEqual([1, 0]);
});

it('tries again while the server is away', async () => {
  answer = () => Promise.reject(new TypeError('away'));
  const store = new DashboardStore('shop', () => {});
  store.start(undefined, {});
  await settle();
  expect([store.missing?.code, FakeSource.open.length]).toEqual(['UNREACHABLE', 0]);
  answer = withPanels('a');
  await vi.advanceTimersByTimeAsync(3000);
  expect([store.missing, FakeSource.open.length]).toEqual([undefined, 1]);
});

it('gives its connection back while nobody sees it, and goes on without seeming late', async () => {
  const store = await opened();
  expect(store.behind).toBeGreaterThan(0);
  store.setHidden(true);
  await vi.advanceTimersByTimeAsync(9000);
  store.setHidden(false);
  await vi.advanceTimersByTimeAsync(9000);
  expect([FakeSource.all.length, store.connection]).toEqual([1, 'open']);
  store.setHidden(true);
  await vi.advanceTimersByTimeAsync(10_000);
  expect([FakeSource.open.length, store.connection]).toEqual([0, 'closed']);
  answer = withPanels('c');
  store.setHidden(false);
  await settle();
  expect([FakeSource.open.length, store.connection, store.behind]).toEqual([1, 'connecting', undefined]);
  FakeSource.open[0]?.bring(['c']);
  expect([store.connection, store.isLoading]).toEqual(['open', false]);
  store.stop();
});

it('stays as it is when it is paused and seen again', async () => {
  const store = await opened();
  store.setPaused(true);
  store.setHidden(true);
  await vi.advanceTimersByTimeAsync(60_000);
  store.setHidden(false);
  await settle();
  expect([FakeSource.all.length, store.connection]).toEqual([1, 'closed']);
});
