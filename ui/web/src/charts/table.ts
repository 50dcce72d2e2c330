// Rows and columns: sortable, numbers on the right, long text cut with the whole in its title.
//
// The rows that fill a window are drawn at once and the others in the frames that follow: to lay out
// hundreds takes longer than what is looked at may wait. `aria-busy` says that there are more to come.
// Serves table panels, the explorer and the hidden table behind every panel. Start at `dataTable`.
import { WHOLE } from '../api/json';
import type { Cell, Column } from '../api/types';
import { fill, h, setAttribute } from '../dom';
import { formatValue, GAP } from '../format/value';
import { isNumeric, isTemporal, type Rows } from '../panel/rows';
import { formatDateTime, type Zone } from '../time/format';
import { serviceLink } from '../url';
import type { Chart } from './chart';

// How services and instances are; shown as a badge in a column of this name.
const STATES = new Set(['serving', 'ready', 'starting', 'draining', 'degraded', 'down', 'silent', 'dead', 'stopped', 'ended']);

// Only longer texts are cut: a cell that cuts is a layer of its own to the browser.
const LONG = 24;

// More rows than a window shows; each further frame draws as many again as are there.
const FIRST_ROWS = 40;

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

interface Drawn {
  /** What all of it was drawn by; another one is drawn anew. */
  like: string;
  columns: Column[];
  options: TableOptions;
  body: HTMLElement;
  /** The rows that are to be there, and those that are. */
  wanted: Cell[][];
  rows: Cell[][];
}

export function dataTable(): DataTable {
  const element = h('div', { class: 'table-frame', tabindex: 0, role: 'region' });
  let sort: Sort | undefined;
  let shown: { data: Rows; options: TableOptions } | undefined;
  let drawn: Drawn | undefined;
  let frame = 0;
  const grow = (table: Drawn): void => {
    const rows = table.wanted.slice(0, Math.max(FIRST_ROWS, 2 * table.rows.length));
    patch(table, rows);
    const isWhole = rows.length === table.wanted.length;
    setAttribute(element, 'aria-busy', isWhole ? null : 'true');
    cancelAnimationFrame(frame);
    if (!isWhole) frame = requestAnimationFrame(() => grow(table));
  };
  const draw = (): void => {
    if (!shown) return;
    const { data, options } = shown;
    const wanted = sort ? sorted(data.rows, sort, data.columns) : data.rows;
    const like = JSON.stringify([data.columns, options, sort]);
    if (drawn?.like === like) {
      drawn.wanted = wanted;
      grow(drawn);
      return;
    }
    setAttribute(element, 'aria-label', options.caption);
    const headings = data.columns.map((column, index) =>
      heading(column, sort?.column === index ? sort : undefined, () => {
        const isDown = sort?.column === index ? !sort.isDown : isNumeric(column);
        sort = { column: index, isDown };
        draw();
        element.querySelectorAll('thead button')[index]?.dispatchEvent(new Event('serin-focus'));
      }),
    );
    const body = h('tbody');
    drawn = { like, columns: data.columns, options, body, wanted, rows: [] };
    grow(drawn);
    fill(element, h('table', { class: 'table' }, h('caption', { class: 'visually-hidden' }, options.caption), h('thead', {}, h('tr', {}, ...headings)), body));
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
  const button = h('button', { type: 'button', class: 'sort', 'aria-label': column.name === '' ? 'sort by the names of the rows' : null, onclick: onClick }, column.name);
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

/** Changes the cells that differ and no others: a live table keeps its place, its selection and its layout. */
function patch(table: Drawn, rows: Cell[][]): void {
  const { body, columns, options, rows: before } = table;
  for (const _ of before.slice(rows.length)) body.lastElementChild?.remove();
  rows.slice(0, before.length).forEach((row, at) => {
    if (before[at] === row) return;
    columns.forEach((column, index) => {
      const cell = row[index] ?? null;
      if (!isSame(before[at]?.[index] ?? null, cell)) body.children[at]?.children[index]?.replaceWith(cellOf(cell, column, options));
    });
  });
  body.append(...rows.slice(before.length).map((row) => rowOf(row, columns, options)));
  table.rows = rows;
}

function isSame(a: Cell, b: Cell): boolean {
  return a === b || (typeof a === 'object' && typeof b === 'object' && JSON.stringify(a) === JSON.stringify(b));
}

function rowOf(row: Cell[], columns: Column[], options: TableOptions): HTMLElement {
  return h('tr', {}, ...columns.map((column, index) => cellOf(row[index] ?? null, column, options)));
}

function cellOf(cell: Cell, column: Column, options: TableOptions): HTMLElement {
  if (cell === null) return h('td', { class: isNumeric(column) ? 'number gap' : 'gap' }, options.isExact ? '' : GAP);
  const number = numberOf(cell, column);
  if (number !== undefined) {
    return h('td', { class: 'number' }, options.isExact ? String(cell) : column.unit ? formatValue(Number(number), column.unit) : readable(number));
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
  const isLong = text.length > LONG;
  return h('td', { class: isNumeric(column) ? 'number' : isLong ? 'long' : null, title: isLong ? text : null }, text);
}

// Made once: each one reads tables of the language.
const GROUPED = new Intl.NumberFormat('en-US');
const FRACTION = new Intl.NumberFormat('en-US', { maximumSignificantDigits: 6 });
const COLLATOR = new Intl.Collator('en', { numeric: true });

/** A number without a unit: whole, grouped; fractions to six digits, but never less than the whole ones. */
function readable(value: number | bigint): string {
  if (typeof value === 'bigint') return GROUPED.format(value);
  return Number.isInteger(value) || Math.abs(value) >= 99_999.5 ? GROUPED.format(Math.round(value)) : FRACTION.format(value);
}

/** The number of a cell, also of one that came as text because it is so large. */
function numberOf(cell: Cell, column: Column): number | bigint | undefined {
  if (typeof cell === 'number') return cell;
  return typeof cell === 'string' && isNumeric(column) && WHOLE.test(cell) ? BigInt(cell) : undefined;
}

function sorted(rows: Cell[][], { column, isDown }: Sort, columns: Column[]): Cell[][] {
  const of = columns[column];
  const compare = (a: Cell, b: Cell): number => {
    const [left, right] = of ? [numberOf(a, of), numberOf(b, of)] : [];
    if (left !== undefined && right !== undefined) return left < right ? -1 : Number(left > right);
    return COLLATOR.compare(String(a), String(b));
  };
  return rows.slice().sort((a, b) => {
    const [left = null, right = null] = [a[column], b[column]];
    if (left === null || right === null) return Number(left === null) - Number(right === null);
    return isDown ? compare(right, left) : compare(left, right);
  });
}
