// Numbers as people read them, by unit: the same text as the server's pictures carry.
//
// The shared cases are in `dashboards/specs/format.json`; the server's formatter is held to them
// too. A gap is never a number: it is `–`. Start at `formatValue`.

export const GAP = '–';

type Step = [size: number, name: string];

const CURRENCIES = new Set(['EUR', 'USD', 'GBP', 'CHF', 'SEK', 'NOK', 'DKK', 'PLN', 'CZK', 'CAD', 'AUD', 'INR']);
const THOUSANDS: Step[] = [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']];
/** Bytes are counted in thousands, as disks and networks are. */
const BYTES: Step[] = [[1e15, 'PB'], [1e12, 'TB'], [1e9, 'GB'], [1e6, 'MB'], [1e3, 'kB']];
const SPANS: Step[] = [[86_400, 'd'], [3600, 'h'], [60, 'min'], [1, 's'], [1e-3, 'ms'], [1e-6, 'µs'], [1e-9, 'ns']];
const SECONDS: Record<string, number> = { s: 1, ms: 1e-3, us: 1e-6, 'µs': 1e-6 };

const SCALED = new Set(['ratio', 'percent', 'bytes']);

/** A number with its unit, short enough for an axis. */
export function formatValue(value: number | null | undefined, unit?: string | null): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return GAP;
  const text = formatSize(Math.abs(value), unit ?? 'count');
  return value < 0 && /[1-9]/.test(text) ? `-${text}` : text;
}

/**
 * The unit for crowded places: one that scales with the number stays, one that would only be
 * repeated is left out there and named once beside the title.
 */
export function compactUnit(unit: string | undefined): string | undefined {
  return unit !== undefined && (unit in SECONDS || SCALED.has(unit)) ? unit : undefined;
}

/**
 * A number for crowded places: without the unit that stands beside the title, and below 1 with no
 * more than three digits that count.
 */
export function formatBrief(value: number | null | undefined, unit: string | undefined): string {
  const kept = compactUnit(unit);
  const isSmall = kept === undefined && typeof value === 'number' && Math.abs(value) < 1;
  return formatValue(isSmall ? Number(value.toPrecision(3)) : value, kept);
}

/** A rate that changes while one looks: three digits say enough of it. */
export function formatRate(perS: number): string {
  return formatValue(Number(perS.toPrecision(3)), '/s');
}

/** The exact number for the data table: nothing rounded away. */
export function formatExact(value: number | null | undefined): string {
  return value === null || value === undefined ? '' : String(value);
}

/** How much `value` lies above or below `before`, in percent; empty where that means nothing. */
export function formatChange(value: number, before: number): string {
  if (before === 0) return '';
  return `${digits((Math.abs(value - before) / Math.abs(before)) * 100, 3)} %`;
}

function formatSize(size: number, unit: string): string {
  const seconds = SECONDS[unit];
  if (seconds !== undefined) return span(size * seconds);
  if (unit === 'count' || unit === '') return short(size);
  if (unit === 'ratio') return `${digits(size * 100, 3)} %`;
  if (unit === 'percent') return `${digits(size, 3)} %`;
  if (unit === 'bytes') return scaled(size, BYTES, ' ') ?? `${digits(size, 3)} B`;
  if (CURRENCIES.has(unit) && size < 10_000) return `${size.toFixed(2)} ${unit}`;
  return `${short(size)} ${unit}`;
}

/** Up to four digits as they are; from ten thousand three digits and a letter. */
function short(size: number): string {
  if (size < 9999.5) return Number.isInteger(size) ? String(size) : digits(size, 4);
  if (size >= 9.9995e15) return scientific(size);
  return scaled(size, THOUSANDS, '') ?? scientific(size);
}

function span(seconds: number): string {
  return seconds === 0 ? '0 s' : (scaled(seconds, SPANS, ' ') ?? `${digits(seconds, 3)} s`);
}

/** By the largest step that leaves at least 1, counting what would be rounded up to it. */
function scaled(size: number, steps: Step[], space: string): string | undefined {
  const step = steps.find(([least]) => size / least >= 0.9995);
  return step && `${digits(size / step[0], 3)}${space}${step[1]}`;
}

/** So many digits that count, at most six after the point, no zeroes at the end. */
function digits(size: number, count: number): string {
  if (size === 0) return '0';
  if (size < 1e-6) return scientific(size);
  const places = Math.min(6, Math.max(0, count - 1 - Math.floor(Math.log10(size))));
  const rounded = (Math.round(size * 10 ** places) / 10 ** places).toFixed(places);
  return rounded.includes('.') ? rounded.replace(/\.?0+$/, '') : rounded;
}

function scientific(size: number): string {
  return size.toExponential(2).replace('e+', 'e');
}
