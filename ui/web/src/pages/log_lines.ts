// Lines that come in pieces and out of order become one list: each once, by time, bounded.
//
// Pure. Start at `merge`.
import type { LogLine } from '../api/telemetry';

/** More would make the page slow; the oldest go. */
export const LINES_MAX = 2000;

/** Both lists as one, the oldest first; of too many the oldest go. */
export function merge(shown: LogLine[], more: LogLine[], max = LINES_MAX): LogLine[] {
  if (more.length === 0) return shown;
  const byCursor = new Map(shown.map((line) => [line.cursor, line]));
  for (const line of more) byCursor.set(line.cursor, line);
  if (byCursor.size === shown.length) return shown;
  return [...byCursor.values()].sort(inOrder).slice(-max);
}

function inOrder(a: LogLine, b: LogLine): number {
  const [left, right] = [microseconds(a.cursor), microseconds(b.cursor)];
  if (left !== right) return left - right;
  return a.cursor < b.cursor ? -1 : 1;
}

/** The time of a line, in microseconds since 1970: exact up to the year 2255. */
export function microseconds(cursor: string): number {
  return Number(cursor.slice(0, cursor.indexOf('-')));
}
