// Traces as dots: when, against how long on a scale of powers of ten; each is a link to its waterfall.
//
// Drawn as SVG in shares of its box, so that it needs no size. Start at `scatter`.
import type { TraceSummary } from '../api/telemetry';
import { h, svg } from '../dom';
import { formatValue } from '../format/value';
import { formatFine, formatTicks, type Zone } from '../time/format';
import type { Span } from '../time/range';
import { linkTo } from '../url';

const TICKS = 5;

export function scatter(traces: TraceSummary[], span: Span, zone: Zone): HTMLElement {
  const durations = traces.map(({ duration_us: us }) => Math.max(1, us));
  const low = Math.floor(Math.log10(Math.min(...durations)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...durations))));
  const y = (us: number): number => 1 - (Math.log10(Math.max(1, us)) - low) / (high - low);
  const x = (at: number): number => (at - span.from) / (span.to - span.from);
  const percent = (share: number): string => `${(share * 100).toFixed(2)}%`;
  const powers = Array.from({ length: high - low + 1 }, (_, at) => 10 ** (low + at));
  const times = Array.from({ length: TICKS }, (_, at) => span.from + ((span.to - span.from) * (at + 0.5)) / TICKS);
  const label = (text: string, side: 'left' | 'top', at: number, kind: string): HTMLElement => {
    const element = h('span', { class: kind }, text);
    element.style.setProperty(side, percent(at));
    return element;
  };
  const dots = traces.map((one) => {
    const at = Date.parse(one.time);
    const text = `${one.service} ${one.name}, ${formatValue(one.duration_us, 'us')}, ${formatFine(at, zone)}${one.failed > 0 ? ', failed' : ''}`;
    const dot = svg('circle', { class: one.failed > 0 ? 'dot failed' : 'dot', cx: percent(x(at)), cy: percent(y(one.duration_us)), r: 4 }, svg('title', {}, text));
    // The rows below are the same links for the keyboard.
    return svg('a', { href: linkTo({ page: 'trace', id: one.trace_id }, { at: one.time }), tabindex: -1, 'data-testid': 'trace-dot', 'data-key': one.trace_id }, dot);
  });
  const lines = powers.map((us) => svg('line', { class: 'scatter-line', x1: 0, x2: '100%', y1: percent(y(us)), y2: percent(y(us)) }));
  return h('div', { class: 'scatter' },
    h('div', { class: 'scatter-plot' }, svg('svg', { 'aria-hidden': 'true', width: '100%', height: '100%' }, ...lines, ...dots)),
    ...powers.map((us) => label(formatValue(us, 'us'), 'top', y(us), 'scatter-y')),
    h('div', { class: 'scatter-times', 'aria-hidden': 'true' }, ...formatTicks(times, (span.to - span.from) / TICKS / 1000, zone).map((text, at) => label(text, 'left', (at + 0.5) / TICKS, 'scatter-x'))));
}
