// The range control: a button with the range's name, presets and two fields, shift, and zoom out.
//
// It holds no range; it is told one and tells what was chosen. Start at `rangePicker`.
import { fill, h, setText } from '../dom';
import { icon, type IconName } from '../icons';
import { currentZone, setZone } from '../settings';
import { formatDateTime } from '../time/format';
import { isSame, nameOf, PRESETS, readInputs, resolve, resolveEnd, shift, zoomOut, type Range } from '../time/range';

export interface RangePicker {
  readonly element: HTMLElement;
  show: (range: Range) => void;
  shift: (direction: -1 | 1) => void;
  zoomOut: () => void;
  open: () => void;
}

export function rangePicker(choose: (range: Range) => void): RangePicker {
  let range: Range = { from: 'now-1h', to: 'now' };
  const name = h('span', { class: 'range-name' });
  const zoneName = h('span', { class: 'range-zone' });
  const popup = h('div', { class: 'popup range-popup', role: 'dialog', 'aria-label': 'Time range', hidden: true });
  const toggle = h(
    'button',
    { type: 'button', class: 'button', 'aria-haspopup': 'dialog', 'aria-expanded': 'false', 'data-testid': 'range', onclick: () => (popup.hidden ? open() : close()) },
    icon('clock'), name, zoneName, icon('down'),
  );
  const by = (direction: -1 | 1): void => choose(shift(range, direction, Date.now()));
  const out = (): void => choose(zoomOut(range, Date.now()));
  const element = h(
    'div',
    { class: 'range-picker' },
    h('div', { class: 'button-group' },
      iconButton('left', 'Earlier (t ←)', 'range-earlier', () => by(-1)),
      toggle,
      iconButton('right', 'Later (t →)', 'range-later', () => by(1)),
    ),
    iconButton('zoomOut', 'Zoom out (t o)', 'range-zoom-out', out),
    popup,
  );

  function close(): void {
    popup.hidden = true;
    toggle.setAttribute('aria-expanded', 'false');
    document.removeEventListener('pointerdown', onOutside);
  }
  function onOutside(event: Event): void {
    if (!element.contains(event.target as Node)) close();
  }
  function open(): void {
    fill(popup, ...popupContent());
    popup.hidden = false;
    toggle.setAttribute('aria-expanded', 'true');
    document.addEventListener('pointerdown', onOutside);
    (popup.querySelector<HTMLElement>('[aria-pressed=true]') ?? popup.querySelector('input'))?.focus();
  }
  popup.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    close();
    toggle.focus();
  });

  function popupContent(): Node[] {
    const pick = (chosen: Range): void => {
      close();
      toggle.focus();
      choose(chosen);
    };
    const presets = PRESETS.map((preset) =>
      h('button', { type: 'button', class: 'preset', 'aria-pressed': String(isSame(preset.range, range)), onclick: () => pick(preset.range) }, preset.text),
    );
    const shown = resolve(range, Date.now());
    const typed = (text: string): string => {
      const at = text.startsWith('now') ? undefined : resolveEnd(text, Date.now());
      return at === undefined ? text : inputText(at);
    };
    const from = h('input', { id: 'range-from', class: 'input', value: typed(range.from), autocomplete: 'off', spellcheck: 'false', 'data-testid': 'range-from' });
    const to = h('input', { id: 'range-to', class: 'input', value: typed(range.to), autocomplete: 'off', spellcheck: 'false', 'data-testid': 'range-to' });
    const problem = h('p', { class: 'problem', role: 'alert' });
    const zones = (['utc', 'local'] as const).map((zone) =>
      h('button', { type: 'button', class: 'preset', 'aria-pressed': String(currentZone() === zone), onclick: () => { setZone(zone); close(); toggle.focus(); } }, zone === 'utc' ? 'UTC' : 'Local time'),
    );
    const form = h(
      'form',
      {
        class: 'range-form',
        onsubmit: (event: Event) => {
          event.preventDefault();
          const read = readInputs(from.value, to.value, Date.now(), currentZone());
          if ('problem' in read) problem.textContent = read.problem;
          else pick(read);
        },
      },
      h('label', { for: 'range-from' }, 'From'), from,
      h('label', { for: 'range-to' }, 'To'), to,
      problem,
      h('button', { type: 'submit', class: 'button primary', 'data-testid': 'range-apply' }, 'Apply'),
      h('p', { class: 'hint' }, shown ? `Times like 2015-05-17 10:00, or now-6h.` : ''),
      h('div', { class: 'zones', role: 'group', 'aria-label': 'Time zone' }, ...zones),
    );
    return [h('div', { class: 'presets' }, ...presets), form];
  }

  return {
    element,
    show: (next) => {
      range = next;
      setText(name, nameOf(next, currentZone()));
      setText(zoneName, currentZone() === 'utc' ? 'UTC' : '');
    },
    shift: by,
    zoomOut: out,
    open,
  };
}

function inputText(at: number): string {
  const text = formatDateTime(at, currentZone());
  const iso = new Date(currentZone() === 'utc' ? at : at - new Date(at).getTimezoneOffset() * 60_000).toISOString();
  return text ? iso.slice(0, iso.endsWith(':00.000Z') ? 16 : 19).replace('T', ' ') : '';
}

export function iconButton(name: IconName, label: string, testid: string, onclick: () => void): HTMLButtonElement {
  return h('button', { type: 'button', class: 'button icon-only', 'aria-label': label, title: label, 'data-testid': testid, onclick }, icon(name));
}
