// What services wrote: the newest lines of a range as they come, searched, counted over time, and the
// lines around one.
//
// The URL holds range, filters and the line that is looked at; the list follows its end as long as it
// is scrolled there. Start at `logsPage`.
import type { ApiError } from '../api/client';
import { logCounts, logs, type LogCounts, type LogLine } from '../api/telemetry';
import type { PanelData } from '../api/types';
import { seriesChart } from '../charts/uplot';
import { iconButton, rangePicker } from '../dashboard/range_picker';
import { fill, h, setAttribute } from '../dom';
import { icon } from '../icons';
import { currentZone, isDark, onSettings } from '../settings';
import { formatFine } from '../time/format';
import { isRelative, isSame, resolve, zoomTo, type Range } from '../time/range';
import type { Filter, UrlState } from '../url';
import { filterBar, type Field } from './filters';
import { lineElement, type LineActions } from './log_line';
import { LINES_MAX, merge, microseconds } from './log_lines';
import { failureNotice } from './notice';
import type { Context, Page } from './page';
import { poller, type Poller } from './poll';

const DEFAULT_RANGE: Range = { from: 'now-15m', to: 'now' };
const POLL_MS = 1000;
// The histogram is read every so many looks.
const COUNT_EVERY = 5;
// Lines of different instances may arrive out of order by this much.
const OVERLAP_MS = 5000;
const FIRST_LINES = 300;
const OLDER_LINES = 300;
const AROUND_LINES = 100;
// So near to its end the list counts as scrolled there.
const END_PX = 24;

const FIELDS: Field[] = [
  { name: 'text', label: 'Search', placeholder: 'text in the line' },
  { name: 'service', label: 'Service', placeholder: 'all' },
  { name: 'instance', label: 'Instance', placeholder: 'all' },
  {
    name: 'level',
    label: 'Level',
    choices: [['', 'all'], ['error', 'error'], ['warn', 'warn and graver'], ['info', 'info and graver'], ['debug', 'debug and graver']],
  },
  { name: 'trace', label: 'Trace', placeholder: 'any' },
];
const COLORS: Record<string, string> = { error: 'red', warn: 'orange', info: 'blue', debug: 'grey', trace: 'grey' };

export function logsPage(context: Context): Page {
  return new LogsPage(context);
}

class LogsPage implements Page {
  readonly element: HTMLElement;
  readonly title = 'Logs';
  readonly #picker = rangePicker((range) => this.context.go({ range }));
  readonly #bar = filterBar(FIELDS, (name, value) => this.#filter(name, value));
  readonly #chart = seriesChart({ zoom: (from, to) => this.context.go({ range: zoomTo(from, to) }), isolate: (level) => this.#filter('level', level ?? '') });
  readonly #histogram = h('section', { class: 'panel log-histogram', 'aria-label': 'Lines over time, by level', 'data-testid': 'log-histogram' });
  readonly #notices = h('div', { class: 'notices' });
  readonly #list = h('ol', { class: 'log-lines', 'data-testid': 'log-lines' });
  readonly #frame: HTMLElement;
  readonly #older: HTMLButtonElement;
  readonly #pause: HTMLButtonElement;
  readonly #poll: Poller;
  readonly #elements = new Map<string, HTMLElement>();
  readonly #endSettings: () => void;
  #lines: LogLine[] = [];
  #hasOlder = false;
  #isLoaded = false;
  #counts: LogCounts | undefined;
  #looks = 0;
  #asked = '';

  constructor(private readonly context: Context) {
    this.#poll = poller({ everyMs: POLL_MS, look: (signal) => this.#look(signal), onFailure: (failure) => this.#notice(failure) });
    this.#older = h('button', { type: 'button', class: 'button small', 'data-testid': 'log-older', hidden: true, onclick: () => void this.#showOlder() }, 'Show older lines');
    this.#pause = iconButton('pause', 'Pause (d p)', 'pause', () => this.#setPaused(!this.#poll.isPaused));
    this.#frame = h('div', { class: 'log-frame', tabindex: 0, role: 'region', 'aria-label': 'Lines', 'data-testid': 'log-frame' }, this.#older, this.#list);
    this.element = h(
      'main',
      { class: 'logs', id: 'main', 'data-testid': 'logs' },
      h('header', { class: 'dashboard-header' },
        h('div', { class: 'dashboard-heading' }, h('h1', { class: 'dashboard-title' }, 'Logs')),
        h('div', { class: 'toolbar' }, this.#poll.element, this.#picker.element,
          h('div', { class: 'button-group' }, this.#pause, iconButton('refresh', 'Refresh (d r)', 'refresh', () => this.#refresh())))),
      this.#bar.element,
      this.#notices,
      this.#histogram,
      this.#frame,
    );
    this.#endSettings = onSettings(() => {
      this.#elements.clear();
      this.#drawLines();
      this.#drawCounts();
      this.#picker.show(this.#range);
    });
    this.#start();
  }

  onUrl(): void {
    this.#start();
  }

  onKeys(keys: string): void {
    if (keys === '/') this.#bar.focus('text');
    if (keys === 't o') this.#picker.zoomOut();
    if (keys === 't ArrowLeft') this.#picker.shift(-1);
    if (keys === 't ArrowRight') this.#picker.shift(1);
    if (keys === 't a') this.#picker.open();
    if (keys === 'd r') this.#refresh();
    if (keys === 'd p') this.#setPaused(!this.#poll.isPaused);
    if (keys === 'Escape' && this.#around) this.#leaveContext();
  }

  destroy(): void {
    this.#poll.stop();
    this.#chart.destroy();
    this.#endSettings();
  }

  get #url(): UrlState {
    return this.context.url();
  }

  get #range(): Range {
    return this.#url.range ?? DEFAULT_RANGE;
  }

