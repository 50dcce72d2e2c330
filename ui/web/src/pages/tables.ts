// The tables there are and their columns, as a list to click names into a statement.
//
// Asked once, when the page opens; nothing stands in for it when that fails. Start at `tableList`.
import { ApiError, query } from '../api/client';
import type { QueryResult } from '../api/types';
import { fill, h, withCode } from '../dom';

const SQL = `SELECT table_name, column_name, data_type FROM information_schema.columns
WHERE table_schema <> 'information_schema' ORDER BY table_name, ordinal_position`;
// Names that SQL takes as they are; all others are quoted.
const PLAIN = /^[a-z_][a-z0-9_]*$/;

export interface TableColumns {
  name: string;
  columns: { name: string; type: string }[];
}

export function tableList(insert: (text: string) => void): HTMLElement {
  const list = h('div', { class: 'table-list' });
  const element = h('aside', { class: 'tables', 'aria-label': 'Tables', 'data-testid': 'tables' }, h('h2', {}, 'Tables'), list);
  query(SQL, { from: 'now-1h', to: 'now' }).then(
    (result) => fill(list, ...byTable(result).map((table) => drawTable(table, insert))),
    (error: unknown) => fill(list, h('p', { class: 'muted' }, ...withCode(error instanceof ApiError ? error.message : 'the tables cannot be read'))),
  );
  return element;
}

function drawTable({ name, columns }: TableColumns, insert: (text: string) => void): HTMLElement {
  const pick = (text: string, type?: string): HTMLElement =>
    h('button', { type: 'button', class: 'table-name', title: `Insert ${quoted(text)}`, onclick: () => insert(quoted(text)) }, h('span', {}, text), type ? h('small', {}, type) : null);
  return h('details', {}, h('summary', {}, name), pick(name, 'table'), ...columns.map((column) => pick(column.name, column.type)));
}

/** Rows of (table, column, type) as tables with their columns, in the order of the rows. */
export function byTable({ rows }: QueryResult): TableColumns[] {
  const tables = new Map<string, TableColumns>();
  for (const [table, column, type] of rows) {
    const name = String(table);
    const found = tables.get(name) ?? { name, columns: [] };
    found.columns.push({ name: String(column), type: typeName(String(type)) });
    tables.set(name, found);
  }
  return [...tables.values()];
}

/** Types as people name them; what is not known stays as the server says it. */
function typeName(type: string): string {
  if (type.startsWith('Timestamp')) return 'time';
  if (type.startsWith('Utf8') || type.startsWith('LargeUtf8')) return 'text';
  if (type.startsWith('Float')) return 'number';
  if (type.startsWith('Int') || type.startsWith('UInt')) return 'integer';
  return type === 'Boolean' ? 'yes/no' : type;
}

export function quoted(name: string): string {
  return PLAIN.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}
