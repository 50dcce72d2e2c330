// What happened, as flags on a chart: a thin line and a word where there is room for it.
//
// The sentences are told by the chart's own tooltip. Knows times and pixels, and no plotter. Start at
// `flagsOf`.
import type { Mark } from '../api/types';
import { h } from '../dom';
import { formatClock } from '../time/format';
import type { Frame } from './chart';
import { markColor } from './palette';

// How wide a letter of a label is, about, and how far it stands from its line, in pixels.
const LETTER_WIDTH = 6.2;
const LABEL_LEFT = 13;

/** The flags of a chart so wide; `place` says where a second stands. */
export function flagsOf(marks: Mark[], frame: Frame, width: number, place: (second: number) => number): HTMLElement[] {
  const shown = marks
    .map((mark) => ({ mark, at: Date.parse(mark.time) }))
    .filter(({ at }) => at >= frame.from && at <= frame.to)
    .sort((a, b) => a.at - b.at)
    .map(({ mark, at }) => ({ mark, left: Math.round(place(at / 1000)) }));
  return shown.map(({ mark, left }, index) => {
    const room = (shown[index + 1]?.left ?? width) - left - LABEL_LEFT;
    const fits = mark.label !== undefined && mark.label.length * LETTER_WIDTH <= room;
    const flag = h('span', { class: 'flag', 'data-testid': 'mark', 'data-kind': mark.kind }, fits ? h('span', { class: 'flag-label' }, mark.label) : null);
    flag.style.left = `${left}px`;
    flag.style.setProperty('--color', markColor(mark.kind, frame.dark));
    return flag;
  });
}

/** What a tooltip says of the marks so near to a second. */
export function notesOf(marks: Mark[], frame: Frame, second: number, nearS: number): string[] {
  return marks.flatMap((mark) => {
    const at = Date.parse(mark.time);
    return Math.abs(at / 1000 - second) <= nearS ? [`⚑ ${formatClock(at, frame.zone)} ${mark.text}`] : [];
  });
}
