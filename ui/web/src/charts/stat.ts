// One number, large, with what it was before and a small line of how it got there.
import type { Mark, PanelData, Point } from '../api/types';
import { fill, h, svg } from '../dom';
import { formatChange, formatExact, formatValue } from '../format/value';
import { summarise } from '../panel/summary';
import type { Chart, Frame } from './chart';
import { markColor, namedColor, seriesColor } from './palette';
import { boundOf, crossed } from './threshold';

export function statChart(): Chart {
  const element = h('div', { class: 'chart stat', role: 'img' });
  return {
    element,
    update: (panel, frame) => draw(element, panel, frame),
    destroy: () => {},
  };
}

function draw(element: HTMLElement, panel: PanelData, frame: Frame): void {
  if (panel.data?.kind !== 'stat') return;
  const { value, compare, spark } = panel.data;
  const threshold = crossed(panel.thresholds, value);
  const color = threshold ? namedColor(threshold.color, frame.dark) : undefined;
  const number = h('span', { class: 'stat-value', 'data-testid': 'stat-value', title: formatExact(value) }, ...splitUnit(formatValue(value, panel.unit)));
  if (color) number.style.color = color;
  element.setAttribute('aria-label', summarise(panel));
  fill(
    element,
    h('div', { class: 'stat-line' }, number, change(value, compare, panel.better)),
    threshold ? badge(panel, threshold, color) : null,
    spark && spark.length > 1 ? sparkline(spark, color ?? seriesColor(0, frame.dark), panel.marks ?? [], frame.dark) : null,
  );
}

/** The unit is set smaller than the number; the text stays whole. */
function splitUnit(text: string): (Node | string)[] {
  const at = text.indexOf(' ');
  return at < 0 ? [text] : [text.slice(0, at), h('span', { class: 'stat-unit' }, text.slice(at))];
}

function change(value: number | null, before: number | null | undefined, better: PanelData['better']): HTMLElement | null {
  if (value === null || before === null || before === undefined) return null;
  const text = formatChange(value, before);
  if (!text) return null;
  const isGood = better ? (better === 'higher') === value > before : undefined;
  const mood = value === before || isGood === undefined ? '' : isGood ? ' good' : ' bad';
  const arrow = value > before ? '↑' : value < before ? '↓' : '→';
  const verdict = mood === ' good' ? 'better' : mood === ' bad' ? 'worse' : '';
  return h('span', { class: `stat-change${mood}`, title: `${verdict ? `${verdict} than` : 'compared with'} before` }, `${arrow} ${text}`);
}

function badge(panel: PanelData, threshold: NonNullable<ReturnType<typeof crossed>>, color: string | undefined): HTMLElement {
  const isAbove = typeof threshold.above === 'number';
  const bound = `${isAbove ? 'above' : 'below'} ${formatValue(boundOf(threshold), panel.unit)}`;
  const text = threshold.name ? `${threshold.name} · ${bound}` : bound;
  const element = h('span', { class: 'stat-badge', title: `The value is ${bound}` }, `${isAbove ? '▲' : '▼'} ${text}`);
  if (color) element.style.color = color;
  return element;
}

function sparkline(points: Point[], color: string, marks: Mark[], dark: boolean): SVGSVGElement {
  const times = points.map(([time]) => Date.parse(time));
  const first = Math.min(...times);
  const width = Math.max(1, Math.max(...times) - first);
  const values = points.flatMap(([, value]) => (value === null ? [] : [value]));
  const low = Math.min(0, ...values);
  const height = Math.max(0, ...values) - low || 1;
  const runs: string[][] = [[]];
  points.forEach(([, value], index) => {
    if (value === null) {
      runs.push([]);
      return;
    }
    const x = (((times[index] ?? first) - first) / width) * 100;
    runs.at(-1)?.push(`${x.toFixed(2)},${(31 - ((value - low) / height) * 29).toFixed(2)}`);
  });
  // A value between two gaps is a line of no length, which its round ends turn into a dot.
  const drawn = runs.filter((run) => run.length > 0).map((run) => (run.length === 1 ? [...run, ...run] : run));
  const lines = drawn.map((run) => svg('path', { d: `M${run.join('L')}`, stroke: color, class: 'spark-line' }));
  const areas = drawn.map((run) =>
    svg('path', { d: `M${run.join('L')}L${run.at(-1)?.split(',')[0]},32L${run[0]?.split(',')[0]},32Z`, fill: color, class: 'spark-area' }),
  );
  // Decisions stand where they were made; what is older than the first point stands at the edge.
  const flags = marks.map((mark) => {
    const x = Math.min(100, Math.max(0, ((Date.parse(mark.time) - first) / width) * 100)).toFixed(2);
    const props = { x1: x, x2: x, y1: 0, y2: 32, stroke: markColor(mark.kind, dark), class: 'spark-mark', 'data-testid': 'mark', 'data-kind': mark.kind };
    return svg('line', props, svg('title', {}, mark.text));
  });
  return svg('svg', { class: 'spark', viewBox: '0 0 100 32', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, ...areas, ...lines, ...flags);
}
