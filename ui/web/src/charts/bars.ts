// Ranked values as horizontal bars: the label lies on its bar, the number on the right.
import type { PanelData } from '../api/types';
import { fill, h } from '../dom';
import { formatValue } from '../format/value';
import { summarise } from '../panel/summary';
import type { Chart, Frame } from './chart';
import { namedColor, seriesColor, withAlpha } from './palette';
import { crossed } from './threshold';

export function barsChart(): Chart {
  const list = h('ol', { class: 'bar-list' });
  const element = h('div', { class: 'chart bars', role: 'img', tabindex: 0 }, list);
  return {
    element,
    update: (panel, frame) => draw(element, list, panel, frame),
    destroy: () => {},
  };
}

function draw(element: HTMLElement, list: HTMLElement, panel: PanelData, frame: Frame): void {
  if (panel.data?.kind !== 'bars') return;
  const { bars, others } = panel.data;
  const longest = Math.max(0, ...bars.map(({ value }) => Math.abs(value ?? 0)));
  element.setAttribute('aria-label', summarise(panel));
  // The label lies on its bar and must be read.
  const color = (value: number | null): string => {
    const threshold = crossed(panel.thresholds, value);
    return withAlpha(threshold ? namedColor(threshold.color, frame.dark) : seriesColor(0, frame.dark), frame.dark ? 0.3 : 0.16);
  };
  const items = bars.map(({ label, value }) => row(label, value, longest, color(value), panel.unit, ''));
  if (typeof others === 'number') items.push(row('others', others, 0, color(null), panel.unit, ' others'));
  fill(list, ...items);
}

function row(label: string, value: number | null, longest: number, color: string, unit: string | undefined, extra: string): HTMLElement {
  const bar = h('span', { class: 'bar' });
  bar.style.width = longest > 0 ? `${(Math.abs(value ?? 0) / longest) * 100}%` : '0';
  bar.style.background = color;
  return h(
    'li',
    { class: `bar-row${extra}`, title: `${label}: ${formatValue(value, unit)}` },
    h('span', { class: 'bar-track' }, bar, h('span', { class: 'bar-label' }, label === '' ? '(empty)' : label)),
    h('span', { class: 'bar-value' }, formatValue(value, unit)),
  );
}
