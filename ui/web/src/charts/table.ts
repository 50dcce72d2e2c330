// Rows and columns: sortable, numbers on the right, long text cut with the whole in its title.
//
// Serves table panels, the explorer and the hidden table behind every panel. Start at `dataTable`.
import type { Cell, Column } from '../api/types';
import { fill, h } from '../dom';
import { formatExact, formatValue, GAP } from '../format/value';
import { isNumeric, isTemporal, type Rows } from '../panel/rows';
import { formatDateTime, type Zone } from '../time/format';
import { serviceLink } from '../url';
import type { Chart } from './chart';

// How services and instances are; shown as a badge in a column of this name.
const STATES = new Set(['serving', 'ready', 'starting', 'draining', 'degraded', 'down', 'silent', 'dead', 'stopped', 'ended']);

export interface TableOptions {
  caption: string;
  zone: Zone;
  /** Numbers as they came, for the table behind a chart. */
  isExact?: boolean;
}

interface Sort {
  column: number;
  isDown: boolean;
}

export interface DataTable {
  readonly element: HTMLElement;
  update: (data: Rows, options: TableOptions) => void;
}

export function dataTable(): DataTable {
  const element = h('div', { class: 'table-frame', tabindex: 0, role: 'region' });
  let sort: Sort | undefined;
  let shown: { data: Rows; options: TableOptions } | undefined;
  const draw = (): void => {
    if (!shown) return;
    const { data, options } = shown;
    element.setAttribute('aria-label', options.caption);
    const scroll = element.scrollTop;
    const headings = data.columns.map((column, index) =>
      heading(column, sort?.column === index ? sort : undefined, () => {
        const isDown = sort?.column === index ? !sort.isDown : isNumeric(column);
        sort = { column: index, isDown };
        draw();
        element.querySelectorAll('thead button')[index]?.dispatchEvent(new Event('serin-focus'));
      }),
    );
    const rows = sort ? sorted(data.rows, sort) : data.rows;
    const body = rows.map((row) => h('tr', {}, ...data.columns.map((column, index) => cellOf(row[index] ?? null, column, options))));
    fill(
      element,
      h('table', { class: 'table' }, h('caption', { class: 'visually-hidden' }, options.caption), h('thead', {}, h('tr', {}, ...headings)), h('tbody', {}, ...body)),
    );
    element.scrollTop = scroll;
  };
  return {
    element,
    update: (data, options) => {
      shown = { data, options };
      if (sort && sort.column >= data.columns.length) sort = undefined;
      draw();
    },
  };
}

export function tableChart(): Chart {
  const table = dataTable();
  const element = h('div', { class: 'chart table-chart' }, table.element);
  return {
    element,
    update: (panel, frame) => {
      if (panel.data?.kind === 'table') table.update(panel.data, { caption: panel.title, zone: frame.zone });
    },
    destroy: () => {},
  };
}

function heading(column: Column, sort: Sort | undefined, onClick: () => void): HTMLElement {
  const button = h('button', { type: 'button', class: 'sort', onclick: onClick }, column.name);
  button.addEventListener('serin-focus', () => button.focus());
  return h(
    'th',
    {
      scope: 'col',
      class: isNumeric(column) ? 'number' : null,
      'aria-sort': sort ? (sort.isDown ? 'descending' : 'ascending') : null,
    },
    button,
  );
}

function cellOf(cell: Cell, column: Column, options: TableOptions): HTMLElement {
  if (cell === null) return h('td', { class: isNumeric(column) ? 'number gap' : 'gap' }, options.isExact ? '' : GAP);
  if (typeof cell === 'number') {
    return h('td', { class: 'number' }, options.isExact ? formatExact(cell) : column.unit ? formatValue(cell, column.unit) : readable(cell));
  }
  const text = typeof cell === 'object' ? JSON.stringify(cell) : String(cell);
  if (!options.isExact) {
    if (column.name === 'state' && STATES.has(text)) return h('td', {}, h('span', { class: `state ${text}` }, text));
    if (column.name === 'service') return h('td', {}, h('a', { href: serviceLink(text) }, text));
  }
  if (isTemporal(column) && !options.isExact) {
    const at = Date.parse(text);
    if (!Number.isNaN(at)) return h('td', { title: text }, formatDateTime(at, options.zone));
  }
  return h('td', { class: isNumeric(column) ? 'number' : null, title: text.length > 24 ? text : null }, text);
}

/** A number without a unit: whole, grouped; fractions to six digits. */
function readable(value: number): string {
  return Number.isInteger(value) ? value.toLocaleString('en-US') : value.toLocaleString('en-US', { maximumSignificantDigits: 6 });
}

function sorted(rows: Cell[][], { column, isDown }: Sort): Cell[][] {
  const compare = (a: Cell, b: Cell): number => {
    if (typeof a === 'number' && typeof b === 'number') return a - b;
    return String(a).localeCompare(String(b), 'en', { numeric: true });
  };
  return rows.slice().sort((a, b) => {
    const [left = null, right = null] = [a[column], b[column]];
    if (left === null || right === null) return Number(left === null) - Number(right === null);
    return isDown ? compare(right, left) : compare(left, right);
  });
}
