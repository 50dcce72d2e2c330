// Two labelled directions and a colour per cell; a cell without data is hatched, zero is not.
//
// SVG drawn at the size it is shown, so that text stays text-sized. Arrow keys move a cursor.
import type { PanelContent, PanelData } from '../api/types';
import { fill, h, setAttribute, svg } from '../dom';
import { formatValue } from '../format/value';
import { summarise } from '../panel/summary';
import { onResize, type Chart, type Frame } from './chart';
import { heatColor, palette } from './palette';
import { hideTooltip, showTooltip } from './tooltip';

type Heat = Extract<PanelContent, { kind: 'heatmap' }>;

const BOTTOM = 22;
const GAP = 1.5;

export function heatmapChart(): Chart {
  return new Heatmap();
}

class Heatmap implements Chart {
  readonly element: HTMLElement;
  readonly #grid: HTMLElement;
  readonly #legend: HTMLElement;
  readonly #spoken: HTMLElement;
  readonly #stopResize: () => void;
  #panel: PanelData | undefined;
  #frame: Frame | undefined;
  #size = { width: 0, height: 0 };
  #at = { x: 0, y: 0 };

  constructor() {
    this.#grid = h('div', {
      class: 'heat-grid',
      role: 'img',
      tabindex: 0,
      onpointermove: (event: PointerEvent) => this.#onPointer(event),
      onpointerleave: hideTooltip,
      onblur: hideTooltip,
      onkeydown: (event: KeyboardEvent) => this.#onKey(event),
    });
    this.#legend = h('div', { class: 'heat-legend', 'aria-hidden': 'true' });
    this.#spoken = h('div', { class: 'visually-hidden', 'aria-live': 'polite' });
    this.element = h('div', { class: 'chart heatmap' }, this.#grid, this.#legend, this.#spoken);
    this.#stopResize = onResize(this.#grid, (width, height) => {
      this.#size = { width, height };
      this.#draw();
    });
  }

  update(panel: PanelData, frame: Frame): void {
    this.#panel = panel;
    this.#frame = frame;
    this.#draw();
  }

  destroy(): void {
    this.#stopResize();
    hideTooltip();
  }

  get #heat(): Heat | undefined {
    return this.#panel?.data?.kind === 'heatmap' ? this.#panel.data : undefined;
  }

  #geometry(heat: Heat): { left: number; cellWidth: number; cellHeight: number } {
    const longest = Math.max(0, ...heat.y.labels.map((label) => label.length));
    const left = Math.min(140, Math.max(30, longest * 7.4 + 12));
    return {
      left,
      cellWidth: (this.#size.width - left) / Math.max(1, heat.x.labels.length),
      cellHeight: (this.#size.height - BOTTOM) / Math.max(1, heat.y.labels.length),
    };
  }

  #draw(): void {
    const heat = this.#heat;
    const frame = this.#frame;
    if (!heat || !frame || !this.#panel || this.#size.width === 0) return;
    setAttribute(this.#grid, 'aria-label', summarise(this.#panel));
    const { left, cellWidth, cellHeight } = this.#geometry(heat);
    const highest = Math.max(0, ...heat.cells.flat().map((value) => value ?? 0));
    const root = svg('svg', { width: this.#size.width, height: this.#size.height, class: 'heat' });
    heat.cells.forEach((row, y) =>
      row.forEach((value, x) => {
        root.append(
          svg('rect', {
            x: left + x * cellWidth,
            y: y * cellHeight,
            width: Math.max(1, cellWidth - GAP),
            height: Math.max(1, cellHeight - GAP),
            rx: Math.min(2.5, cellWidth / 6),
            class: value === null ? 'heat-gap' : null,
            fill: value === null ? 'none' : heatColor(highest > 0 ? value / highest : 0, frame.dark),
          }),
        );
      }),
    );
    this.#labels(root, heat, left, cellWidth, cellHeight);
    fill(this.#grid, root);
    this.#drawLegend(highest, frame.dark);
  }

  #labels(root: SVGElement, heat: Heat, left: number, cellWidth: number, cellHeight: number): void {
    const everyY = Math.max(1, Math.ceil(14 / cellHeight));
    heat.y.labels.forEach((label, y) => {
      if (y % everyY !== 0) return;
      root.append(svg('text', { x: left - 8, y: (y + 0.5) * cellHeight, class: 'heat-label end' }, label));
    });
    const longest = Math.max(1, ...heat.x.labels.map((label) => label.length)) * 6.5 + 6;
    const needed = Math.ceil(longest / cellWidth);
    const everyX = [1, 2, 3, 4, 6, 12].find((every) => every >= needed) ?? needed;
    heat.x.labels.forEach((label, x) => {
      if (x % everyX !== 0) return;
      root.append(svg('text', { x: left + (x + 0.5) * cellWidth, y: this.#size.height - 8, class: 'heat-label middle' }, label));
    });
  }

  #drawLegend(highest: number, dark: boolean): void {
    const ramp = h('span', { class: 'heat-ramp' });
    ramp.style.background = `linear-gradient(to right, ${palette(dark).heat.join(', ')})`;
    fill(
      this.#legend,
      h('span', {}, formatValue(0, this.#panel?.unit)),
      ramp,
      h('span', {}, formatValue(highest, this.#panel?.unit)),
      h('span', { class: 'heat-none' }),
      h('span', {}, 'no data'),
    );
  }

  #onPointer(event: PointerEvent): void {
    const heat = this.#heat;
    if (!heat) return;
    const { left, cellWidth, cellHeight } = this.#geometry(heat);
    const box = this.#grid.getBoundingClientRect();
    this.#at = {
      x: Math.floor((event.clientX - box.left - left) / cellWidth),
      y: Math.floor((event.clientY - box.top) / cellHeight),
    };
    this.#tell(event.clientX, event.clientY);
  }

  #onKey(event: KeyboardEvent): void {
    const heat = this.#heat;
    const moves: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (!heat || !move) return;
    event.preventDefault();
    const clamp = (value: number, length: number): number => Math.min(length - 1, Math.max(0, value));
    this.#at = { x: clamp(this.#at.x + move[0], heat.x.labels.length), y: clamp(this.#at.y + move[1], heat.y.labels.length) };
    const { left, cellWidth, cellHeight } = this.#geometry(heat);
    const box = this.#grid.getBoundingClientRect();
    const told = this.#tell(box.left + left + (this.#at.x + 0.5) * cellWidth, box.top + (this.#at.y + 0.5) * cellHeight);
    if (told) this.#spoken.textContent = told;
  }

  #tell(clientX: number, clientY: number): string | undefined {
    const heat = this.#heat;
    const { x, y } = this.#at;
    const value = heat?.cells[y]?.[x];
    if (!heat || value === undefined) {
      hideTooltip();
      return undefined;
    }
    const title = `${heat.y.labels[y]}, ${heat.x.labels[x]}`;
    const text = value === null ? 'no data' : formatValue(value, this.#panel?.unit);
    showTooltip(clientX, clientY, title, [{ name: this.#panel?.title ?? '', value: text }]);
    return `${title}: ${text}`;
  }
}
