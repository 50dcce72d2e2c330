// The traces of a range, narrowed to those with a span of some service, name, outcome or length.
//
// Above the list each trace is a dot by time and duration; a click on dot or row opens its waterfall.
// The URL holds range and filters. Start at `tracesPage`.
import { ApiError, services } from '../api/client';
import { traces, type TraceList, type TraceSummary } from '../api/telemetry';
import { iconButton, rangePicker } from '../dashboard/range_picker';
import { fill, h, patch } from '../dom';
import { formatValue } from '../format/value';
import { icon } from '../icons';
import { currentZone, onSettings } from '../settings';
import { formatFine } from '../time/format';
import { isRelative, isSame, resolve, type Range, type Span } from '../time/range';
import { linkTo, type Filter } from '../url';
import { filterBar, type Field } from './filters';
import { failureNotice } from './notice';
import type { Context, Page } from './page';
import { poller } from './poll';
import { scatter } from './scatter';

const DEFAULT_RANGE: Range = { from: 'now-15m', to: 'now' };
const POLL_MS = 3000;

const FIELDS: Field[] = [
  { name: 'service', label: 'Service', placeholder: 'all' },
  { name: 'endpoint', label: 'Endpoint', placeholder: 'a part of its name' },
  { name: 'status', label: 'Outcome', choices: [['', 'all'], ['error', 'failed'], ['ok', 'went well']] },
  { name: 'slower', label: 'At least', choices: [['', 'any time'], ['1ms', '1 ms'], ['10ms', '10 ms'], ['50ms', '50 ms'], ['100ms', '100 ms'], ['500ms', '500 ms'], ['1s', '1 s'], ['5s', '5 s']] },
  { name: 'order', label: 'First', choices: [['', 'the newest'], ['slowest', 'the slowest']] },
];

export function tracesPage(context: Context): Page {
  const range = (): Range => context.url().range ?? DEFAULT_RANGE;
  const picker = rangePicker((chosen) => context.go({ range: chosen }));
  const bar = filterBar(FIELDS, (name, value) => filter(name, value));
  const notices = h('div', { class: 'notices' });
  const dots = h('section', { class: 'panel trace-dots', 'aria-label': 'Traces by time and duration' });
  const list = h('div', { class: 'trace-list', 'data-testid': 'trace-list' }, h('p', { class: 'muted' }, 'loading'));
  let shown: TraceList | undefined;
  let drawn = '';

  function filter(name: Filter, value: string): void {
    const { [name]: _old, ...others } = context.url().filters;
    context.go({ filters: value ? { ...others, [name]: value } : others }, 'replace');
  }

  const poll = poller({
    everyMs: POLL_MS,
    look: async (signal) => {
      const { service, endpoint, status, slower, order } = context.url().filters;
      const found = await traces({ ...range(), service, endpoint, status, slower, order }, signal);
      if (signal.aborted) return;
      shown = found;
      draw();
    },
    onFailure: (failure) => {
      patch(notices, failure ? failureNotice(failure) : null);
      if (failure && !shown) fill(list);
    },
  });

  function draw(): void {
    if (!shown) return;
    const next = JSON.stringify([shown.traces, currentZone()]);
    const span = seen(resolve(range(), Date.now()), shown, context.url().filters['order'] === 'slowest');
    dots.hidden = shown.traces.length === 0 || !span;
    if (span && !dots.hidden) patch(dots, scatter(shown.traces, span, currentZone()));
    if (next === drawn) return;
    drawn = next;
    const longest = Math.max(1, ...shown.traces.map(({ duration_us: us }) => us));
    patch(list, shown.traces.length === 0 ? nothing(context.url().filters, range()) : h('table', { class: 'traces', 'aria-label': 'Traces' },
      h('thead', {}, h('tr', {}, ...['began', 'what', 'took', 'spans', 'services'].map((name) => h('th', { scope: 'col' }, name)))),
      h('tbody', {}, ...shown.traces.map((one) => row(one, longest)))),
    shown.has_more ? h('p', { class: 'muted' }, `Only the first ${shown.traces.length} are shown; narrow the range or the filters for others.`) : null);
  }

  function start(): void {
    picker.show(range());
    bar.show(context.url().filters);
    poll.setMoving(isRelative(range()));
    poll.now();
  }

  services().then((found) => bar.suggest('service', ['gateway', ...found.map(({ name }) => name)]), (error: unknown) => {
    if (!(error instanceof ApiError)) throw error;
  });
  start();
  const end = onSettings(() => {
    picker.show(range());
    draw();
  });
  return {
    element: h('main', { class: 'traces-page', id: 'main', 'data-testid': 'traces' },
      h('header', { class: 'dashboard-header' }, h('div', { class: 'dashboard-heading' }, h('h1', { class: 'dashboard-title' }, 'Traces')),
        h('div', { class: 'toolbar' }, poll.element, picker.element, iconButton('refresh', 'Refresh (d r)', 'refresh', () => poll.now()))),
      bar.element, notices, dots, list),
    title: 'Traces',
    onUrl: start,
    onKeys: (keys) => {
      if (keys === '/') bar.focus('service');
      if (keys === 't o') picker.zoomOut();
      if (keys === 't ArrowLeft') picker.shift(-1);
      if (keys === 't ArrowRight') picker.shift(1);
      if (keys === 't a') picker.open();
      if (keys === 'd r') poll.now();
    },
    destroy: () => {
      poll.stop();
      end();
    },
  };
}

/** The newest of many lie close together: the picture begins where they do, and not where the range does. */
function seen(span: Span | undefined, { traces: listed, has_more: hasMore }: TraceList, isBySlowness: boolean): Span | undefined {
  if (!span || !hasMore || isBySlowness) return span;
  return { ...span, from: Math.max(span.from, Math.min(...listed.map(({ time }) => Date.parse(time)))) };
}

function row(one: TraceSummary, longest: number): HTMLElement {
  const bar = h('span', { class: one.failed > 0 ? 'took-bar failed' : 'took-bar' });
  bar.style.width = `${Math.max(1, (one.duration_us / longest) * 100)}%`;
  return h('tr', { 'data-testid': 'trace-row', 'data-trace': one.trace_id, 'data-key': one.trace_id, class: one.failed > 0 ? 'failed' : null },
    h('td', {}, h('time', { datetime: one.time }, formatFine(Date.parse(one.time), currentZone()))),
    h('th', { scope: 'row' }, h('a', { href: linkTo({ page: 'trace', id: one.trace_id }, { at: one.time }) }, h('b', {}, one.service), ` ${one.name}`),
      one.failed > 0 ? h('span', { class: 'state down' }, `${one.failed} failed`) : null),
    h('td', { class: 'took' }, h('span', {}, formatValue(one.duration_us, 'us')), h('span', { class: 'took-track' }, bar)),
    h('td', { class: 'number' }, String(one.spans)),
    h('td', { class: 'trace-services' }, one.services.join(' · ')));
}

function nothing(filters: Record<string, string>, range: Range): HTMLElement {
  const isNarrowed = Object.keys(filters).length > 0 || !isSame(range, DEFAULT_RANGE);
  return h('div', { class: 'page-message', 'data-testid': 'traces-empty' }, icon('empty'),
    h('h2', {}, isNarrowed ? 'No trace fits' : 'No traces yet'),
    h('p', {}, isNarrowed ? 'Widen the range, or take a filter away.' : 'Each request through the gateway begins one, and each call between services goes on with it, without set-up.'));
}
