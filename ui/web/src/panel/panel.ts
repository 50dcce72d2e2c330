// One panel of a dashboard: its frame, its states, its chart, and the table behind it.
//
// Given what is known, it shows what `state` derives; it asks nobody. Start at `createPanel`.
import type { PanelData, PanelDefinition } from '../api/types';
import { barsChart } from '../charts/bars';
import type { Chart, Frame, Gestures } from '../charts/chart';
import { heatmapChart } from '../charts/heatmap';
import { statChart } from '../charts/stat';
import { dataTable, tableChart, type DataTable } from '../charts/table';
import { seriesChart } from '../charts/uplot';
import { fill, h, setAttribute, setText, withCode } from '../dom';
import { errorCode } from '../error_code';
import { compactUnit, GAP } from '../format/value';
import { icon } from '../icons';
import { brief } from './failure';
import { rowsOf, toCsv } from './rows';
import { derive, type Failure, type Known } from './state';

export interface PanelActions extends Gestures {
  expand: () => void;
}

export interface PanelInput {
  known: Known;
  frame: Frame;
  isAlone: boolean;
  isLoading: boolean;
  /** The page says above why there is nothing: the panel need not. */
  isSaidAbove: boolean;
}

export interface Panel {
  readonly element: HTMLElement;
  update: (input: PanelInput) => void;
  destroy: () => void;
}

export function createPanel(dashboard: string, name: string, definition: PanelDefinition, actions: PanelActions): Panel {
  return new PanelView(dashboard, name, definition, actions);
}

class PanelView implements Panel {
  readonly element: HTMLElement;
  readonly #body = h('div', { class: 'panel-body' });
  readonly #note = h('span', { class: 'panel-note', 'data-testid': 'panel-note' });
  readonly #title = h('h2', { class: 'panel-title' });
  readonly #unit = h('span', { class: 'panel-unit' });
  readonly #description = h('p', { class: 'panel-description' });
  readonly #expand: HTMLButtonElement;
  readonly #toggle: HTMLButtonElement;
  #chart: Chart | undefined;
  #kind: string | undefined;
  #table: DataTable | undefined;
  #view: HTMLElement | undefined;
  #drawn: { data: PanelData; frame: string } | undefined;
  #message = '';
  #input: PanelInput | undefined;

