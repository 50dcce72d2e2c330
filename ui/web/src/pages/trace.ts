// One trace as a waterfall: who caused whom and where the time went; below it what was logged on the way.
//
// A row opens to what the span says of itself. Arrow keys move between rows. Start at `tracePage`.
import { ApiError } from '../api/client';
import { logs, trace, type LogLine, type Span, type TraceSpans } from '../api/telemetry';
import { lookAt, type Look } from '../charts/look';
import { fill, h } from '../dom';
import { errorCode } from '../error_code';
import { sentence } from '../format/sentence';
import { formatValue } from '../format/value';
import { icon } from '../icons';
import { currentZone, isDark, onSettings } from '../settings';
import { formatFine } from '../time/format';
import { linkTo } from '../url';
import { lineElement } from './log_line';
import { failureNotice } from './notice';
import type { Context, Page } from './page';
import { waterfall, type Row, type Waterfall } from './waterfall';

const TICKS = 4;
const LOG_LINES = '200';
// The last spans of a trace are told up to a second after its end; until then it is looked again.
const YOUNG_MS = 5000;
const LOOK_AGAIN_MS = 1000;
// Lines of a trace lie around its spans; services wait for each other for minutes at most.
const LOGS_AROUND_MS = 600_000;

export function tracePage(context: Context, id: string): Page {
  const body = h('div', { class: 'trace-body', 'data-testid': 'trace-body', 'aria-busy': 'true' }, h('p', { class: 'muted' }, 'loading'));
  const element = h('main', { class: 'trace-page', id: 'main', 'data-testid': 'trace', 'data-trace': id }, body);
  const request = new AbortController();
  const { signal } = request;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let shown: TraceSpans | undefined;
  let lines: LogLine[] | ApiError = [];

  const draw = (): void => {
    if (shown) fill(body, ...content(context, id, waterfall(shown.spans), shown, lines));
  };

  async function load(): Promise<void> {
    try {
      const found = await trace(id, context.url().filters['at'], signal);
      const isNew = found.spans.length !== shown?.spans.length;
      shown = found;
      if (isNew) {
        context.setTitle(`Trace ${found.spans[0]?.name ?? ''}`);
        draw();
        lines = await linesOf(id, found.spans, signal);
        draw();
      }
      const last = Math.max(...found.spans.map((span) => (span.began_us + span.duration_us) / 1000));
      if (Date.now() - last < YOUNG_MS) timer = setTimeout(() => void load(), LOOK_AGAIN_MS);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      fill(body, h('div', { class: 'page-message', role: 'alert', 'data-testid': 'trace-missing' }, icon(error.status === 404 ? 'empty' : 'warning'), h('h2', {}, 'This trace cannot be shown'), h('p', {}, sentence(error.message)), errorCode(error.code),
        h('a', { class: 'button', href: '/traces' }, 'To the traces')));
    } finally {
      body.removeAttribute('aria-busy');
    }
  }

  element.addEventListener('keydown', (event) => {
    if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return;
    const rows = [...element.querySelectorAll<HTMLElement>('.span-row')];
    const at = rows.indexOf(document.activeElement as HTMLElement);
    if (at < 0) return;
    event.preventDefault();
    rows[at + (event.key === 'ArrowDown' ? 1 : -1)]?.focus();
  });
  void load();
  const end = onSettings(draw);
  return {
    element,
    title: 'Trace',
    destroy: () => {
      clearTimeout(timer);
      request.abort();
      end();
    },
  };
}

/** Its lines, or why they cannot be read: the spans are shown all the same. */
async function linesOf(id: string, spans: Span[], signal: AbortSignal): Promise<LogLine[] | ApiError> {
  const beganMs = Math.min(...spans.map((span) => span.began_us)) / 1000;
  const iso = (ms: number): string => new Date(ms).toISOString();
  try {
    const page = await logs({ trace: id, from: iso(beganMs - LOGS_AROUND_MS), to: iso(beganMs + LOGS_AROUND_MS), limit: LOG_LINES }, signal);
    return page.lines;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return new ApiError(error.status, error.code, `the lines cannot be read: ${error.message}`);
  }
}

