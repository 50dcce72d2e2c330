// A dashboard: header, panels in rows, and what the reader does with them.
//
// The store knows, the panels draw, the URL holds what was chosen; this file only joins them.
// Start at `dashboardPage`.
import { ApiError, copyDashboard } from '../api/client';
import type { Series } from '../api/types';
import { behind } from '../panel/behind';
import { createPanel, type Panel } from '../panel/panel';
import { freshness, type Freshness } from '../panel/state';
import { iconButton, rangePicker } from '../dashboard/range_picker';
import { DashboardStore } from '../dashboard/store';
import { variablePickers } from '../dashboard/variables';
import { fill, h, setAttribute, setText, withCode } from '../dom';
import { errorCode } from '../error_code';
import { sentence } from '../format/sentence';
import { icon } from '../icons';
import { currentZone, isDark, onSettings } from '../settings';
import { formatAge, formatClock, formatDateTime } from '../time/format';
import { absolute, isSame, nameOf, zoomTo, type Range } from '../time/range';
import type { UrlState } from '../url';
import { failureNotice } from './notice';
import type { Context, Page } from './page';

const FRESHNESS: Record<Freshness, string> = {
  connecting: 'connecting',
  live: 'live',
  paused: 'paused',
  stale: 'stale',
  fixed: 'fixed range',
};

export function dashboardPage(context: Context, name: string): Page {
  return new DashboardPage(context, name);
}

class DashboardPage implements Page {
  readonly element: HTMLElement;
  readonly title: string;
  readonly #store: DashboardStore;
  readonly #picker;
  readonly #heading = h('h1', { class: 'dashboard-title', 'data-testid': 'dashboard-title' });
  readonly #description = h('p', { class: 'dashboard-description' });
  readonly #variables = variablePickers((name, values) => this.#pick(name, values), () => void this.#store.loadVariables());
  readonly #copy: HTMLButtonElement;
  /** Why the range is shorter than the dashboard's own. */
  readonly #young = h('span', { class: 'range-why', hidden: true, 'data-testid': 'young' });
  readonly #youngAge = h('span', {});
  readonly #ownRange = h('button', { type: 'button', class: 'link', 'data-testid': 'show-own-range', onclick: () => this.#showOwnRange() });
  // How it stands is told aloud when it changes; the time beside it changes all the while.
  readonly #standing = h('span', { role: 'status' });
  readonly #upTo = h('span', {});
  readonly #status = h('span', { class: 'freshness', 'data-testid': 'freshness' }, h('span', {}, this.#standing, this.#upTo));
  readonly #pause: HTMLButtonElement;
  readonly #toolbar = h('div', { class: 'toolbar' });
  readonly #notices = h('div', { class: 'notices' });
  readonly #rows = h('div', { class: 'rows' });
  readonly #ends: (() => void)[] = [];
  readonly #panels = new Map<string, Panel>();
  #built = '';
  /** What the notices say. */
  #noticed: { told: string; copy: HTMLElement | undefined } = { told: '', copy: undefined };
  #isScheduled = false;
  /** Panels out of sight that are yet to be drawn. */
  #late: string[] = [];
  #isDrawingLate = false;
  /** What became of a copy. */
  #told: HTMLElement | undefined;

