// The spans of a trace as rows of a waterfall: who caused whom, when, and where the time of each went.
//
// Pure. A span whose parent was not kept stands at the left. Start at `waterfall`.
import type { Span } from '../api/telemetry';

export type Part = 'network' | 'queue' | 'handler';

export interface Segment {
  part: Part;
  us: number;
}

export interface Row {
  span: Span;
  depth: number;
  /** It names a parent that is not among the spans. */
  isOrphan: boolean;
  /** Begin and length as shares of the whole trace. */
  start: number;
  length: number;
  /** In the order of time; empty where the span does not say. */
  segments: Segment[];
}

export interface Waterfall {
  rows: Row[];
  beganUs: number;
  durationUs: number;
  /** In the order of their first span. */
  services: string[];
  failed: number;
}

export function waterfall(spans: Span[]): Waterfall {
  const ordered = spans.slice().sort((a, b) => a.began_us - b.began_us || b.duration_us - a.duration_us);
  const beganUs = ordered[0]?.began_us ?? 0;
  const endUs = Math.max(beganUs, ...ordered.map((span) => span.began_us + span.duration_us));
  // A trace of no length at all is still drawn.
  const durationUs = Math.max(1, endUs - beganUs);
  const ids = new Set(ordered.map(({ span_id: id }) => id));
  const below = new Map<string, Span[]>();
  const roots: Span[] = [];
  for (const span of ordered) {
    const parent = span.parent_id !== null && span.parent_id !== span.span_id && ids.has(span.parent_id) ? span.parent_id : undefined;
    if (parent === undefined) roots.push(span);
    else below.set(parent, [...(below.get(parent) ?? []), span]);
  }
  const rows: Row[] = [];
  const seen = new Set<Span>();
  const add = (span: Span, depth: number): void => {
    if (seen.has(span)) return;
    seen.add(span);
    rows.push({
      span,
      depth,
      isOrphan: depth === 0 && span.parent_id !== null,
      start: (span.began_us - beganUs) / durationUs,
      length: span.duration_us / durationUs,
      segments: segmentsOf(span),
    });
    for (const child of below.get(span.span_id) ?? []) add(child, depth + 1);
  };
  for (const root of roots) add(root, 0);
  // Spans that cause each other in a circle have no root; they are shown all the same.
  for (const span of ordered) add(span, 0);
  return { rows, beganUs, durationUs, services: [...new Set(ordered.map(({ service }) => service))], failed: ordered.filter(({ status }) => status === 'error').length };
}

/** A call knows how long it was on the way, waiting and handled; the way there is taken for half of the way. */
function segmentsOf({ attributes }: Span): Segment[] {
  const us = (name: string): number | undefined => {
    const value = attributes[name];
    return typeof value === 'number' && value >= 0 ? value : undefined;
  };
  const [queue, handler, network] = [us('queue_us'), us('handler_us'), us('network_us')];
  if (queue === undefined || handler === undefined) return [];
  const inside: Segment[] = [{ part: 'queue', us: queue }, { part: 'handler', us: handler }];
  const all: Segment[] = network === undefined ? inside : [{ part: 'network', us: network / 2 }, ...inside, { part: 'network', us: network / 2 }];
  return all.filter((segment) => segment.us > 0);
}
