// One sentence that says what a chart shows, for those who cannot see it. Pure.
import type { PanelData } from '../api/types';
import { formatValue } from '../format/value';

export function summarise(panel: PanelData): string {
  const { data, title, unit } = panel;
  if (!data) return title;
  switch (data.kind) {
    case 'series': {
      const kind = panel.draw === 'bar' ? 'Bar chart' : 'Line chart';
      const parts = data.series.slice(0, 6).map((series) => {
        const { last, max, min } = extent(series.points.map(([, value]) => value));
        return `${series.name}: last ${formatValue(last, unit)}, lowest ${formatValue(min, unit)}, highest ${formatValue(max, unit)}`;
      });
      const more = data.series.length > 6 ? `; and ${data.series.length - 6} more` : '';
      return `${kind}, ${title}, ${count(data.series.length, 'series', 'series')}. ${parts.join('; ')}${more}.`;
    }
    case 'stat': {
      const before = typeof data.compare === 'number' ? `, before ${formatValue(data.compare, unit)}` : '';
      return `${title}: ${formatValue(data.value, unit)}${before}.`;
    }
    case 'bars': {
      const top = data.bars.slice(0, 3).map(({ label, value }) => `${label} ${formatValue(value, unit)}`);
      return `Bar list, ${title}, ${count(data.bars.length, 'bar', 'bars')}. Longest: ${top.join('; ')}.`;
    }
    case 'table':
      return `Table, ${title}, ${count(data.rows.length, 'row', 'rows')}.`;
    case 'heatmap': {
      let peak: { value: number; x: string; y: string } | undefined;
      data.cells.forEach((row, y) =>
        row.forEach((value, x) => {
          if (value !== null && (!peak || value > peak.value)) {
            peak = { value, x: data.x.labels[x] ?? '', y: data.y.labels[y] ?? '' };
          }
        }),
      );
      const highest = peak ? ` Highest: ${formatValue(peak.value, unit)} at ${peak.y}, ${peak.x}.` : '';
      return `Heat map, ${title}, ${data.y.title} by ${data.x.title}.${highest}`;
    }
  }
}

export function extent(values: (number | null)[]): { last: number | null; min: number | null; max: number | null } {
  let last: number | null = null;
  let min: number | null = null;
  let max: number | null = null;
  for (const value of values) {
    if (value === null) continue;
    last = value;
    if (min === null || value < min) min = value;
    if (max === null || value > max) max = value;
  }
  return { last, min, max };
}

function count(number: number, one: string, many: string): string {
  return `${number} ${number === 1 ? one : many}`;
}