  constructor(
    private readonly context: Context,
    private readonly name: string,
  ) {
    this.title = name;
    this.#store = new DashboardStore(name, () => this.#schedule());
    this.#picker = rangePicker((range) => this.#choose(range));
    this.#pause = iconButton('pause', '', 'pause', () => this.#store.setPaused(!this.#store.isPaused));
    this.#copy = iconButton('copy', 'Copy to dashboards/, to change it', 'copy', () => void this.#copyToFolder());
    this.#copy.hidden = true;
    this.#toolbar.append(this.#status, this.#variables.element, this.#young, this.#picker.element,
      h('div', { class: 'button-group' }, this.#copy, this.#pause, iconButton('refresh', 'Refresh (d r)', 'refresh', () => this.#store.refresh())));
    this.element = h(
      'main',
      { class: 'dashboard', id: 'main', 'data-testid': 'dashboard', 'data-dashboard': name },
      h(
        'header',
        { class: 'dashboard-header' },
        h('div', { class: 'dashboard-heading' }, this.#heading, this.#description),
        this.#toolbar,
      ),
      this.#notices,
      this.#rows,
    );
    this.#young.append(this.#youngAge, this.#ownRange);
    const see = (): void => this.#store.setHidden(document.hidden);
    const nudge = (): void => this.#store.nudge();
    document.addEventListener('visibilitychange', see);
    addEventListener('online', nudge);
    this.#ends.push(
      () => document.removeEventListener('visibilitychange', see),
      () => removeEventListener('online', nudge),
      onSettings(() => this.#schedule()),
    );
    this.#schedule();
    this.#store.start(context.url().range, context.url().chosen);
    // It may have been opened in a tab behind.
    see();
  }

  onUrl(url: UrlState): void {
    const before = this.#store.range;
    const isUnchanged = before === url.range || (before && url.range && isSame(before, url.range));
    if (!isUnchanged) this.#store.setRange(url.range);
    if (JSON.stringify(this.#store.chosen) !== JSON.stringify(url.chosen)) this.#store.setChosen(url.chosen);
    this.#schedule();
  }

  onKeys(keys: string): void {
    if (keys === 't o') this.#picker.zoomOut();
    if (keys === 't ArrowLeft') this.#picker.shift(-1);
    if (keys === 't ArrowRight') this.#picker.shift(1);
    if (keys === 't a') this.#picker.open();
    if (keys === 't j') this.#jumpToData();
    if (keys === 'd r') this.#store.refresh();
    if (keys === 'd p') this.#store.setPaused(!this.#store.isPaused);
    if (keys === 'Escape' && this.context.url().panel) this.context.go({ panel: undefined });
    if (keys === 'v') {
      const focused = document.activeElement?.closest<HTMLElement>('[data-panel]')?.dataset['panel'];
      if (focused) this.#expand(focused);
    }
  }

  destroy(): void {
    this.#store.stop();
    for (const end of this.#ends) end();
    for (const panel of this.#panels.values()) panel.destroy();
  }

  /**
   * What is said once above all panels where they have nothing: that the data lie elsewhere, or that there
   * are none. A count of nothing is a zero, so that panels alone cannot tell the first.
   */
  get #emptiness(): 'elsewhere' | 'nothing' | undefined {
    const { dataRange, span, panels, isLoading, moves } = this.#store;
    const known = Object.values(panels);
    if (known.length === 0) return undefined;
    const [from, to] = dataRange ? [Date.parse(dataRange.from), Date.parse(dataRange.to)] : [span.from, span.to];
    if (from >= span.to || to <= span.from) return 'elsewhere';
    if (isLoading || !known.every(({ state }) => state === 'empty')) return undefined;
    return from < span.from || (to > span.to && !moves) ? 'elsewhere' : 'nothing';
  }

  #choose(range: Range): void {
    this.context.go({ range });
  }

  #pick(name: string, values: string[]): void {
    const { [name]: _old, ...others } = this.context.url().chosen;
    this.context.go({ chosen: values.length > 0 ? { ...others, [name]: values } : others });
  }

  async #copyToFolder(): Promise<void> {
    try {
      const { file } = await copyDashboard(this.name);
      this.#told = h('div', { class: 'notice', role: 'status', 'data-testid': 'copied' }, icon('copy'), h('span', {}, `It is yours now: change ${file}; saving shows it here.`));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#told = failureNotice(error);
    }
    this.#schedule();
  }

  #jumpToData(): void {
    const range = this.#store.dataRange;
    if (range) this.#choose({ from: range.from, to: range.to });
  }

  #expand(panel: string): void {
    this.context.go({ panel: this.context.url().panel === panel ? undefined : panel });
  }

