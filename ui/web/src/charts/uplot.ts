// Series over time, drawn by uPlot: the only file that knows uPlot.
//
// Lines or bars, stacked or not, gaps left open, thresholds as lines, marks as flags; one crosshair
// shared by all charts of the page, one tooltip at the cursor, dragging zooms, arrow keys move the
// cursor. Start at `seriesChart`.
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import type { PanelData, Series } from '../api/types';
import { fill, h, setAttribute } from '../dom';
import { compactUnit, formatValue } from '../format/value';
import { summarise } from '../panel/summary';
import { formatMoment, formatTicks } from '../time/format';
import { align, firstShown, lonely, stack, type Aligned } from './align';
import { onResize, type Chart, type Frame, type Gestures } from './chart';
import { flagsOf, notesOf } from './flags';
import { drawLegend } from './legend';
import { DASHES, seriesLook } from './look';
import { namedColor, palette, withAlpha } from './palette';
import { boundOf } from './threshold';
import { hideTooltip, showTooltip, type TooltipRow } from './tooltip';

const SYNC_KEY = 'serin';
const FONT = '11px Inter, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif';
// Right of the plot, for half of a label like `21 May` under its end.
const LABEL_ROOM = 22;
// More rows than these would cover the page.
const TOOLTIP_ROWS = 12;
// A threshold further away than this many times the data would press the data flat.
const THRESHOLD_REACH = 1.6;

interface Shape {
  panel: PanelData;
  frame: Frame;
  series: Series[];
  aligned: Aligned;
  stepS: number;
  isStacked: boolean;
}

let ruler: CanvasRenderingContext2D | null | undefined;

/** How wide a label is, in pixels. */
function widthOf(text: string): number {
  ruler ??= document.createElement('canvas').getContext('2d');
  if (!ruler) return 0;
  ruler.font = FONT;
  return ruler.measureText(text).width;
}

export function seriesChart(gestures: Gestures): Chart {
  return new SeriesChart(gestures);
}

class SeriesChart implements Chart {
  readonly element: HTMLElement;
  readonly #plotArea: HTMLElement;
  readonly #flags: HTMLElement;
  readonly #legend: HTMLElement;
  readonly #spoken: HTMLElement;
  readonly #stopResize: () => void;
  #plot: uPlot | undefined;
  #shape: Shape | undefined;
  #signature = '';
  #size = { width: 0, height: 0 };
  #nearest: number | null = null;
  #isDragged = false;

  constructor(private readonly gestures: Gestures) {
    this.#plotArea = h('div', { class: 'plot', role: 'img', tabindex: 0, 'data-testid': 'plot', onkeydown: (event: KeyboardEvent) => this.#onKey(event) });
    this.#flags = h('div', { class: 'flags' });
    this.#legend = h('div', { class: 'legend', role: 'group', 'aria-label': 'Series' });
    this.#spoken = h('div', { class: 'visually-hidden', 'aria-live': 'polite' });
    this.element = h('div', { class: 'chart series-chart' }, this.#plotArea, this.#legend, this.#spoken);
    this.#plotArea.addEventListener('blur', hideTooltip);
    this.#plotArea.addEventListener('mouseleave', hideTooltip);
    this.#stopResize = onResize(this.#plotArea, (width, height) => {
      this.#size = { width, height };
      if (this.#plot) this.#plot.setSize(this.#size);
      else this.#draw();
    });
  }

