// Panel data as a plain table: for the hidden table behind every panel, for CSV, for tests.
//
// Exact values, no rounding; gaps stay empty. Pure. Start at `rowsOf`.
import type { Cell, Column, PanelContent } from '../api/types';

export interface Rows {
  columns: Column[];
  rows: Cell[][];
}

export function rowsOf(content: PanelContent, unit?: string): Rows {
  const number = (name: string): Column => ({ name, type: 'number', ...(unit ? { unit } : {}) });
  switch (content.kind) {
    case 'series': {
      const at = new Map<string, Cell[]>();
      content.series.forEach((series, index) => {
        for (const [time, value] of series.points) {
          let row = at.get(time);
          if (!row) at.set(time, (row = [time, ...content.series.map(() => null)]));
          row[index + 1] = value;
        }
      });
      const rows = [...at.values()].sort((a, b) => Date.parse(String(a[0])) - Date.parse(String(b[0])));
      return { columns: [{ name: 'time', type: 'timestamp' }, ...content.series.map(({ name }) => number(name))], rows };
    }
    case 'stat': {
      const rows: Cell[][] = [['value', content.value]];
      if (content.compare !== undefined) rows.push(['before', content.compare]);
      for (const [time, value] of content.spark ?? []) rows.push([time, value]);
      return { columns: [{ name: 'what', type: 'text' }, number('value')], rows };
    }
    case 'bars': {
      const rows: Cell[][] = content.bars.map(({ label, value }) => [label, value]);
      if (typeof content.others === 'number') rows.push(['others', content.others]);
      return { columns: [{ name: 'label', type: 'text' }, number('value')], rows };
    }
    case 'table':
      return { columns: content.columns, rows: content.rows };
    case 'heatmap':
      return {
        columns: [{ name: content.y.title, type: 'text' }, ...content.x.labels.map(number)],
        rows: content.cells.map((cells, index) => [content.y.labels[index] ?? '', ...cells]),
      };
  }
}

// A number that came as text, to keep its digits, may begin with a sign and is no formula.
const NUMBER = /^-?\d+(\.\d+)?$/;

/** RFC 4180, with a quote before what a spreadsheet would take for a formula. */
export function toCsv({ columns, rows }: Rows): string {
  const field = (cell: Cell): string => {
    if (cell === null || cell === undefined) return '';
    let text = typeof cell === 'object' ? JSON.stringify(cell) : String(cell);
    if (typeof cell === 'string' && /^[=+\-@\t\r]/.test(text) && !NUMBER.test(text)) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [columns.map(({ name }) => field(name)), ...rows.map((row) => row.map(field))];
  return lines.map((line) => `${line.join(',')}\r\n`).join('');
}

const NUMERIC = /^(u?int|float|double|decimal|number|integer|bigint|real|smallint|tinyint|hugeint)/i;
const TEMPORAL = /^(timestamp|date|time)/i;

export const isNumeric = (column: Column): boolean => NUMERIC.test(column.type);
export const isTemporal = (column: Column): boolean => TEMPORAL.test(column.type);
