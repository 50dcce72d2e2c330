// One line of a log: time, level, who, what; opened, it shows its fields and where to go from it.
//
// Text stays text, with its line breaks and whatever else is in it. Start at `lineElement`.
import type { LogLine } from '../api/telemetry';
import { h } from '../dom';
import { formatFine, type Zone } from '../time/format';
import { linkTo, type Filter } from '../url';

export interface LineActions {
  /** Shows the lines around this one. */
  around: (line: LogLine) => void;
  /** Narrows the list to this value. */
  only: (name: Filter, value: string) => void;
}

export function lineElement(line: LogLine, zone: Zone, isMarked: boolean, actions: LineActions): HTMLElement {
  const details = h('div', { class: 'log-details', hidden: true });
  const toggle = h(
    'button',
    { type: 'button', class: 'log-line', 'aria-expanded': 'false', 'data-testid': 'log-line' },
    h('time', { datetime: line.time, title: line.time }, formatFine(Date.parse(line.time), zone)),
    h('span', { class: `log-level ${line.level}` }, line.level),
    h('span', { class: 'log-instance', title: line.instance }, line.instance),
    h('span', { class: 'log-message' }, line.message ?? ''),
  );
  toggle.addEventListener('click', () => {
    details.hidden = !details.hidden;
    toggle.setAttribute('aria-expanded', String(!details.hidden));
    if (!details.hidden && details.childElementCount === 0) details.append(...content(line, actions));
  });
  const lost = line.dropped ? h('p', { class: 'log-dropped' }, `${line.dropped} ${line.dropped === 1 ? 'line was' : 'lines were'} dropped here: there were too many`) : null;
  return h('li', { class: isMarked ? 'marked' : null, 'data-cursor': line.cursor, 'data-level': line.level }, lost, toggle, details);
}

function content(line: LogLine, actions: LineActions): HTMLElement[] {
  const fields = Object.entries(line.fields).map(([name, value]): [string, string] => [name, typeof value === 'string' ? value : JSON.stringify(value)]);
  const facts: [string, string][] = [['time', line.time], ['service', line.service], ['version', line.version ?? '–'], ['instance', line.instance], ['source', line.source ?? '–'], ...fields];
  const button = (text: string, testid: string, onclick: () => void): HTMLElement => h('button', { type: 'button', class: 'button small', 'data-testid': testid, onclick }, text);
  return [
    h('div', { class: 'log-actions' },
      button('Lines around it', 'log-around', () => actions.around(line)),
      line.trace_id ? h('a', { class: 'button small', href: linkTo({ page: 'trace', id: line.trace_id }, { at: line.time }), 'data-testid': 'log-trace' }, 'Its trace') : null,
      button(`Only ${line.service}`, 'log-only-service', () => actions.only('service', line.service)),
      button(`Only ${line.instance}`, 'log-only-instance', () => actions.only('instance', line.instance))),
    h('dl', { class: 'facts' }, ...facts.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)])),
  ];
}
