// A range of time as text, and what can be done with it: read, resolve, shift, zoom, name.
//
// The text is either relative (`now-6h` to `now`) or RFC 3339; it is what the URL and the YAML
// hold. Pure: `now` is always a parameter. Start at `resolve`.
import type { RangeText } from '../api/types';
import { formatDateTime, parseDateTime, type Zone } from './format';

export type Range = RangeText;

export interface Span {
  from: number;
  to: number;
}

export interface Preset {
  text: string;
  range: Range;
}

const UNIT_MS: Record<string, number> = { s: 1e3, m: 6e4, h: 36e5, d: 864e5, w: 6048e5 };
const UNIT_NAME: Record<string, string> = { s: 'second', m: 'minute', h: 'hour', d: 'day', w: 'week' };
const RELATIVE = /^now(?:\s*-\s*(\d{1,6})\s*([smhdw]))?$/;
const SHORTEST_MS = 1000;

export const PRESETS: Preset[] = ['5m', '15m', '1h', '3h', '6h', '12h', '24h', '2d', '7d', '30d'].map(
  (last) => {
    const range = { from: `now-${last}`, to: 'now' };
    return { text: nameOf(range, 'utc'), range };
  },
);

/** Milliseconds since 1970 of one end, or undefined where the text is neither relative nor a time. */
export function resolveEnd(text: string, now: number, zone: Zone = 'utc'): number | undefined {
  const relative = RELATIVE.exec(text.trim());
  if (!relative) return parseDateTime(text, zone);
  if (!relative[1]) return now;
  return now - Number(relative[1]) * (UNIT_MS[relative[2] ?? ''] ?? 0);
}

export function resolve(range: Range, now: number): Span | undefined {
  const from = resolveEnd(range.from, now);
  const to = resolveEnd(range.to, now);
  return from === undefined || to === undefined || from >= to ? undefined : { from, to };
}

/** True when the range moves with the clock. */
export function isRelative(range: Range): boolean {
  return RELATIVE.test(range.to.trim());
}

export function absolute(span: Span): Range {
  return { from: iso(span.from), to: iso(span.to) };
}

/** Half a width to the left (-1) or right (1); looking at the newest again when it would pass `now`. */
export function shift(range: Range, direction: -1 | 1, now: number): Range {
  const span = resolve(range, now);
  if (!span) return range;
  const by = ((span.to - span.from) / 2) * direction;
  return absolute({ from: span.from + by, to: span.to + by });
}

/** Twice as wide: around the middle, or further back when the range ends now. */
export function zoomOut(range: Range, now: number): Range {
  const span = resolve(range, now);
  if (!span) return range;
  const width = span.to - span.from;
  if (isRelative(range) && range.to.trim() === 'now') return { from: relativeText(width * 2), to: 'now' };
  return absolute({ from: span.from - width / 2, to: span.to + width / 2 });
}

/** The part that was dragged over, never narrower than a second. */
export function zoomTo(from: number, to: number): Range {
  const start = Math.floor(Math.min(from, to) / 1000) * 1000;
  const end = Math.ceil(Math.max(from, to) / 1000) * 1000;
  return absolute({ from: start, to: Math.max(end, start + SHORTEST_MS) });
}

export function isSame(a: Range, b: Range): boolean {
  return a.from === b.from && a.to === b.to;
}

/** Reads what was typed into the two fields; says in words what is wrong. */
export function readInputs(from: string, to: string, now: number, zone: Zone): Range | { problem: string } {
  const example = 'write 2015-05-17 10:00 or now-6h';
  const start = resolveEnd(from, now, zone);
  if (start === undefined) return { problem: `"From" is not a time: ${example}` };
  const end = resolveEnd(to, now, zone);
  if (end === undefined) return { problem: `"To" is not a time: ${example}` };
  if (start >= end) return { problem: '"From" must be before "To"' };
  const keep = (text: string, at: number): string => (RELATIVE.test(text.trim()) ? text.trim() : iso(at));
  return { from: keep(from, start), to: keep(to, end) };
}

/** What the button says: "Last 6 hours" or the two times. */
export function nameOf(range: Range, zone: Zone): string {
  const last = RELATIVE.exec(range.from.trim());
  if (last?.[1] && last[2] && range.to.trim() === 'now') {
    const unit = UNIT_NAME[last[2]] ?? '';
    return last[1] === '1' ? `Last ${unit}` : `Last ${last[1]} ${unit}s`;
  }
  const name = (text: string): string => {
    const at = RELATIVE.test(text.trim()) ? undefined : parseDateTime(text, 'utc');
    return at === undefined ? text : formatDateTime(at, zone);
  };
  return `${name(range.from)} – ${name(range.to)}`;
}

function relativeText(width: number): string {
  for (const unit of ['w', 'd', 'h', 'm'] as const) {
    const size = UNIT_MS[unit] ?? 1;
    if (width % size === 0 && (unit !== 'w' || width / size > 4)) return `now-${width / size}${unit}`;
  }
  return `now-${Math.round(width / 1000)}s`;
}

function iso(at: number): string {
  return new Date(at).toISOString().replace('.000Z', 'Z');
}
