// Who calls whom, live: services as boxes from left to right, calls as lines with rate, errors, latency.
//
// A box leads to its service, a line to the traces behind it; the table below says the same in words.
// The picture is laid out anew only when a service or a call is new; numbers change in place.
// Start at `mapPage`.
import { callMap, type CallMap, type MapEdge, type MapNode } from '../api/telemetry';
import { dataTable } from '../charts/table';
import { iconButton, rangePicker } from '../dashboard/range_picker';
import { fill, h, setAttribute, svg, withCode } from '../dom';
import { formatValue } from '../format/value';
import { icon } from '../icons';
import { currentZone, onSettings } from '../settings';
import { isRelative, type Range } from '../time/range';
import { linkTo, serviceLink } from '../url';
import { BACK_DROP, labelPlaces, layout, type Line, type Point } from './map_layout';
import { failureNotice } from './notice';
import type { Context, Page } from './page';
import { poller } from './poll';

const DEFAULT_RANGE: Range = { from: 'now-5m', to: 'now' };
const POLL_MS = 2000;
const SIZE = { nodeWidth: 168, nodeHeight: 56, gapX: 124, gapY: 34 };
const MARGIN = 14;
// Below this share of its size the words of the map cannot be read.
const SMALLEST = 0.7;
// Above this share of failures a line is red, below it amber.
const BAD_SHARE = 0.05;
/** Callers that do not say who they are; no service can have this name. */
const UNKNOWN = 'other callers';
const GATEWAY = 'gateway';

