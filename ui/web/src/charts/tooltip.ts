// The one tooltip of the page, moved to where the cursor is; never two at once.
import { fill, h } from '../dom';

export interface TooltipRow {
  name: string;
  value: string;
  color?: string | undefined;
  isNearest?: boolean;
}

const GAP_PX = 14;
let element: HTMLElement | undefined;

export function showTooltip(x: number, y: number, title: string, rows: TooltipRow[], notes: string[] = []): void {
  element ??= document.body.appendChild(h('div', { class: 'tooltip', 'aria-hidden': 'true', 'data-testid': 'tooltip' }));
  fill(
    element,
    h('div', { class: 'tooltip-title' }, title),
    ...rows.map((row) => {
      const swatch = h('span', { class: 'swatch' });
      if (row.color) swatch.style.background = row.color;
      return h(
        'div',
        { class: row.isNearest ? 'tooltip-row nearest' : 'tooltip-row' },
        row.color ? swatch : null,
        h('span', { class: 'tooltip-name' }, row.name),
        h('span', { class: 'tooltip-value' }, row.value),
      );
    }),
    ...notes.map((note) => h('div', { class: 'tooltip-note' }, note)),
  );
  element.hidden = false;
  const { width, height } = element.getBoundingClientRect();
  const left = x + GAP_PX + width > innerWidth - 4 ? x - GAP_PX - width : x + GAP_PX;
  const top = Math.min(Math.max(4, y - height / 2), innerHeight - height - 4);
  element.style.transform = `translate(${Math.round(Math.max(4, left))}px, ${Math.round(top)}px)`;
}

export function hideTooltip(): void {
  if (element) element.hidden = true;
}
