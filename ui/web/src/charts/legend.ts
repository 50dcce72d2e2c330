// The legend of a series chart: name, last and highest value; a click shows one series alone.
import type { Series } from '../api/types';
import { fill, h } from '../dom';
import { formatBrief } from '../format/value';
import { extent } from '../panel/summary';
import { seriesLook } from './look';

export function drawLegend(
  parent: HTMLElement,
  series: Series[],
  unit: string | undefined,
  dark: boolean,
  isolated: string | undefined,
  isolate: (name: string | undefined) => void,
): void {
  const focused = parent.contains(document.activeElement)
    ? (document.activeElement as HTMLElement).dataset['series']
    : undefined;
  const items = series.map((one, index) => {
    const { last, max } = extent(one.points.map(([, value]) => value));
    const { color, pattern } = seriesLook(one, index, dark);
    const swatch = h('span', { class: one.dashed ? 'swatch dashed' : `swatch ${pattern}` });
    swatch.style.setProperty('--color', color);
    const isAlone = isolated === one.name;
    return h(
      'button',
      {
        type: 'button',
        class: isolated !== undefined && !isAlone ? 'legend-item off' : 'legend-item',
        'aria-pressed': String(isAlone),
        'data-series': one.name,
        title: isAlone ? 'Show all series' : `Show ${one.name} alone`,
        onclick: () => isolate(isAlone ? undefined : one.name),
      },
      swatch,
      h('span', { class: 'legend-name' }, one.name),
      h('span', { class: 'legend-value' }, formatBrief(last, unit)),
      h('span', { class: 'legend-max' }, `max ${formatBrief(max, unit)}`),
    );
  });
  fill(parent, ...items);
  if (focused !== undefined) items.find((item) => item.dataset['series'] === focused)?.focus();
}