function content(context: Context, id: string, fall: Waterfall, { looks, has_more: hasMore }: TraceSpans, lines: LogLine[] | ApiError): (HTMLElement | null)[] {
  const zone = currentZone();
  const began = fall.beganUs / 1000;
  const iso = (ms: number): string => new Date(ms).toISOString();
  const around = { from: iso(began - LOGS_AROUND_MS), to: iso(began + LOGS_AROUND_MS) };
  const logsLink = linkTo({ page: 'logs' }, { trace: id }, around);
  const first = fall.rows[0]?.span;
  const look = (service: string): Look => lookAt(looks[service] ?? fall.services.indexOf(service), isDark());
  return [
    h('header', { class: 'trace-header' },
      h('p', { class: 'crumbs' }, h('a', { href: '/traces' }, 'Traces'), ` / ${id}`),
      h('h1', { class: 'dashboard-title' }, first ? `${first.service} ${first.name}` : id),
      h('p', { class: 'trace-facts' },
        h('span', {}, h('strong', { 'data-testid': 'trace-duration' }, formatValue(fall.durationUs, 'us'))),
        h('span', {}, formatFine(began, zone)),
        h('span', {}, `${fall.rows.length} ${fall.rows.length === 1 ? 'span' : 'spans'} of ${fall.services.length} ${fall.services.length === 1 ? 'service' : 'services'}`),
        fall.failed > 0 ? h('span', { class: 'state down' }, `${fall.failed} failed`) : null,
        h('a', { href: logsLink, 'data-testid': 'trace-logs-link' }, 'its lines among the logs'))),
    hasMore ? h('p', { class: 'notice' }, icon('warning'), h('span', {}, 'The trace has more spans than can be drawn; these are the earliest.')) : null,
    h('section', { class: 'panel waterfall', 'aria-label': 'Waterfall' },
      legend(fall, look),
      axis(fall.durationUs),
      h('ol', { class: 'span-list', 'data-testid': 'spans' }, ...fall.rows.map((row) => spanElement(row, look(row.span.service), fall.beganUs)))),
    h('section', { class: 'trace-logs', 'aria-label': 'Lines logged on the way' },
      h('h2', {}, 'Logged on the way'),
      lines instanceof ApiError ? failureNotice(lines) : lines.length > 0
        ? h('ol', { class: 'log-lines panel', 'data-testid': 'trace-logs' }, ...lines.map((line) => lineElement(line, zone, false, {
          around: () => context.go({ route: { page: 'logs' }, filters: { line: line.cursor, of: line.instance } }),
          only: (name, value) => context.go({ route: { page: 'logs' }, filters: { trace: id, [name]: value }, range: around }),
        })))
        : h('p', { class: 'muted' }, 'No line carries this trace. The logging handlers of the SDKs add it by themselves; plain output does not.')),
  ];
}

function legend(fall: Waterfall, look: (service: string) => Look): HTMLElement {
  const hasParts = fall.rows.some(({ segments }) => segments.length > 0);
  const part = (name: string, text: string): HTMLElement => h('li', {}, swatch(`part ${name}`, 'var(--muted)'), text);
  return h('ul', { class: 'trace-legend', 'data-testid': 'trace-legend' },
    ...fall.services.map((service) => h('li', {}, serviceSwatch(look(service)), service)),
    ...(hasParts ? [part('network', 'on the way'), part('queue', 'waiting'), part('handler', 'handled')] : []));
}

function serviceSwatch({ color, pattern }: Look): HTMLElement {
  return swatch(pattern, color);
}

function swatch(kind: string, color: string): HTMLElement {
  const element = h('span', { class: `swatch ${kind}` });
  element.style.setProperty('--color', color);
  return element;
}

