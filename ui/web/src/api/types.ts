// What the server says, as it travels: the shapes of `/api/v1`.
//
// Times are RFC 3339 UTC, gaps are null, ratios are fractions. Nothing here is computed; every
// reader derives what it shows.

export interface Session {
  user: string;
  version: string;
  instance: string;
}

export interface DashboardSummary {
  name: string;
  title: string;
  description?: string;
  /** It comes with Serin; no file of the folder has its name. */
  is_built_in: boolean;
}

/** What a dashboard's readers choose. */
export interface Variable {
  name: string;
  title: string;
  is_multi: boolean;
  /** What there is within a range, where that was asked for. */
  values?: string[];
}

/** The values chosen, by variable. */
export type Chosen = Record<string, string[]>;

export interface Problem {
  file: string;
  line: number;
  column: number;
  message: string;
}

export type Draw = 'line' | 'bar' | 'stat' | 'table' | 'heatmap';

export interface PanelDefinition {
  title: string;
  draw: Draw;
  /** Its numbers are those of requests, whose traces can be looked at. */
  has_traces?: boolean;
  unit?: string;
  description?: string;
}

export interface RangeText {
  from: string;
  to: string;
}

export interface DashboardDefinition {
  name: string;
  title: string;
  description?: string;
  /** What it is shown with where nobody asks for another. */
  range: RangeText;
  /** What its file names, where that is longer because the data are young. */
  own_range?: RangeText;
  /** When its data begin, where that makes its range shorter. */
  data_from?: string;
  refresh_s: number;
  layout: { panel: string; share: number }[][];
  panels: Record<string, PanelDefinition>;
  variables: Variable[];
  is_built_in: boolean;
  revision: string | number;
  problems: Problem[];
}

export type Point = [time: string, value: number | null];

export interface Series {
  name: string;
  by?: Record<string, string | null>;
  dashed?: boolean;
  /** Its place among the colours, as in pictures; absent where the page itself made the series. */
  look?: number;
  /** A colour by name, where the series means something that has one. */
  color?: string | undefined;
  points: Point[];
}

export interface Column {
  name: string;
  type: string;
  unit?: string;
}

/** A whole number that a number cannot hold is the text of its digits. */
export type Cell = string | number | boolean | null | object;

export type PanelContent =
  | { kind: 'series'; step_s: number; stacked?: boolean; series: Series[] }
  | { kind: 'stat'; value: number | null; compare?: number | null; spark?: Point[] }
  | { kind: 'bars'; bars: { label: string; value: number | null }[]; others?: number | null }
  | { kind: 'table'; columns: Column[]; rows: Cell[][] }
  | {
      kind: 'heatmap';
      x: { title: string; labels: string[] };
      y: { title: string; labels: string[] };
      cells: (number | null)[][];
    };

export interface Threshold {
  above?: number | null;
  below?: number | null;
  color: string;
  name?: string | null;
}

export interface Mark {
  time: string;
  /** A line for each where it stands for several. */
  text: string;
  kind: string;
  /** A word beside it: the version, or how many. */
  label?: string;
}

export interface PanelData {
  panel: string;
  title: string;
  description?: string;
  draw: Draw;
  unit?: string;
  better?: 'higher' | 'lower' | null;
  state: 'ok' | 'empty' | 'error';
  error?: { code: string; message: string; details?: string | null } | null;
  data?: PanelContent | null;
  thresholds?: Threshold[];
  marks?: Mark[];
  /** Series that were left out because there are too many. */
  series_dropped?: number;
  /** A statement has more rows than are shown. */
  truncated?: boolean;
  /** The values are near the true ones: quantiles, distinct counts. */
  approximate?: boolean;
  watermark?: string | null;
  served_from?: string;
}

export interface DashboardData {
  from: string;
  to: string;
  step_s: number;
  panels: Record<string, PanelData>;
  watermark?: string | null;
  data_range?: RangeText | null;
}

export interface Tick {
  now: string;
  watermark?: string | null;
}

export interface Decision {
  time: string;
  rule: string;
  action: string;
  /** The service, where it is about one. */
  subject?: string | null;
  kpi?: string | null;
  value?: number | null;
  bound?: number | null;
  why?: string;
  [more: string]: unknown;
}

export interface Version {
  name: string;
  hash: string;
  phase: 'starting' | 'serving' | 'draining' | 'retired' | 'failed';
  why: string | null;
}

export interface Instance {
  name: string;
  version: string;
  /** One that is silent was ready, and is not heard. */
  state: 'starting' | 'ready' | 'silent' | 'draining' | 'ended';
  pid: number;
  /** Started by `serin run`: its process is somebody's own. */
  is_by_hand: boolean;
  started_us: number;
  ended_us: number | null;
  exit: string | null;
}

export interface Service {
  name: string;
  state: 'serving' | 'starting' | 'degraded' | 'down' | 'stopped';
  web: string | null;
  /** A deploy that is no version yet; it failed where it says why. */
  deploy?: { since_us: number; why: string | null };
  /** Newest first. */
  versions: Version[];
  instances: Instance[];
}

export interface QueryResult {
  columns: Column[];
  rows: Cell[][];
  watermark?: string | null;
  served_from?: string;
}
