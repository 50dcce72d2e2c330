// Times as people read them, in UTC or in the browser's zone, always with a 24-hour clock.
//
// Pure but for the browser's own zone. Axis labels, tooltips and captions all come from here.

export type Zone = 'utc' | 'local';

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const TYPED = /^(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?)?\s*(Z|[+-]\d{2}:?\d{2})?$/i;

interface Parts {
  year: number;
  month: number;
  day: number;
  weekday: number;
  hour: number;
  minute: number;
  second: number;
  ms: number;
}

function partsOf(at: number, zone: Zone): Parts {
  const date = new Date(zone === 'utc' ? at : at - new Date(at).getTimezoneOffset() * 60_000);
  return {
    year: date.getUTCFullYear(),
    month: date.getUTCMonth(),
    day: date.getUTCDate(),
    weekday: date.getUTCDay(),
    hour: date.getUTCHours(),
    minute: date.getUTCMinutes(),
    second: date.getUTCSeconds(),
    ms: date.getUTCMilliseconds(),
  };
}

const two = (value: number): string => String(value).padStart(2, '0');

/** `14:03:07` */
export function formatClock(at: number, zone: Zone): string {
  const { hour, minute, second } = partsOf(at, zone);
  return `${two(hour)}:${two(minute)}:${two(second)}`;
}

/** `17 May 14:03:07.123`: a moment as fine as logs and traces need it. */
export function formatFine(at: number, zone: Zone): string {
  const { day, month, ms } = partsOf(at, zone);
  return `${day} ${MONTHS[month]} ${formatClock(at, zone)}.${String(ms).padStart(3, '0')}`;
}

/** `17 May 2015 10:05`, with seconds only where they are not zero. */
export function formatDateTime(at: number, zone: Zone): string {
  const { year, month, day, hour, minute, second } = partsOf(at, zone);
  const seconds = second ? `:${two(second)}` : '';
  return `${day} ${MONTHS[month]} ${year} ${two(hour)}:${two(minute)}${seconds}`;
}

/** `Sun 17 May 10:05`: what a tooltip says, as fine as the step of the series. */
export function formatMoment(at: number, stepS: number, zone: Zone): string {
  const { weekday, day, month, year, hour, minute, second } = partsOf(at, zone);
  const date = `${DAYS[weekday]} ${day} ${MONTHS[month]}`;
  if (stepS >= 86_400) return `${date} ${year}`;
  return `${date} ${two(hour)}:${two(minute)}${stepS < 60 ? `:${two(second)}` : ''}`;
}

/** One label per tick; the date appears where the day changes. */
export function formatTicks(ticks: number[], incrementS: number, zone: Zone): string[] {
  let lastDay = -1;
  return ticks.map((at) => {
    const { year, month, day, hour, minute, second } = partsOf(at, zone);
    if (incrementS >= 27 * 86_400) return month === 0 ? String(year) : `${MONTHS[month]}`;
    const isNewDay = day !== lastDay && (lastDay >= 0 || (hour === 0 && minute === 0));
    lastDay = day;
    if (incrementS >= 86_400 || (isNewDay && hour === 0 && minute === 0)) return `${day} ${MONTHS[month]}`;
    if (incrementS >= 60) return `${two(hour)}:${two(minute)}`;
    return `${two(hour)}:${two(minute)}:${two(second)}`;
  });
}

/** Reads `2015-05-17`, `2015-05-17 10:00[:00]` (in `zone`) and RFC 3339. */
export function parseDateTime(text: string, zone: Zone): number | undefined {
  const match = TYPED.exec(text.trim());
  if (!match) return undefined;
  const [, year, month, day, hour = '00', minute = '00', second = '00', fraction = '', offset] = match;
  const stamp = `${year}-${month}-${day}T${hour}:${minute}:${second}.${fraction.slice(0, 3).padEnd(3, '0')}`;
  const suffix = offset?.toUpperCase() ?? (zone === 'utc' ? 'Z' : '');
  const at = Date.parse(stamp + (/^[+-]\d{4}$/.test(suffix) ? `${suffix.slice(0, 3)}:${suffix.slice(3)}` : suffix));
  return Number.isNaN(at) ? undefined : at;
}

/** `3 min`, `2 h`: how long something took or lies back. */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 90) return `${seconds} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}
