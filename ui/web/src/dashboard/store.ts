// What a dashboard page knows: definition, data, connection; kept current by requests and the
// event stream.
//
// The stream brings every panel when it opens, one by one, and then what changes; panels are asked for
// by a request of their own only where there is no stream. Every change ends in one `onChange`. It never
// draws. Start at `DashboardStore`.
import { ApiError, dashboard, dashboardData, dashboardVariables, liveAddress, session } from '../api/client';
import { Live, type LiveStatus } from '../api/live';
import type { Chosen, DashboardData, DashboardDefinition, PanelData, Tick, Variable } from '../api/types';
import { isRelative, resolve, type Range, type Span } from '../time/range';

const RETRY_MS = 3000;
// A quick look at another tab costs nothing.
const REST_AFTER_MS = 10_000;

export class DashboardStore {
  definition: DashboardDefinition | undefined;
  panels: Record<string, PanelData> = {};
  updatedAt: number | undefined;
  watermark: string | null | undefined;
  dataRange: Range | null | undefined;
  failure: ApiError | undefined;
  /** Why there is no definition to show. */
  missing: ApiError | undefined;
  isLoading = false;
  isPaused = false;
  span: Span = { from: 0, to: 1 };
  range: Range | undefined;
  chosen: Chosen = {};
  /** The variables with the values there are, as asked for last. */
  variables: Variable[] = [];
  readonly #live: Live;
  /** Panels that the stream has brought since it was opened anew; nothing where a request brings them. */
  #brought: Set<string> | undefined;
  #request: AbortController | undefined;
  #again: ReturnType<typeof setTimeout> | undefined;
  #rest: ReturnType<typeof setTimeout> | undefined;
  /** Aborted by a stop, and by the next beginning. */
  #run = new AbortController();
  #wasDown = false;
  /** The width of the range whose name was asked for last. */
  #asked: number | undefined;
  /** The server's clock minus ours. */
  #ahead = 0;