function axis(durationUs: number): HTMLElement {
  const ticks = Array.from({ length: TICKS + 1 }, (_, at) => {
    const tick = h('span', {}, at === 0 ? '0' : formatValue((durationUs * at) / TICKS, 'us'));
    tick.style.left = `${(at / TICKS) * 100}%`;
    return tick;
  });
  return h('div', { class: 'span-axis', 'aria-hidden': 'true' }, h('div', { class: 'span-ticks' }, ...ticks));
}

function spanElement(row: Row, look: Look, beganUs: number): HTMLElement {
  const { span } = row;
  const isFailed = span.status === 'error';
  const took = formatValue(span.duration_us, 'us');
  const bar = h('span', { class: `span-bar ${look.pattern}` }, ...segments(row));
  bar.style.left = `${row.start * 100}%`;
  bar.style.width = `${row.length * 100}%`;
  bar.style.setProperty('--color', look.color);
  const time = h('span', { class: 'span-took' }, took);
  // Beside the bar, on the side that has room.
  if (row.start + row.length < 0.8) time.style.left = `calc(${(row.start + row.length) * 100}% + 6px)`;
  else if (row.start > 0.15) time.style.right = `calc(${(1 - row.start) * 100}% + 6px)`;
  else time.style.right = '6px';
  if (row.start + row.length >= 0.8 && row.start <= 0.15) time.classList.add('inside');
  const name = h('span', { class: 'span-name' }, serviceSwatch(look), h('b', {}, span.service), ` ${span.name}`);
  name.style.setProperty('--depth', String(Math.min(row.depth, 12)));
  const details = h('div', { class: 'span-details', hidden: true });
  const toggle = h(
    'button',
    { type: 'button', class: 'span-row', 'aria-expanded': 'false', 'aria-label': `${span.service} ${span.name}, ${took}${isFailed ? ', failed' : ''}`, 'data-testid': 'span', 'data-status': span.status },
    name,
    h('span', { class: 'span-track' }, bar, time),
  );
  toggle.addEventListener('click', () => {
    details.hidden = !details.hidden;
    toggle.setAttribute('aria-expanded', String(!details.hidden));
    if (!details.hidden && details.childElementCount === 0) details.append(facts(row, beganUs));
  });
  return h('li', { class: isFailed ? 'failed' : null }, toggle, details);
}

/** One that does not say where its time went is of one piece. */
function segments({ segments: parts }: Row): HTMLElement[] {
  if (parts.length === 0) return [h('i', { class: 'part handler' })];
  return parts.map(({ part, us }) => {
    const element = h('i', { class: `part ${part}` });
    element.style.flexGrow = String(us);
    return element;
  });
}

function facts({ span, isOrphan, segments: parts }: Row, beganUs: number): HTMLElement {
  const sum = (part: string): string => formatValue(parts.filter((one) => one.part === part).reduce((us, one) => us + one.us, 0), 'us');
  const times: [string, string][] = parts.length === 0 ? [] : [
    ...(parts.some(({ part }) => part === 'network') ? [['on the way', sum('network')] as [string, string]] : []),
    ['waiting', sum('queue')],
    ['handled', sum('handler')],
  ];
  const hidden = new Set(['queue_us', 'handler_us', 'network_us']);
  const said = Object.entries(span.attributes).filter(([name]) => !hidden.has(name)).map(([name, value]): [string, string] => [name, typeof value === 'string' ? value : JSON.stringify(value)]);
  const all: [string, string][] = [
    ['began', `${formatValue(span.began_us - beganUs, 'us')} after the first`], ['took', formatValue(span.duration_us, 'us')], ...times,
    ['instance', span.instance ?? '–'], ['version', span.version ?? '–'], ...said,
    ['span', span.span_id], ...(isOrphan ? [['parent', `${span.parent_id}, which was not kept`] as [string, string]] : []),
  ];
  return h('dl', { class: 'facts' }, ...all.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]));
}