  update(panel: PanelData, frame: Frame): void {
    if (panel.data?.kind !== 'series') return;
    const { series, step_s: stepS } = panel.data;
    const aligned = align(series, stepS);
    this.#shape = { panel, frame, series, aligned, stepS, isStacked: Boolean(panel.data.stacked) && series.length > 1 };
    setAttribute(this.#plotArea, 'aria-label', summarise(panel));
    drawLegend(this.#legend, series, panel.unit, frame.dark, frame.isolated, this.gestures.isolate);
    this.#draw();
  }

  destroy(): void {
    this.#stopResize();
    this.#plot?.destroy();
    hideTooltip();
  }

  /** Draws the new data on the plot there is, or makes a new plot where its make-up changed. */
  #draw(): void {
    const shape = this.#shape;
    if (!shape || this.#size.width === 0) return;
    const { panel, frame, series } = shape;
    const signature = JSON.stringify([
      panel.draw, panel.unit, shape.isStacked, shape.stepS, frame.dark, frame.zone, frame.isolated, panel.thresholds,
      series.map(({ name, dashed }) => [name, dashed]),
    ]);
    if (this.#plot && signature === this.#signature) {
      this.#plot.setData(this.#columns(shape));
      return;
    }
    this.#signature = signature;
    this.#plot?.destroy();
    this.#plot = new uPlot(this.#options(shape), this.#columns(shape), this.#plotArea);
    this.#plot.over.append(this.#flags);
    this.#plot.over.classList.toggle('inspects', this.gestures.inspect !== undefined);
    this.#plot.over.addEventListener('click', () => this.#inspect());
    this.#drawFlags(this.#plot);
  }

  #isShown(index: number): boolean {
    const isolated = this.#shape?.frame.isolated;
    const isKnown = this.#shape?.series.some(({ name }) => name === isolated);
    return isolated === undefined || !isKnown || this.#shape?.series[index]?.name === isolated;
  }

  #columns({ aligned, isStacked }: Shape): uPlot.AlignedData {
    const values = isStacked ? stack(aligned.values, (index) => this.#isShown(index)) : aligned.values;
    return [aligned.times, ...values] as uPlot.AlignedData;
  }

  #options(shape: Shape): uPlot.Options {
    const { frame, series, isStacked, panel } = shape;
    const colors = palette(frame.dark);
    const axis = { stroke: colors.muted, font: FONT, grid: { stroke: colors.grid, width: 1 }, ticks: { show: false } };
    return {
      ...this.#size,
      padding: [8, LABEL_ROOM, 0, 0],
      legend: { show: false },
      focus: { alpha: 0.35 },
      tzDate: (second) => (frame.zone === 'utc' ? uPlot.tzDate(new Date(second * 1000), 'Etc/UTC') : new Date(second * 1000)),
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false, dist: 6 },
        focus: { prox: isStacked ? -1 : 28 },
        points: { size: 7, width: 2 },
        sync: { key: SYNC_KEY, setSeries: false, scales: ['x', null], filters: { sub: (type) => type === 'mousemove' || type === 'mouseleave' } },
      },
      scales: {
        x: { time: true, range: () => this.#rangeX() },
        y: { range: (_plot, low, high) => this.#rangeY(low, high) },
      },
      axes: [
        {
          ...axis,
          size: 26,
          gap: 6,
          space: 76,
          values: (plot, ticks, _axis, _space, increment) => {
            const texts = formatTicks(ticks.map((second) => second * 1000), increment, frame.zone);
            return texts.map((text, at) => (this.#hasRoom(plot, ticks[at] ?? 0, text) ? text : ''));
          },
        },
        {
          ...axis,
          gap: 6,
          space: 34,
          size: (_plot, texts) => 16 + Math.max(14, ...(texts ?? []).map(widthOf)),
          values: (_plot, ticks) => ticks.map((value) => formatValue(Number(value.toPrecision(12)), compactUnit(panel.unit))),
        },
      ],
      series: [{}, ...series.map((one, index) => this.#seriesOptions(one, index, shape))],
      bands: isStacked && panel.draw === 'line' ? this.#bands(series) : [],
      hooks: {
        // Flags as well: only now the scale is that of the new range.
        draw: [(plot) => this.#drawThresholds(plot), (plot) => this.#drawFlags(plot)],
        setSelect: [(plot) => this.#onSelect(plot)],
        setSeries: [(_plot, index) => { this.#nearest = index; }],
        setCursor: [(plot) => this.#onCursor(plot)],
      },
    };
  }

  /** Whether a label under the plot ends before the panel does; half a label is worse than none. */
  #hasRoom(plot: uPlot, second: number, text: string): boolean {
    const { min, max } = plot.scales['x'] ?? {};
    const width = plot.bbox.width / uPlot.pxRatio;
    if (width <= 0 || min === undefined || max === undefined || max <= min) return true;
    const toEnd = ((max - second) / (max - min)) * width + LABEL_ROOM;
    return toEnd >= widthOf(text) / 2;
  }

  #seriesOptions(one: Series, index: number, { frame, panel, isStacked, series }: Shape): uPlot.Series {
    const { color, pattern } = seriesLook(one, index, frame.dark);
    const base: uPlot.Series = { label: one.name, show: this.#isShown(index), stroke: color };
    if (panel.draw === 'bar') {
      return {
        ...base,
        width: 0,
        fill: isStacked || series.length === 1 ? color : withAlpha(color, 0.8),
        points: { show: false },
        paths: uPlot.paths.bars?.({ align: 1, size: [0.86, Infinity], radius: 0 }) as uPlot.Series.PathBuilder,
      };
    }
    const isAlone = series.length === 1 && !one.dashed;
    return {
      ...base,
      width: 1.5,
      dash: one.dashed ? [5, 4] : DASHES[pattern],
      ...(isStacked ? { fill: withAlpha(color, 0.55) } : isAlone ? { fill: withAlpha(color, frame.dark ? 0.14 : 0.09) } : {}),
      points: { show: true, size: 4, fill: color, filter: (plot, at) => lonely((plot.data[at] ?? []) as (number | null)[]) },
    };
  }

  #bands(series: Series[]): uPlot.Band[] {
    const shown = series.map((_, index) => index).filter((index) => this.#isShown(index));
    return shown.slice(0, -1).map((index, at) => ({ series: [index + 1, (shown[at + 1] ?? 0) + 1] }));
  }

  /** The range asked for; where steps are wide, from the start of the step that it begins in. */
  #rangeX(): [number, number] {
    if (!this.#shape) return [0, 1];
    const { frame, aligned, stepS } = this.#shape;
    return [firstShown(aligned.times, stepS, frame.from / 1000, frame.to / 1000), frame.to / 1000];
  }

  /** From zero unless the data go below it, with room above, and up to thresholds that are near. */
  #rangeY(low: number | null, high: number | null): [number, number] {
    let bottom = Math.min(0, low ?? 0);
    let top = Math.max(0, high ?? 0);
    const reach = Math.max(Math.abs(bottom), Math.abs(top)) * THRESHOLD_REACH;
    for (const threshold of this.#shape?.panel.thresholds ?? []) {
      const bound = boundOf(threshold);
      if (bound === undefined || Math.abs(bound) > reach) continue;
      top = Math.max(top, bound);
      bottom = Math.min(bottom, bound);
    }
    if (top === bottom) return [0, 1];
    const room = (top - bottom) * 0.08;
    return [bottom < 0 ? bottom - room : 0, top > 0 ? top + room : 0];
  }

  #drawThresholds(plot: uPlot): void {
    const shape = this.#shape;
    if (!shape) return;
    const { ctx, bbox } = plot;
    const ratio = uPlot.pxRatio;
    for (const threshold of shape.panel.thresholds ?? []) {
      const bound = boundOf(threshold);
      if (bound === undefined) continue;
      const y = plot.valToPos(bound, 'y', true);
      if (y < bbox.top || y > bbox.top + bbox.height) continue;
      const color = namedColor(threshold.color, shape.frame.dark);
      ctx.save();
      ctx.strokeStyle = color;
      ctx.lineWidth = ratio;
      ctx.setLineDash([6 * ratio, 4 * ratio]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      ctx.fillStyle = color;
      ctx.font = FONT.replace('11px', `${10.5 * ratio}px`);
      ctx.textAlign = 'right';
      ctx.textBaseline = y - bbox.top > 16 * ratio ? 'bottom' : 'top';
      const name = threshold.name ?? `${threshold.above === undefined || threshold.above === null ? 'below' : 'above'} ${formatValue(bound, shape.panel.unit)}`;
      ctx.setLineDash([]);
      ctx.lineWidth = 4 * ratio;
      ctx.strokeStyle = palette(shape.frame.dark).surface;
      ctx.lineJoin = 'round';
      const at = y - (ctx.textBaseline === 'bottom' ? 2 : -3) * ratio;
      ctx.strokeText(name, bbox.left + bbox.width - 4 * ratio, at);
      ctx.fillText(name, bbox.left + bbox.width - 4 * ratio, at);
      ctx.restore();
    }
  }

  #drawFlags(plot: uPlot): void {
    const shape = this.#shape;
    if (!shape) return;
    // Asking the element for its width would lay the page out, for every chart and every draw.
    const width = plot.bbox.width / uPlot.pxRatio;
    fill(this.#flags, ...flagsOf(shape.panel.marks ?? [], shape.frame, width, (second) => plot.valToPos(second, 'x')));
  }

  /** Tells which point is under the cursor; the end of a drag is none. */
  #inspect(): void {
    const idx = this.#plot?.cursor.idx;
    const second = idx === null || idx === undefined ? undefined : this.#shape?.aligned.times[idx];
    if (this.#isDragged || !this.#shape || second === undefined) {
      this.#isDragged = false;
      return;
    }
    const { series, stepS } = this.#shape;
    const near = this.#nearest === null ? undefined : series[this.#nearest - 1];
    hideTooltip();
    this.gestures.inspect?.(second * 1000, (second + stepS) * 1000, near ?? (series.length === 1 ? series[0] : undefined));
  }

  #onSelect(plot: uPlot): void {
    const { left, width } = plot.select;
    if (width < 6) return;
    this.#isDragged = true;
    const from = plot.posToVal(left, 'x') * 1000;
    const to = plot.posToVal(left + width, 'x') * 1000;
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    hideTooltip();
    this.gestures.zoom(from, to);
  }

  #onCursor(plot: uPlot): void {
    const isHere = plot.over.matches(':hover') || document.activeElement === this.#plotArea;
    if (!isHere) return;
    const { idx, left, top } = plot.cursor;
    if (idx === null || idx === undefined || left === undefined || left < 0) {
      hideTooltip();
      return;
    }
    const told = this.#tell(idx);
    if (!told) {
      hideTooltip();
      return;
    }
    const box = plot.over.getBoundingClientRect();
    showTooltip(box.left + left, box.top + Math.max(0, top ?? 0), told.title, told.rows, told.notes);
  }

  /** What there is to say about one step: highest first, the series nearest to the cursor on top. */
  #tell(idx: number): { title: string; rows: TooltipRow[]; notes: string[] } | undefined {
    const shape = this.#shape;
    const second = shape?.aligned.times[idx];
    if (!shape || second === undefined) return undefined;
    const { frame, panel, series, aligned, stepS } = shape;
    const found = series.flatMap((one, index) => {
      const value = aligned.values[index]?.[idx];
      if (value === null || value === undefined || !this.#isShown(index)) return [];
      return [{ name: one.name, number: value, color: seriesLook(one, index, frame.dark).color, isNearest: this.#nearest === index + 1 && series.length > 1 }];
    });
    found.sort((a, b) => Number(b.isNearest) - Number(a.isNearest) || b.number - a.number);
    const rows: TooltipRow[] = found.slice(0, TOOLTIP_ROWS).map((row) => ({ ...row, value: formatValue(row.number, panel.unit) }));
    const notes: string[] = [];
    if (found.length === 0) notes.push('no data');
    if (found.length > TOOLTIP_ROWS) notes.push(`and ${found.length - TOOLTIP_ROWS} more`);
    if (shape.isStacked && found.length > 1) {
      notes.push(`sum ${formatValue(found.reduce((sum, row) => sum + row.number, 0), panel.unit)}`);
    }
    const near = Math.max(stepS, (frame.to - frame.from) / 1000 / 150);
    notes.push(...notesOf(panel.marks ?? [], frame, second, near));
    if (this.gestures.inspect) notes.push('click: the traces behind it');
    return { title: formatMoment(second * 1000, stepS, frame.zone), rows, notes };
  }

  #onKey(event: KeyboardEvent): void {
    const plot = this.#plot;
    const times = this.#shape?.aligned.times;
    if (!plot || !times?.length || event.ctrlKey || event.metaKey || event.altKey) return;
    const current = plot.cursor.idx ?? times.length - 1;
    const moves: Record<string, number> = {
      ArrowLeft: current - 1, ArrowRight: current + 1, Home: 1, End: times.length - 2,
      PageUp: current - 10, PageDown: current + 10,
    };
    if (event.key === 'Escape') plot.setCursor({ left: -10, top: -10 });
    if (event.key === 'Enter') this.#inspect();
    const wanted = moves[event.key];
    if (wanted === undefined) return;
    event.preventDefault();
    const idx = Math.min(times.length - 1, Math.max(0, wanted));
    plot.setCursor({ left: plot.valToPos(times[idx] ?? 0, 'x'), top: plot.over.clientHeight / 2 });
    const told = this.#tell(idx);
    if (told) this.#spoken.textContent = [told.title, ...told.rows.map(({ name, value }) => `${name} ${value}`), ...told.notes].join(', ');
  }
}