  /** Draws once per frame, whatever arrived meanwhile. */
  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    requestAnimationFrame(() => {
      this.#isScheduled = false;
      this.#draw();
    });
  }

  #draw(): void {
    const store = this.#store;
    const { definition, missing } = store;
    this.#drawHeader();
    if (!definition) {
      fill(this.#rows, missing ? this.#missing('This dashboard cannot be shown', missing) : null);
      this.#built = '';
      return;
    }
    if (store.failure && Object.keys(store.panels).length === 0) {
      this.#drawRefused(store.failure);
      return;
    }
    this.#build();
    const alone = this.#alone;
    setAttribute(this.#rows, 'data-alone', alone ?? null);
    // Asked before anything changes, so that it costs no layout.
    const inSight = new Map([...this.#panels].map(([name, { element }]) => [name, isInSight(element)]));
    for (const [name, panel] of this.#panels) panel.element.hidden = alone !== undefined && alone !== name;
    const shown = [...this.#panels.keys()].filter((name) => alone === undefined || alone === name);
    const late = shown.filter((name) => alone === undefined && !inSight.get(name));
    // Those that wait already come first: with news in every frame the last one would wait for ever.
    const waiting = this.#late.filter((name) => late.includes(name));
    this.#late = [...waiting, ...late.filter((name) => !waiting.includes(name))];
    for (const name of shown) if (!late.includes(name)) this.#drawPanel(name);
    this.#drawLate();
    for (const row of this.#rows.children) {
      (row as HTMLElement).hidden = [...row.children].every((panel) => (panel as HTMLElement).hidden);
    }
  }

  /** The panel that fills the page. */
  get #alone(): string | undefined {
    const { panel } = this.context.url();
    return panel && this.#panels.has(panel) ? panel : undefined;
  }

  /** The panels out of sight follow, one with each frame: what is looked at does not wait for them. */
  #drawLate(): void {
    if (this.#isDrawingLate || this.#late.length === 0) return;
    this.#isDrawingLate = true;
    requestAnimationFrame(() => {
      this.#isDrawingLate = false;
      const name = this.#late.shift();
      if (name !== undefined) this.#drawPanel(name);
      this.#drawLate();
    });
  }

  #drawPanel(name: string): void {
    const store = this.#store;
    this.#panels.get(name)?.update({
      known: {
        data: store.panels[name],
        failure: store.failure,
        connection: store.connection,
        isPaused: store.isPaused,
        updatedAt: store.updatedAt,
        behind: store.isPaused ? undefined : store.behind,
        zone: currentZone(),
      },
      frame: { ...store.span, dark: isDark(), zone: currentZone(), isolated: this.context.url().isolated[name] },
      isAlone: this.#alone === name,
      isLoading: store.awaits(name),
      isSaidAbove: this.#emptiness !== undefined,
    });
  }

  #drawHeader(): void {
    const store = this.#store;
    const { definition } = store;
    setText(this.#heading, definition?.title ?? this.name);
    setText(this.#description, definition?.description ?? '');
    this.context.setTitle(definition?.title ?? this.name);
    // Where there is no such dashboard, there is nothing to choose of it.
    this.#toolbar.hidden = store.missing?.status === 404;
    this.#picker.show(store.shownRange);
    this.#drawYoung();
    this.#variables.show(definition?.variables ?? [], store.variables, store.chosen);
    this.#copy.hidden = !definition?.is_built_in;
    const state = freshness(store.connection, store.isPaused, store.failure !== undefined, store.moves);
    setAttribute(this.#status, 'data-state', state);
    setText(this.#standing, FRESHNESS[state]);
    setText(this.#upTo, this.#upToText(state));
    this.#showPause(store.isPaused);
    this.#drawNotices();
  }

  #drawYoung(): void {
    const { definition, range } = this.#store;
    const own = range ? undefined : definition?.own_range;
    this.#young.hidden = !own;
    if (!own || !definition?.data_from) return;
    setText(this.#youngAge, `Data began ${formatAge(Date.now() - Date.parse(definition.data_from))} ago.`);
    setText(this.#ownRange, `Show the ${nameOf(own, currentZone()).toLowerCase()}`);
  }

  #showOwnRange(): void {
    const own = this.#store.definition?.own_range;
    if (own) this.#choose(own);
  }

  #showPause(isPaused: boolean): void {
    const label = isPaused ? 'Play (d p)' : 'Pause (d p)';
    if (this.#pause.title === label) return;
    fill(this.#pause, icon(isPaused ? 'play' : 'pause'));
    setAttribute(this.#pause, 'aria-pressed', String(isPaused));
    setAttribute(this.#pause, 'aria-label', label);
    setAttribute(this.#pause, 'title', label);
  }

  /** Anew only where they say something else: one that was folded away or has the focus keeps it. */
  #drawNotices(): void {
    const { definition, dataRange, failure, panels } = this.#store;
    const told = JSON.stringify([this.#emptiness, this.#emptiness && dataRange, Object.keys(panels).length > 0 && failure?.message, definition?.problems, currentZone()]);
    if (told === this.#noticed.told && this.#told === this.#noticed.copy) return;
    this.#noticed = { told, copy: this.#told };
    fill(this.#notices, ...this.#noticeList());
  }

  #upToText(state: Freshness): string {
    const { watermark, updatedAt, moves, span } = this.#store;
    const zone = currentZone();
    if (state === 'stale') return updatedAt ? `, last updated ${formatClock(updatedAt, zone)}` : '';
    if (!watermark || state === 'connecting') return '';
    const at = Date.parse(watermark);
    if (!moves && at >= span.to) return ' · complete';
    const isToday = Math.abs(Date.now() - at) < 43_200_000;
    return moves || isToday ? ` · complete up to ${isToday ? formatClock(at, zone) : formatDateTime(at, zone)}` : '';
  }

  #noticeList(): Node[] {
    const { definition, panels, dataRange, failure } = this.#store;
    const notices: Node[] = this.#told ? [this.#told] : [];
    const known = Object.values(panels);
    const emptiness = this.#emptiness;
    if (emptiness === 'elsewhere' && dataRange) {
      const [from, to] = [dataRange.from, dataRange.to].map((text) => formatDateTime(Date.parse(text), currentZone()));
      notices.push(
        h('div', { class: 'notice', role: 'status', 'data-testid': 'empty-range' }, icon('empty'),
          h('span', {}, `Nothing in this range. The data lie between ${from} and ${to}.`),
          h('button', { type: 'button', class: 'button primary small', 'data-testid': 'jump-to-data', title: 'Jump to the data (t j)', onclick: () => this.#jumpToData() }, 'Jump to the data')),
      );
    } else if (emptiness === 'nothing') {
      const why = dataRange ? 'Nothing in this range.' : 'No data yet. Events of the kinds that these panels read will fill them.';
      notices.push(h('div', { class: 'notice', role: 'status', 'data-testid': 'no-data' }, icon('empty'), h('span', {}, why)));
    }
    if (failure && known.length > 0) {
      notices.push(failureNotice(failure));
    }
    if (definition?.problems.length) {
      notices.push(
        h('details', { class: 'notice bad', 'data-testid': 'problems', open: true },
          h('summary', {}, icon('warning'), `${definition.problems.length === 1 ? 'A problem' : `${definition.problems.length} problems`} in the definition; the last good one is shown`),
          h('ul', {}, ...definition.problems.map(({ file, line, column, message }) => h('li', {}, h('code', {}, `${file}:${line}:${column}`), ` ${message}`)))),
      );
    }
    return notices;
  }

  /** Makes the panels anew when the definition changed, and only then. */
  #build(): void {
    const { definition } = this.#store;
    if (!definition) return;
    const made = JSON.stringify([definition.layout, definition.panels]);
    if (made === this.#built) return;
    this.#built = made;
    for (const panel of this.#panels.values()) panel.destroy();
    this.#panels.clear();
    const rows = definition.layout.map((cells) => {
      const kinds = cells.map(({ panel }) => definition.panels[panel]?.draw);
      const all = (wanted: string): boolean => kinds.every((draw) => draw === wanted);
      const row = h('div', { class: all('stat') ? 'row short' : all('table') ? 'row tabular' : 'row' });
      row.style.gridTemplateColumns = cells.map(({ share }) => `minmax(0, ${share}fr)`).join(' ');
      for (const { panel: name } of cells) {
        const one = definition.panels[name];
        if (!one) continue;
        const panel = createPanel(this.name, name, one, {
          zoom: (from, to) => this.#choose(zoomTo(from, to)),
          isolate: (series) => this.#isolate(name, series),
          expand: () => this.#expand(name),
          inspect: one.has_traces ? (from, to, series) => this.#showTraces(name, from, to, series) : undefined,
        });
        this.#panels.set(name, panel);
        row.append(panel.element);
      }
      return row;
    });
    fill(this.#rows, ...rows);
  }

  /** Leaves for the traces behind a point. */
  #showTraces(panel: string, from: number, to: number, series: Series | undefined): void {
    const data = this.#store.panels[panel];
    if (data) this.context.go({ route: { page: 'traces' }, range: absolute({ from, to }), filters: behind(data, series, this.context.url().chosen), panel: undefined, isolated: {} });
  }

  #isolate(panel: string, series: string | undefined): void {
    const { [panel]: _old, ...others } = this.context.url().isolated;
    this.context.go({ isolated: series === undefined ? others : { ...others, [panel]: series } }, 'replace');
  }

  /** Nothing was ever answered: said once, not by every panel. */
  #drawRefused(failure: ApiError): void {
    const told = `refused ${failure.code} ${failure.message}`;
    if (this.#built === told) return;
    this.#built = told;
    const isOfRange = failure.status === 400 && this.context.url().range !== undefined;
    const element = this.#missing(isOfRange ? 'This range cannot be shown' : 'The numbers cannot be shown', failure);
    if (isOfRange) element.append(h('button', { type: 'button', class: 'button primary', 'data-testid': 'own-range', onclick: () => this.context.go({ range: undefined }) }, 'Show the range of the dashboard'));
    fill(this.#rows, element);
  }

  #missing(title: string, { status, code, message }: ApiError): HTMLElement {
    return h('div', { class: 'page-message', role: 'alert' }, icon('warning'), h('h2', {}, title), h('p', {}, ...withCode(sentence(message))), errorCode(code),
      status === 404
        ? h('a', { class: 'button', href: '/' }, 'To the dashboards')
        : h('button', { type: 'button', class: 'button', onclick: () => this.#store.start(this.context.url().range, this.context.url().chosen) }, 'Try again'));
  }
}

function isInSight(element: Element): boolean {
  const { top, bottom } = element.getBoundingClientRect();
  return top < innerHeight && bottom > 0;
}