  constructor(
    dashboard: string,
    private readonly name: string,
    private readonly definition: PanelDefinition,
    private readonly actions: PanelActions,
  ) {
    this.#toggle = button('table', 'Show the data as a table', 'panel-table-toggle', () => this.#toggleTable());
    this.#toggle.setAttribute('aria-label', `${definition.title} as a table`);
    this.#toggle.setAttribute('aria-pressed', 'false');
    this.#expand = button('expand', '', 'panel-expand', actions.expand);
    const picture = h(
      'a',
      { class: 'icon-button', href: `/d/${encodeURIComponent(dashboard)}/${encodeURIComponent(name)}.svg`, target: '_blank', rel: 'noopener', 'aria-label': `${definition.title} as a picture`, title: 'Open as a picture (SVG)' },
      icon('image'),
    );
    this.element = h(
      'section',
      { class: `panel draw-${definition.draw}`, 'data-panel': name, 'data-state': 'loading', 'data-draw': definition.draw, 'aria-label': definition.title },
      h('header', { class: 'panel-header' }, this.#title, this.#unit, this.#note, h('div', { class: 'panel-actions' }, this.#toggle, picture, this.#expand)),
      this.#description,
      this.#body,
    );
    this.#describe(definition.title, definition.description);
    this.#say('loading', undefined, false);
    this.#showExpand(false);
  }

  update(input: PanelInput): void {
    this.#input = input;
    const { known, frame } = input;
    const shown = derive(known);
    const data = known.data;
    setAttribute(this.element, 'data-state', shown.state);
    setAttribute(this.element, 'data-body', shown.body);
    setAttribute(this.element, 'aria-busy', input.isLoading ? 'true' : null);
    setAttribute(this.element, 'data-watermark', data?.watermark ?? null);
    this.element.classList.toggle('alone', input.isAlone);
    setText(this.#note, shown.note ?? '');
    setAttribute(this.#note, 'title', shown.note ?? null);
    this.#showExpand(input.isAlone);
    const isSeries = shown.body === 'data' && data?.data?.kind === 'series';
    const unit = isSeries && data.unit !== 'count' && !compactUnit(data.unit) ? data.unit : undefined;
    const dropped = shown.body === 'data' && data?.series_dropped ? `${data.series_dropped} more not shown` : undefined;
    const cut = shown.body === 'data' && data?.truncated ? 'more rows not shown' : undefined;
    const rough = shown.body === 'data' && data?.approximate ? 'approximate' : undefined;
    setText(this.#unit, [unit, rough, dropped, cut].filter(Boolean).join(' · '));
    this.#toggle.hidden = shown.body !== 'data';
    this.#describe(data?.title ?? this.definition.title, data?.description ?? this.definition.description);
    if (this.#table && shown.body !== 'data') this.#closeTable();
    if (shown.body === 'data' && data) this.#draw(data, frame);
    else this.#say(shown.body, shown.failure, input.isSaidAbove);
  }

  destroy(): void {
    this.#chart?.destroy();
  }

  #showExpand(isAlone: boolean): void {
    const label = isAlone ? 'Back to the dashboard (Esc)' : 'Fill the page with this panel (v)';
    if (this.#expand.title === label) return;
    fill(this.#expand, icon(isAlone ? 'shrink' : 'expand'));
    setAttribute(this.#expand, 'aria-label', `${this.definition.title}: ${label}`);
    setAttribute(this.#expand, 'title', label);
  }

  #describe(title: string, description: string | undefined): void {
    setText(this.#title, title);
    setText(this.#description, description ?? '');
    // Both are cut where there is no room.
    setAttribute(this.#title, 'title', title);
    setAttribute(this.#description, 'title', description ?? null);
    this.#description.hidden = !description;
  }

  #draw(data: PanelData, frame: Frame): void {
    this.#message = '';
    const kind = data.data?.kind;
    if (!this.#chart || kind !== this.#kind) {
      this.#chart?.destroy();
      this.#chart = chartFor(data, this.actions);
      this.#kind = kind;
      this.#drawn = undefined;
    }
    if (this.#table) this.#fillTable(data, frame);
    const content = this.#table ? this.#tableView() : this.#chart.element;
    if (this.#body.firstElementChild !== content) fill(this.#body, content);
    const key = JSON.stringify(frame);
    if (this.#drawn?.data === data && this.#drawn.frame === key) return;
    this.#drawn = { data, frame: key };
    this.#chart.update(data, frame);
  }

  #say(body: 'loading' | 'empty' | 'error' | 'data', failure: Failure | undefined, isSaidAbove: boolean): void {
    const message = JSON.stringify([body, failure, isSaidAbove]);
    if (message === this.#message) return;
    this.#message = message;
    this.#chart?.destroy();
    this.#chart = undefined;
    this.#drawn = undefined;
    if (body === 'loading') {
      fill(this.#body, h('div', { class: 'skeleton', role: 'status' }, h('span', { class: 'visually-hidden' }, 'loading'), h('i'), h('i'), h('i')));
    } else if (body === 'error') {
      fill(this.#body, failureMessage(failure));
    } else if (isSaidAbove) {
      fill(this.#body, h('div', { class: 'message quiet', 'data-testid': 'panel-empty' }, h('span', { 'aria-hidden': 'true' }, GAP), h('span', { class: 'visually-hidden' }, 'No data')));
    } else {
      fill(this.#body, h('div', { class: 'message', 'data-testid': 'panel-empty' }, icon('empty'), h('p', {}, 'No data in this range')));
    }
  }

  #toggleTable(): void {
    if (this.#table) this.#closeTable();
    else {
      this.#table = dataTable();
      this.#toggle.setAttribute('aria-pressed', 'true');
    }
    if (this.#input) this.update(this.#input);
  }

  #closeTable(): void {
    this.#table = undefined;
    this.#view = undefined;
    this.#toggle.setAttribute('aria-pressed', 'false');
  }

  #tableView(): HTMLElement {
    this.#view ??= h(
      'div',
      { class: 'chart data-view', 'data-testid': 'panel-data' },
      this.#table?.element,
      h('button', { type: 'button', class: 'button small', onclick: () => this.#saveCsv() }, 'Save as CSV'),
    );
    return this.#view;
  }

  #fillTable(data: PanelData, frame: Frame): void {
    if (!data.data) return;
    this.#table?.update(rowsOf(data.data, data.unit), { caption: `Data of ${data.title}`, zone: frame.zone, isExact: true });
  }

  #saveCsv(): void {
    const content = this.#input?.known.data?.data;
    if (content) saveText(`${this.name}.csv`, 'text/csv', toCsv(rowsOf(content)));
  }
}

function chartFor(data: PanelData, gestures: Gestures): Chart {
  switch (data.data?.kind) {
    case 'series':
      return seriesChart(gestures);
    case 'stat':
      return statChart();
    case 'bars':
      return barsChart();
    case 'heatmap':
      return heatmapChart();
    default:
      return tableChart();
  }
}

/** The sentence is read; what else was said is folded away, and the code leads to its page. */
function failureMessage(failure: Failure | undefined): HTMLElement {
  const { short, more } = brief(failure?.message ?? '', failure?.details);
  return h('div', { class: 'message error', role: 'alert' },
    icon('warning'),
    h('p', { 'data-testid': 'panel-error' }, ...withCode(short)),
    errorCode(failure?.code ?? ''),
    more === undefined ? null : h('details', {}, h('summary', {}, 'All that was said'), h('pre', {}, more)));
}

function button(name: 'table' | 'expand', label: string, testid: string, onclick: () => void): HTMLButtonElement {
  return h('button', { type: 'button', class: 'icon-button', 'aria-label': label, title: label, 'data-testid': testid, onclick }, icon(name));
}

export function saveText(name: string, type: string, text: string): void {
  const address = URL.createObjectURL(new Blob([text], { type }));
  h('a', { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