export function mapPage(context: Context): Page {
  const range = (): Range => context.url().range ?? DEFAULT_RANGE;
  const picker = rangePicker((chosen) => context.go({ range: chosen }));
  const notices = h('div', { class: 'notices' });
  const picture = h('section', { class: 'panel map-frame', 'aria-label': 'Map of calls', 'data-testid': 'map' }, h('p', { class: 'muted' }, 'loading'));
  const quiet = h('p', { class: 'map-quiet', 'data-testid': 'map-quiet' });
  const table = dataTable();
  const calls = h('section', { class: 'panel map-calls', hidden: true }, table.element);
  let shown: CallMap | undefined;
  let drawn = '';
  let update: ((map: CallMap) => void) | undefined;

  const poll = poller({
    everyMs: POLL_MS,
    look: async (signal) => {
      const found = await callMap(range(), signal);
      if (signal.aborted) return;
      shown = found;
      draw();
    },
    onFailure: (failure) => {
      fill(notices, failure ? failureNotice(failure) : null,
        shown && shown.edges_dropped > 0 ? h('div', { class: 'notice' }, icon('warning'), h('span', {}, `${shown.edges_dropped} calls with little traffic are left out.`)) : null);
      if (failure && !shown) fill(picture);
    },
  });

  function draw(): void {
    if (!shown) return;
    const map = shown;
    const still = map.nodes.filter(({ name }) => !map.edges.some(({ caller, callee }) => caller === name || callee === name));
    fill(quiet, ...(still.length > 0 && map.edges.length > 0 ? ['Without calls: ', ...still.flatMap((node, at) => [at > 0 ? ' · ' : '', h('a', { href: placeOf(node.name) }, node.name)])] : []));
    calls.hidden = map.edges.length === 0;
    if (map.edges.length > 0) table.update(rowsOf(map), { caption: 'Calls', zone: currentZone() });
    const made = JSON.stringify(map.edges.map(({ caller, callee }) => [caller, callee]).sort());
    if (made !== drawn) {
      drawn = made;
      update = map.edges.length > 0 ? drawMap(picture, map, range) : undefined;
      if (!update) fill(picture, nothing(map.nodes.length > 0));
    }
    update?.(map);
  }

  function start(): void {
    picker.show(range());
    poll.setMoving(isRelative(range()));
    poll.now();
  }

  start();
  const end = onSettings(() => {
    picker.show(range());
    draw();
  });
  return {
    element: h('main', { class: 'map-page', id: 'main' },
      h('header', { class: 'dashboard-header' },
        h('div', { class: 'dashboard-heading' }, h('h1', { class: 'dashboard-title' }, 'Map'), h('p', { class: 'dashboard-description' }, 'Who calls whom, from the requests of the range.')),
        h('div', { class: 'toolbar' }, poll.element, picker.element, iconButton('refresh', 'Refresh (d r)', 'refresh', () => poll.now()))),
      notices, picture, quiet, calls),
    title: 'Map',
    onUrl: start,
    onKeys: (keys) => {
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

/** Where a box leads: to the dashboard of its service; the gateway has none but its traces. */
function placeOf(name: string): string {
  return name === GATEWAY ? linkTo({ page: 'traces' }, { service: GATEWAY }) : serviceLink(name);
}

const callerOf = (edge: MapEdge): string => edge.caller ?? UNKNOWN;
const keyOf = (from: string, to: string): string => `${from} > ${to}`;

/** Draws the picture and returns what brings its numbers up to date. */
function drawMap(frame: HTMLElement, map: CallMap, range: () => Range): (map: CallMap) => void {
  const edges = map.edges.map((edge) => ({ from: callerOf(edge), to: edge.callee }));
  const names = [...new Set(edges.flatMap(({ from, to }) => [from, to]))];
  const { nodes, lines, width, height } = layout(names, edges, [GATEWAY, UNKNOWN], SIZE);
  const boxes = new Map(nodes.map(({ name, x, y }) => [name, box(name, x, y)]));
  const places = labelPlaces(lines);
  const drawnLines = new Map(lines.map((line, at) => [keyOf(line.edge.from, line.edge.to), call(line, places[at] ?? { x: 0, y: 0 })]));
  const own = map.edges.filter((edge) => callerOf(edge) === edge.callee).map((edge) => edge.callee);
  const marker = svg('marker', { id: 'arrow', viewBox: '0 0 8 8', refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: 'auto-start-reverse', markerUnits: 'userSpaceOnUse' }, svg('path', { d: 'M0 0.500 8 4 0 7.500z', class: 'map-arrow' }));
  const [w, tall] = [width + 2 * MARGIN, height + 2 * MARGIN];
  const image = svg(
    'svg',
    { class: 'map', viewBox: `${-MARGIN} ${-MARGIN} ${w} ${tall}`, width: w, height: tall, role: 'group', 'aria-label': `${names.length} services and callers, ${edges.length} calls` },
    svg('defs', {}, marker),
    ...[...drawnLines.values()].map(({ element }) => element),
    ...[...boxes.values()].map(({ element }) => element),
    ...[...drawnLines.values()].map(({ label }) => label),
  );
  fill(frame, h('div', { class: 'map-scroll' }, image));
  // One that nearly fits a narrow screen is made to fit; others are scrolled, and stay readable.
  image.classList.toggle('shrinks', frame.clientWidth >= w * SMALLEST);
  return (now) => {
    for (const edge of now.edges) drawnLines.get(keyOf(callerOf(edge), edge.callee))?.show(edge, now.range_s, range());
    for (const node of now.nodes) boxes.get(node.name)?.show(node, now.range_s, own.includes(node.name));
  };
}

interface Box {
  element: SVGElement;
  show: (node: MapNode, rangeS: number, callsItself: boolean) => void;
}

function box(name: string, x: number, y: number): Box {
  const { nodeWidth, nodeHeight } = SIZE;
  const shown = name.length > 17 ? `${name.slice(0, 16)}…` : name;
  const state = svg('circle', { class: 'map-state', cx: x + 15, cy: y + 20, r: 4.5 });
  const facts = svg('text', { class: 'map-facts', x: x + 12, y: y + 41 });
  const inside = [
    svg('title', {}, name),
    svg('rect', { class: 'map-box', x, y, width: nodeWidth, height: nodeHeight, rx: 9 }),
    state,
    svg('text', { class: 'map-name', x: x + 26, y: y + 24.5 }, shown),
    facts,
  ];
  const attributes = { class: 'map-node', 'data-testid': 'map-node', 'data-node': name };
  const element = name === UNKNOWN ? svg('g', { ...attributes, class: 'map-node unknown' }, ...inside) : svg('a', { ...attributes, href: placeOf(name) }, ...inside);
  return {
    element,
    show: (node, rangeS, callsItself) => {
      const share = node.requests > 0 ? node.failed / node.requests : 0;
      const rate = node.requests > 0 ? rateText(node.requests / rangeS) : 'calls others';
      const errors = share > 0 ? ` · ${shareText(share)} errors` : '';
      facts.textContent = `${rate}${errors}${callsItself ? ' ↻' : ''}`;
      setAttribute(element, 'data-grade', node.state === 'down' || share >= BAD_SHARE ? 'bad' : node.state === 'degraded' || share > 0 ? 'warn' : 'good');
      setAttribute(element, 'aria-label', `${name}${node.state ? `, ${node.state}` : ''}: ${facts.textContent}`);
    },
  };
}

interface Call {
  element: SVGElement;
  label: SVGElement;
  show: (edge: MapEdge, rangeS: number, range: Range) => void;
}

function call(line: Line, { x, y }: Point): Call {
  const path = svg('path', { class: 'map-path', d: pathOf(line), 'marker-end': 'url(#arrow)' });
  const title = svg('title', {});
  const element = svg('a', { class: line.isBack ? 'map-call back' : 'map-call', 'data-testid': 'map-call', 'data-call': keyOf(line.edge.from, line.edge.to) }, title, svg('path', { class: 'map-reach', d: pathOf(line) }), path);
  const rate = svg('tspan', { class: 'map-rate' });
  const errors = svg('tspan', { class: 'map-errors' });
  const latency = svg('tspan', { class: 'map-latency', x, dy: 13 });
  const label = svg('text', { class: 'map-label', x, y: y - 5, 'aria-hidden': 'true' }, rate, errors, latency);
  return {
    element,
    label,
    show: (edge, rangeS, range) => {
      const share = edge.requests > 0 ? edge.failed / edge.requests : 0;
      const p95 = edge.p95_ms === null ? '' : formatValue(edge.p95_ms, 'ms');
      rate.textContent = rateText(edge.requests / rangeS);
      errors.textContent = share > 0 ? ` ${shareText(share)}` : '';
      latency.textContent = p95;
      const text = `${callerOf(edge)} calls ${edge.callee}: ${edge.requests} requests, ${rate.textContent}, ${formatValue(share, 'ratio')} errors, p95 ${p95 || 'unknown'}${edge.is_sampled ? ', counted from kept spans' : ''}`;
      title.textContent = text;
      setAttribute(element, 'aria-label', text);
      setAttribute(element, 'href', linkTo({ page: 'traces' }, { service: edge.callee }, range));
      for (const part of [element, label]) setAttribute(part, 'data-grade', share >= BAD_SHARE ? 'bad' : share > 0 ? 'warn' : 'good');
      // From one a minute to a thousand a second.
      path.style.strokeWidth = String(Math.min(5, Math.max(1.25, 1.5 + Math.log10(Math.max(0.01, edge.requests / rangeS)))));
    },
  };
}

/** Flat at both ends, so that lines meet boxes at a right angle. */
function pathOf({ points, isBack }: Line): string {
  const [first, ...others] = points;
  if (!first) return '';
  let last = first;
  let text = `M${first.x} ${first.y}`;
  for (const point of others) {
    const half = Math.abs(point.x - last.x) / 2;
    // One that runs back leaves to the left and comes in from the right, in an arc of its own.
    const [out, into] = isBack ? [last.x - half, point.x + half] : [last.x + half, point.x - half];
    const lift = isBack ? BACK_DROP * 1.3 : 0;
    text += ` C${out} ${last.y + lift} ${into} ${point.y + lift} ${point.x} ${point.y}`;
    last = point;
  }
  return text;
}

/** Two digits say enough of a rate that changes while one looks. */
const rateText = (perS: number): string => `${formatValue(Number(perS.toPrecision(perS < 100 ? 2 : 3)), 'count')}/s`;
const shareText = (share: number): string => formatValue(Number(share.toPrecision(2)), 'ratio');

function rowsOf(map: CallMap): Parameters<ReturnType<typeof dataTable>['update']>[0] {
  const number = (name: string, unit?: string): { name: string; type: string; unit?: string } => ({ name, type: 'double', ...(unit ? { unit } : {}) });
  return {
    columns: [{ name: 'caller', type: 'text' }, { name: 'callee', type: 'text' }, number('requests'), number('rate', '/s'), number('errors', 'ratio'), number('p50', 'ms'), number('p95', 'ms')],
    rows: map.edges.map((edge) => [callerOf(edge), edge.callee, edge.requests, Number((edge.requests / map.range_s).toPrecision(3)), edge.requests > 0 ? edge.failed / edge.requests : null, edge.p50_ms, edge.p95_ms]),
  };
}

function nothing(hasServices: boolean): HTMLElement {
  return h('div', { class: 'page-message', 'data-testid': 'map-empty' }, icon('empty'), h('h2', {}, 'No calls in this range'),
    h('p', {}, ...withCode(hasServices ? 'As soon as a visitor comes through the gateway, or a service calls another, it is drawn here.' : 'There are no services yet; `serin new` and `serin deploy` make the first.')));
}