  constructor(
    private readonly name: string,
    private readonly onChange: () => void,
  ) {
    this.#live = new Live({
      // Where none was chosen, the server takes the dashboard's own, which grows with young data.
      address: () => liveAddress(name, this.range, this.chosen),
      events: ['panels', 'dashboard', 'tick'],
      probe: session,
      onStatus: (status) => this.#onStatus(status),
      onMessage: (event, data) => this.#onMessage(event, data),
    });
  }

  get connection(): LiveStatus {
    return this.#live.status;
  }

  get shownRange(): Range {
    return this.range ?? this.definition?.range ?? { from: 'now-1h', to: 'now' };
  }

  get moves(): boolean {
    return isRelative(this.shownRange);
  }

  /** How far the data lag behind a range that reaches to now, in milliseconds. */
  get behind(): number | undefined {
    if (!this.moves || !this.watermark) return undefined;
    return Date.now() + this.#ahead - Date.parse(this.watermark);
  }

  /** Whether a panel shows what was before. */
  awaits(panel: string): boolean {
    return this.isLoading && !this.#brought?.has(panel);
  }

  start(range: Range | undefined, chosen: Chosen): void {
    this.range = range;
    this.chosen = chosen;
    void this.#begin();
  }

  setRange(range: Range | undefined): void {
    this.range = range;
    this.#slide();
    this.#follow();
  }

  setChosen(chosen: Chosen): void {
    this.chosen = chosen;
    this.#follow();
  }

  /** Asks anew what can be chosen; keeps what was offered where that fails. */
  async loadVariables(): Promise<void> {
    if (!this.definition?.variables.length) return;
    try {
      this.variables = await dashboardVariables(this.name, this.range);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
    }
    this.onChange();
  }

  refresh(): void {
    this.#live.nudge();
    void this.#loadData();
  }

  setPaused(isPaused: boolean): void {
    this.isPaused = isPaused;
    if (isPaused) this.#live.stop();
    else void this.#begin();
    this.onChange();
  }

  /**
   * Whether nobody sees the page. Then its stream is closed after a while: a browser allows six
   * connections to a host over all its tabs, and with six of them taken every further page would wait.
   */
  setHidden(isHidden: boolean): void {
    clearTimeout(this.#rest);
    // One that is paused has no stream.
    if (isHidden && !this.isPaused) this.#rest = setTimeout(() => this.stop(), REST_AFTER_MS);
    else if (!isHidden && this.#run.signal.aborted) void this.#begin();
    else if (!isHidden) this.#live.nudge();
  }

  nudge(): void {
    this.#live.nudge();
  }

  stop(): void {
    this.#run.abort();
    clearTimeout(this.#again);
    clearTimeout(this.#rest);
    this.#request?.abort();
    this.#live.stop();
  }

  /** Begins, or goes on after a rest in which the file may have changed. */
  async #begin(): Promise<void> {
    this.#run.abort();
    const { signal } = (this.#run = new AbortController());
    clearTimeout(this.#again);
    // How far the data had come before a rest says nothing of how late they are.
    this.watermark = undefined;
    this.#follow();
    const isThere = await this.#loadDefinition();
    if (signal.aborted) return;
    if (!isThere) {
      this.#live.stop();
      if (this.missing?.isUnreachable) this.#again = setTimeout(() => void this.#begin(), RETRY_MS);
      return;
    }
    this.#bring([]);
    this.#askInstead();
  }

  /** True when there is a definition to show. */
  async #loadDefinition(): Promise<boolean> {
    try {
      this.definition = await dashboard(this.name);
      this.missing = undefined;
      this.#slide();
      void this.loadVariables();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (!this.definition) this.missing = error;
      else this.failure = error;
    }
    this.onChange();
    return this.definition !== undefined;
  }

  /** Has everything shown anew, and kept so. */
  #follow(): void {
    if (this.isPaused) {
      void this.#loadData();
      return;
    }
    this.#request?.abort();
    this.#brought = new Set();
    this.isLoading = true;
    this.#live.start();
    this.onChange();
  }

  /** A stream that is down does not say why; a request does. */
  #askInstead(): void {
    if (this.connection === 'down' && this.#brought && this.definition) void this.#loadData();
  }

  /** The stream brought these panels. */
  #bring(panels: string[]): void {
    const brought = this.#brought;
    if (!brought) return;
    for (const name of panels) brought.add(name);
    const all = Object.keys(this.definition?.panels ?? {});
    if (!this.definition || !all.every((name) => brought.has(name))) return;
    this.#brought = undefined;
    this.isLoading = false;
    this.onChange();
  }

  async #loadData(): Promise<void> {
    this.#request?.abort();
    this.#brought = undefined;
    const request = new AbortController();
    this.#request = request;
    this.isLoading = true;
    this.onChange();
    try {
      this.#take(await dashboardData(this.name, this.range, this.chosen, request.signal), true);
      this.failure = undefined;
    } catch (error) {
      if (request.signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      this.failure = error;
    }
    this.isLoading = false;
    this.onChange();
  }

  #onStatus(status: LiveStatus): void {
    // A stream that came back may have missed a change of the file and any number of events.
    if (status === 'down') this.#wasDown = true;
    const isBack = status === 'open' && this.#wasDown;
    if (status === 'open') this.#wasDown = false;
    if (isBack) void this.#loadDefinition().then(() => this.#loadData());
    this.#askInstead();
    this.onChange();
  }

  #onMessage(event: string, data: unknown): void {
    if (event === 'panels') {
      const news = data as DashboardData;
      this.#take(news, false);
      this.failure = undefined;
      this.#bring(Object.keys(news.panels));
    } else if (event === 'tick') {
      const tick = data as Tick;
      this.#ahead = Date.parse(tick.now) - Date.now();
      if (tick.watermark) this.watermark = tick.watermark;
      this.updatedAt = Date.now();
      this.#slide();
    } else if (event === 'dashboard') {
      void this.#loadDefinition().then(() => this.#loadData());
    }
    this.onChange();
  }

  #take(data: DashboardData, isWhole: boolean): void {
    this.panels = isWhole ? data.panels : { ...this.panels, ...data.panels };
    if (data.watermark) this.watermark = data.watermark;
    if (data.data_range !== undefined) this.dataRange = data.data_range;
    this.updatedAt = Date.now();
    const from = Date.parse(data.from);
    const to = Date.parse(data.to);
    if (from < to) this.span = { from, to };
    this.#nameRange(to - from);
  }

  /** The range of young data grows on the server: what it is called now is asked for, once. */
  #nameRange(width: number): void {
    const named = this.range || !this.definition ? undefined : resolve(this.shownRange, Date.now());
    if (!named || width === this.#asked || Math.abs(named.to - named.from - width) < 1000) return;
    this.#asked = width;
    void this.#loadDefinition();
  }

  /** Moves a relative range with the clock, only when that would be seen. */
  #slide(): void {
    const span = resolve(this.shownRange, Date.now() + this.#ahead);
    if (!span) return;
    const isSeen = Math.abs(span.to - this.span.to) + Math.abs(span.from - this.span.from) > (span.to - span.from) / 500;
    if (isSeen) this.span = span;
  }
}
