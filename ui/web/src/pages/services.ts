// The services of this machine: what runs, in which version, and how it does; the worst first.
//
// Instances come from the runtime, numbers from the tables `requests` and `beats` over the last minute.
// What cannot be measured is a dash, never a zero. Start at `servicesPage`.
import { query, services } from '../api/client';
import type { Cell, Instance, Service } from '../api/types';
import { h, patch } from '../dom';
import { formatRate, formatValue } from '../format/value';
import { icon } from '../icons';
import { formatAge } from '../time/format';
import { linkTo, serviceLink } from '../url';
import { failureNotice } from './notice';
import type { Page } from './page';
import { poller } from './poll';
import { whatServes, worstFirst } from './service_order';

const POLL_MS = 1000;
const NUMBERS_EVERY = 5;
const LAST_MINUTE = { from: 'now-1m', to: 'now' };
const MINUTE_S = 60;
const ENDED_SHOWN = 2;

const REQUESTS =
  'SELECT service, count(*) AS requests, sum(CASE WHEN status >= 500 THEN 1 ELSE 0 END) AS failed, ' +
  'approx_percentile_cont(duration_ms, 0.95) AS p95_ms FROM requests WHERE $__range GROUP BY service';
const BEATS =
  'SELECT instance, avg(cpu) AS cpu, max(memory_bytes) AS memory FROM beats WHERE $__range GROUP BY instance';

interface Load {
  requests: number;
  failed: number;
  p95Ms: number | null;
}

interface Use {
  cpu: number | null;
  memory: number | null;
}

interface Numbers {
  loads: Map<string, Load>;
  uses: Map<string, Use>;
}

export function servicesPage(): Page {
  const notices = h('div', { class: 'notices' });
  const list = h('div', { class: 'service-list', 'data-testid': 'service-list' }, h('p', { class: 'muted' }, 'loading'));
  let numbers: Numbers = { loads: new Map(), uses: new Map() };
  let looks = 0;
  const poll = poller({
    everyMs: POLL_MS,
    look: async (signal) => {
      const found = await services(signal);
      if (looks % NUMBERS_EVERY === 0 && found.length > 0) numbers = await read(signal);
      if (signal.aborted) return;
      looks += 1;
      patch(list, ...(found.length > 0 ? found.sort(worstFirst).map((service) => entry(service, numbers)) : [nothing()]));
    },
    onFailure: (failure) => patch(notices, failure ? failureNotice(failure) : null),
  });
  poll.now();
  return {
    element: h(
      'main',
      { class: 'services', id: 'main' },
      h('header', { class: 'home-header' }, h('h1', {}, 'Services'), h('p', { class: 'muted' }, 'Numbers are those of the last minute.'), poll.element),
      notices,
      list,
    ),
    title: 'Services',
    onKeys: (keys) => {
      if (keys === 'd r') poll.now();
    },
    destroy: () => poll.stop(),
  };
}

/** Both answers by name; a table that does not exist yet has nothing to say. */
async function read(signal: AbortSignal): Promise<Numbers> {
  const rows = (sql: string): Promise<Cell[][]> => query(sql, LAST_MINUTE, signal).then((answer) => answer.rows, () => []);
  const [requests, beats] = await Promise.all([rows(REQUESTS), rows(BEATS)]);
  const number = (cell: Cell | undefined): number | null => (typeof cell === 'number' ? cell : null);
  return {
    loads: new Map(requests.map(([name, count, failed, p95]) => [String(name), { requests: number(count) ?? 0, failed: number(failed) ?? 0, p95Ms: number(p95) }])),
    uses: new Map(beats.map(([name, cpu, memory]) => [String(name), { cpu: number(cpu), memory: number(memory) }])),
  };
}

function entry(service: Service, { loads, uses }: Numbers): HTMLElement {
  const load = loads.get(service.name);
  const running = service.instances.filter(({ state }) => state !== 'ended');
  const shown = [...running, ...service.instances.filter(({ state }) => state === 'ended').slice(-ENDED_SHOWN)];
  const failed = service.versions.find(({ phase }) => phase === 'failed');
  const figure = (label: string, value: string): HTMLElement => h('div', {}, h('dt', {}, label), h('dd', {}, value));
  return h(
    'section',
    { class: 'service', 'data-testid': 'service', 'data-service': service.name, 'data-key': service.name, 'data-state': service.state },
    h('header', {},
      h('span', { class: `state ${service.state}` }, service.state),
      h('h2', {}, h('a', { href: serviceLink(service.name) }, service.name)),
      h('span', { class: 'muted' }, whatServes(service)),
      service.web ? h('code', {}, service.web) : null,
      h('span', { class: 'service-links' }, h('a', { href: linkTo({ page: 'logs' }, { service: service.name }) }, 'logs'), h('a', { href: linkTo({ page: 'traces' }, { service: service.name }) }, 'traces')),
      h('dl', {},
        figure('requests', load ? formatRate(load.requests / MINUTE_S) : '–'),
        figure('errors', load && load.requests > 0 ? formatValue(load.failed / load.requests, 'ratio') : '–'),
        figure('p95', load?.p95Ms == null ? '–' : formatValue(load.p95Ms, 'ms')))),
    deployNote(service),
    failed && service.versions.indexOf(failed) === 0 ? h('p', { class: 'notice bad' }, icon('warning'), h('span', {}, `${failed.name} was not promoted: ${failed.why ?? ''}`)) : null,
    shown.length === 0 ? null : h('div', { class: 'instance-frame' }, h('table', { class: 'instances', 'aria-label': `Instances of ${service.name}` },
      h('thead', {}, h('tr', {}, ...['instance', 'state', 'since', 'CPU', 'memory', 'process'].map((name) => h('th', { scope: 'col' }, name)))),
      h('tbody', {}, ...shown.map((instance) => row(instance, uses.get(instance.name)))))),
  );
}

/** What is built takes its time, and what cannot be built says why. */
function deployNote({ deploy }: Service): HTMLElement | null {
  if (!deploy) return null;
  const age = formatAge(Date.now() - deploy.since_us / 1000);
  return deploy.why === null
    ? h('p', { class: 'notice', 'data-testid': 'deploy' }, icon('clock'), h('span', {}, `being built for ${age}`))
    : h('p', { class: 'notice bad', 'data-testid': 'deploy' }, icon('warning'), h('span', {}, `The last deploy failed ${age} ago: ${deploy.why}`));
}

function row(instance: Instance, use: Use | undefined): HTMLElement {
  const isEnded = instance.state === 'ended';
  const since = isEnded ? instance.ended_us : instance.started_us;
  const state = isEnded && instance.exit ? `ended, ${instance.exit}` : instance.state;
  return h(
    'tr',
    { class: isEnded ? 'ended' : null, 'data-testid': 'instance', 'data-key': instance.name },
    h('th', { scope: 'row' }, instance.name),
    h('td', {}, h('span', { class: `state ${instance.state}` }, state)),
    h('td', {}, since ? formatAge(Date.now() - since / 1000) : '–'),
    h('td', {}, isEnded || use?.cpu == null ? '–' : formatValue(use.cpu, 'ratio')),
    h('td', {}, isEnded || use?.memory == null ? '–' : formatValue(use.memory, 'bytes')),
    h('td', {}, isEnded ? '–' : instance.is_by_hand ? 'started by hand' : String(instance.pid)),
  );
}

function nothing(): HTMLElement {
  return h('div', { class: 'page-message' }, icon('empty'), h('h2', {}, 'No services yet'),
    h('p', {}, 'Two commands make the first one:'),
    h('pre', {}, 'serin new greet\nserin deploy greet'));
}