  /** The line whose neighbours are shown, and its instance. */
  get #around(): { cursor: string; instance: string } | undefined {
    const { line, of } = this.#url.filters;
    return line && of ? { cursor: line, instance: of } : undefined;
  }

  #filter(name: Filter, value: string): void {
    const { [name]: _old, line: _line, of: _of, ...others } = this.#url.filters;
    this.context.go({ filters: value ? { ...others, [name]: value } : others }, 'replace');
  }

  #leaveContext(): void {
    const { line: _line, of: _of, ...others } = this.#url.filters;
    this.context.go({ filters: others });
  }

  #setPaused(isPaused: boolean): void {
    this.#poll.setPaused(isPaused);
    setAttribute(this.#pause, 'aria-pressed', String(isPaused));
    fill(this.#pause, icon(isPaused ? 'play' : 'pause'));
    const label = isPaused ? 'Play (d p)' : 'Pause (d p)';
    setAttribute(this.#pause, 'aria-label', label);
    setAttribute(this.#pause, 'title', label);
  }

  #refresh(): void {
    this.#looks = 0;
    this.#poll.now();
  }

  /** Begins anew where range, filters or the line looked at are others than before. */
  #start(): void {
    const { filters } = this.#url;
    this.#picker.show(this.#range);
    this.#bar.show(filters);
    const asked = JSON.stringify([this.#range, filters]);
    if (asked === this.#asked) return;
    this.#asked = asked;
    this.#lines = [];
    this.#elements.clear();
    this.#hasOlder = false;
    this.#isLoaded = false;
    this.#looks = 0;
    this.#notice(undefined);
    this.#drawLines();
    this.#poll.setMoving(isRelative(this.#range) && !this.#around);
    this.#poll.now();
  }

  #question(): Record<string, string | undefined> {
    const { service, instance, level, text, trace } = this.#url.filters;
    return { service, instance, level, text, trace };
  }

  async #look(signal: AbortSignal): Promise<void> {
    const around = this.#around;
    if (around) return this.#lookAround(around, signal);
    const question = this.#question();
    const isFirst = !this.#isLoaded;
    const newest = this.#lines.at(-1);
    const since = isFirst || !newest ? this.#range.from : new Date(microseconds(newest.cursor) / 1000 - OVERLAP_MS).toISOString();
    const isCounted = this.#looks % COUNT_EVERY === 0;
    this.#looks += 1;
    const [page, counts] = await Promise.all([
      logs({ ...question, from: since, to: this.#range.to, limit: String(isFirst ? FIRST_LINES : LINES_MAX) }, signal),
      isCounted ? logCounts({ ...question, ...this.#range }, signal) : undefined,
    ]);
    if (signal.aborted) return;
    if (isFirst) this.#hasOlder = page.has_more;
    this.#isLoaded = true;
    if (counts) this.#take(counts);
    this.#takeLines(merge(this.#lines, page.lines));
  }

  async #lookAround({ cursor, instance }: { cursor: string; instance: string }, signal: AbortSignal): Promise<void> {
    const page = await logs({ instance, around: cursor, limit: String(AROUND_LINES) }, signal);
    if (signal.aborted) return;
    this.#isLoaded = true;
    this.#counts = undefined;
    this.#drawCounts();
    this.#takeLines(page.lines);
    this.#elements.get(cursor)?.scrollIntoView({ block: 'center' });
  }

  async #showOlder(): Promise<void> {
    const [oldest] = this.#lines;
    if (!oldest) return;
    const asked = this.#asked;
    const page = await logs({ ...this.#question(), ...this.#range, before: oldest.cursor, limit: String(OLDER_LINES) }).catch((error: ApiError) => {
      this.#notice(error);
      return undefined;
    });
    if (!page || asked !== this.#asked) return;
    this.#hasOlder = page.has_more && this.#lines.length + page.lines.length < LINES_MAX;
    const fromEnd = this.#frame.scrollHeight - this.#frame.scrollTop;
    this.#takeLines(merge(this.#lines, page.lines));
    this.#frame.scrollTop = this.#frame.scrollHeight - fromEnd;
  }

  #take(counts: LogCounts): void {
    this.#counts = counts;
    const { service } = this.#url.filters;
    const unique = (names: string[]): string[] => [...new Set(names)].sort();
    this.#bar.suggest('service', unique(counts.senders.map((sender) => sender.service)));
    this.#bar.suggest('instance', unique(counts.senders.filter((sender) => !service || sender.service === service).map((sender) => sender.instance)));
    this.#drawCounts();
  }

  #takeLines(lines: LogLine[]): void {
    if (lines === this.#lines && lines.length > 0) return;
    const { scrollTop, scrollHeight, clientHeight } = this.#frame;
    const isAtEnd = scrollHeight - scrollTop - clientHeight < END_PX;
    this.#lines = lines;
    this.#drawLines();
    if (isAtEnd && !this.#around) this.#frame.scrollTop = this.#frame.scrollHeight;
  }

  /** Adds what is new where it belongs and takes out what is gone; open lines stay open. */
  #drawLines(): void {
    this.#older.hidden = !this.#hasOlder;
    if (this.#lines.length === 0) {
      if (this.#isLoaded && this.#list.querySelector('[data-testid=log-empty]')) return;
      fill(this.#list, this.#isLoaded ? this.#nothing() : h('li', { class: 'muted log-note' }, 'loading'));
      return;
    }
    const around = this.#around;
    const actions: LineActions = {
      around: (line) => this.context.go({ filters: { ...this.#url.filters, line: line.cursor, of: line.instance } }),
      only: (name, value) => this.#filter(name, value),
    };
    const kept = new Set(this.#lines.map(({ cursor }) => cursor));
    for (const child of [...this.#list.children]) {
      if (!kept.has((child as HTMLElement).dataset['cursor'] ?? '')) child.remove();
    }
    let place = this.#list.firstElementChild;
    for (const line of this.#lines) {
      let element = this.#elements.get(line.cursor);
      if (!element) {
        element = lineElement(line, currentZone(), line.cursor === around?.cursor, actions);
        this.#elements.set(line.cursor, element);
      }
      if (element === place) place = place.nextElementSibling;
      else this.#list.insertBefore(element, place);
    }
    for (const cursor of this.#elements.keys()) if (!kept.has(cursor)) this.#elements.delete(cursor);
  }

  #drawCounts(): void {
    const counts = this.#counts;
    this.#histogram.hidden = this.#around !== undefined || (counts !== undefined && counts.levels.length === 0);
    if (!counts) return;
    const span = resolve(counts, Date.now());
    if (!span || counts.levels.length === 0) return;
    if (!this.#histogram.contains(this.#chart.element)) fill(this.#histogram, this.#chart.element);
    const panel: PanelData = {
      panel: 'logs', title: 'Lines over time', draw: 'bar', unit: 'count', state: 'ok',
      data: {
        kind: 'series', step_s: counts.step_s, stacked: true,
        series: counts.levels.map(({ level, counts: points }) => ({ name: level, color: COLORS[level], points })),
      },
    };
    this.#chart.update(panel, { ...span, dark: isDark(), zone: currentZone(), isolated: undefined });
  }

  #notice(failure: ApiError | undefined): void {
    const around = this.#around;
    const notices: Node[] = [];
    if (around) {
      const at = formatFine(microseconds(around.cursor) / 1000, currentZone());
      notices.push(h('div', { class: 'notice', 'data-testid': 'log-context' }, icon('flag'),
        h('span', {}, 'Lines of ', h('code', {}, around.instance), ` around ${at}`),
        h('button', { type: 'button', class: 'button small', 'data-testid': 'log-context-leave', onclick: () => this.#leaveContext() }, 'Back to the search (Esc)')));
    }
    if (failure) notices.push(failureNotice(failure));
    fill(this.#notices, ...notices);
  }

  #nothing(): HTMLElement {
    const isNarrowed = Object.keys(this.#url.filters).length > 0 || !isSame(this.#range, DEFAULT_RANGE);
    return h('li', { class: 'page-message', 'data-testid': 'log-empty' }, icon('empty'),
      h('h2', {}, isNarrowed ? 'No line fits' : 'Nothing was logged yet'),
      h('p', {}, isNarrowed ? 'Widen the range, or take a filter away.' : 'What services write to their output appears here by itself, a second later.'));
  }
}
