// Logs, traces and the map of calls, as the server tells them.
//
// Shapes and requests of `/api/v1/logs`, `/traces` and `/map`. Times are RFC 3339 UTC; what cannot
// be measured is null.
import { request, withParameters } from './client';
import type { RangeText } from './types';

export type Level = 'error' | 'warn' | 'info' | 'debug' | 'trace';

export interface LogLine {
  /** The place of the line: microseconds, a dash, an identity. */
  cursor: string;
  time: string;
  level: Level;
  service: string;
  version: string | null;
  instance: string;
  source: string | null;
  message: string | null;
  trace_id: string | null;
  /** Lines that were dropped just before this one. */
  dropped: number | null;
  fields: Record<string, unknown>;
}

export interface LogPage {
  /** The oldest first. */
  lines: LogLine[];
  has_more: boolean;
  watermark: string | null;
}

export interface LogCounts extends RangeText {
  step_s: number;
  levels: { level: Level; counts: [time: string, lines: number][] }[];
  senders: { service: string; instance: string; lines: number }[];
}

export interface LogQuestion extends Partial<RangeText> {
  service?: string | undefined;
  instance?: string | undefined;
  level?: string | undefined;
  text?: string | undefined;
  trace?: string | undefined;
  before?: string | undefined;
  around?: string | undefined;
  limit?: string | undefined;
}

export const logs = (question: LogQuestion, signal?: AbortSignal): Promise<LogPage> =>
  request(withParameters('/logs', { ...question }), { signal: signal ?? null });

export const logCounts = (question: LogQuestion, signal?: AbortSignal): Promise<LogCounts> =>
  request(withParameters('/logs/counts', { ...question }), { signal: signal ?? null });

export interface TraceSummary {
  trace_id: string;
  time: string;
  duration_us: number;
  /** The first span. */
  service: string;
  name: string;
  spans: number;
  failed: number;
  services: string[];
  longest_us: number;
}

export interface TraceList {
  traces: TraceSummary[];
  has_more: boolean;
  watermark: string | null;
}

export interface TraceQuestion extends Partial<RangeText> {
  service?: string | undefined;
  endpoint?: string | undefined;
  status?: string | undefined;
  slower?: string | undefined;
  order?: string | undefined;
}

export interface Span {
  span_id: string;
  parent_id: string | null;
  name: string;
  service: string;
  version: string | null;
  instance: string | null;
  time: string;
  /** Microseconds since 1970. */
  began_us: number;
  duration_us: number;
  status: 'ok' | 'error';
  attributes: Record<string, unknown>;
}

export interface TraceSpans {
  trace_id: string;
  spans: Span[];
  /** The places of its services among the colours. */
  looks: Record<string, number>;
  has_more: boolean;
}

export const traces = (question: TraceQuestion, signal?: AbortSignal): Promise<TraceList> =>
  request(withParameters('/traces', { ...question }), { signal: signal ?? null });

export const trace = (id: string, at: string | undefined, signal?: AbortSignal): Promise<TraceSpans> =>
  request(withParameters(`/traces/${encodeURIComponent(id)}`, { at }), { signal: signal ?? null });

export interface MapNode {
  name: string;
  kind: 'gateway' | 'service';
  state: string | null;
  requests: number;
  failed: number;
}

export interface MapEdge {
  /** Null where the callers do not say who they are. */
  caller: string | null;
  callee: string;
  requests: number;
  failed: number;
  p50_ms: number | null;
  p95_ms: number | null;
  is_sampled: boolean;
}

export interface CallMap extends RangeText {
  range_s: number;
  nodes: MapNode[];
  edges: MapEdge[];
  edges_dropped: number;
  watermark: string | null;
}

export const callMap = (range: RangeText, signal?: AbortSignal): Promise<CallMap> =>
  request(withParameters('/map', { ...range }), { signal: signal ?? null });
