// Canned data for the mock server: a web log of 2015, a live shop, and a page of every state.
//
// Pseudo-random with a fixed seed by time, so that the same range gives the same numbers.

const ISO = (ms) => new Date(ms).toISOString().replace('.000Z', 'Z');
const DAY = 864e5;
export const WEBLOG = { from: '2015-05-17T10:00:00Z', to: '2015-05-20T21:10:00Z' };

const noise = (seed) => {
  const x = Math.sin(seed * 12.9898) * 43758.5453;
  return x - Math.floor(x);
};

const wave = (ms, seed, base, swing) =>
  Math.max(0, base + swing * Math.sin(((ms % DAY) / DAY) * 2 * Math.PI - 1.9) + (noise(ms / 6e4 + seed * 977) - 0.5) * base * 0.55);

const stepFor = (from, to) => {
  const wanted = (to - from) / 1000 / 240;
  return [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10800, 21600, 86400].find((s) => s >= wanted) ?? 86400;
};

function points(span, step, value, hasData = () => true) {
  const list = [];
  for (let at = Math.ceil(span.from / (step * 1000)) * step * 1000; at < span.to; at += step * 1000) {
    list.push([ISO(at), hasData(at) ? value(at) : null]);
  }
  return list;
}

const within = (range) => {
  const [a, b] = [Date.parse(range.from), Date.parse(range.to)];
  return (at) => at >= a && at < b;
};

const round = (value, places = 0) => Math.round(value * 10 ** places) / 10 ** places;

const hours = [...Array(24)].map((_, hour) => String(hour).padStart(2, '0'));
const weekdays = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'];

const PAGES = [['/favicon.ico', 807], ['/style2.css', 546], ['/reset.css', 538], ['/images/jordan-80.png', 533], ['/images/web/2009/banner.png', 516], ['/blog/tags/puppet?flav=rss20', 488], ['/projects/xdotool/', 224], ['/?flav=rss20', 217], ['/', 197], ['/robots.txt', 180]];
const REFERRERS = [['http://semicomplete.com/presentations/logstash-puppetconf-2012/', 689], ['http://www.semicomplete.com/projects/xdotool/', 656], ['http://semicomplete.com/presentations/logstash-scale11x/', 406], ['http://www.semicomplete.com/articles/dynamic-dns-with-dhcp/', 335], ['http://www.semicomplete.com/', 228], ['https://www.google.com/', 176]];

const def = (title, draw, more = {}) => ({ title, draw, ...more });

export const dashboards = {
  weblog: {
    title: 'Web log', description: 'One site, 17 to 20 May 2015', range: WEBLOG, refresh_s: 5, dataRange: WEBLOG,
    layout: [['requests:1', 'visitors:1', 'errors:1', 'bytes:1'], ['per_minute:2', 'status:1'], ['share:1', 'served:1'], ['pages:1', 'referrers:1'], ['hours:2', 'slowest:1']],
    panels: {
      requests: def('Requests', 'stat'), visitors: def('Unique visitors', 'stat'), errors: def('Share of errors', 'stat', { unit: 'ratio' }), bytes: def('Bytes served', 'stat', { unit: 'bytes' }),
      per_minute: def('Requests per minute', 'line', { unit: 'req/min' }), status: def('Status codes over time', 'bar'),
      share: def('Share of errors by class', 'line', { unit: 'ratio', description: 'Client errors (4xx) and server errors (5xx) of all requests' }), served: def('Bytes served', 'line', { unit: 'bytes' }),
      pages: def('Top pages', 'bar'), referrers: def('Top referrers', 'bar'), hours: def('Requests by hour and weekday', 'heatmap'), slowest: def('Status codes', 'table'),
    },
  },
  shop: {
    title: 'Shop', description: 'Orders, live', range: { from: 'now-1h', to: 'now' }, refresh_s: 5, dataRange: null, isLive: true,
    layout: [['revenue:1', 'conversion:1', 'p95:1'], ['orders:2', 'countries:1'], ['latency:1', 'top:1']],
    panels: {
      revenue: def('Revenue', 'stat', { unit: 'EUR' }), conversion: def('Conversion', 'stat', { unit: 'ratio' }), p95: def('Payment p95', 'stat', { unit: 'ms' }),
      orders: def('Orders by country', 'line', { unit: 'orders/min' }), countries: def('Orders by channel', 'line'), latency: def('Payment latency', 'line', { unit: 'ms' }), top: def('Best sellers', 'table'),
    },
  },
  states: {
    title: 'Every state', range: { from: 'now-1h', to: 'now' }, refresh_s: 5, dataRange: WEBLOG,
    problems: [{ file: 'dashboards/states.yaml', line: 31, column: 14, message: 'panel "p99": no column "lat_ms" in stream "requests"; it has latency_ms, route, status' }],
    layout: [['empty_stat:1', 'gap_stat:1', 'error_stat:1'], ['empty:1', 'error:1', 'loading:1'], ['markup:1', 'lonely:1', 'negative:1']],
    panels: {
      empty_stat: def('Empty number', 'stat'), gap_stat: def('A gap', 'stat', { unit: 'ratio' }), error_stat: def('Failed number', 'stat'),
      empty: def('Nothing here', 'line'), error: def('Broken', 'line'), loading: def('Never arrives', 'line'),
      markup: def('<b>Markup</b> stays text', 'bar'), lonely: def('Lonely points and gaps', 'line'), negative: def('Below zero', 'bar', { unit: 'EUR' }),
    },
  },
  nothing: {
    title: 'Nothing in range', range: { from: 'now-6h', to: 'now' }, refresh_s: 5, dataRange: WEBLOG,
    layout: [['a:1', 'b:1'], ['c:1']], panels: { a: def('Requests', 'stat'), b: def('Errors', 'stat'), c: def('Requests per minute', 'line') },
  },
};

const RED = [{ above: 0.05, color: 'red', name: 'alarm above 5 %' }];

/** The data of one panel, without its frame; undefined for one that never arrives. */
function content(dashboard, panel, span, step) {
  const has = dashboard === 'weblog' ? within(WEBLOG) : () => true;
  const line = (name, seed, base, swing, more = {}) => ({ name, by: { name }, points: points(span, step, (at) => round(wave(at, seed, base, swing) * (more.factor ?? step / 60), more.places ?? 0), has), ...(more.dashed ? { dashed: true } : {}) });
  const spark = (seed, base) => points(span, Math.max(step * 4, 60), (at) => round(wave(at, seed, base, base * 0.4), 3), has);
  const series = (list, stacked = false, stepS = step) => ({ kind: 'series', step_s: stepS, stacked, series: list });
  const isEmpty = dashboard === 'weblog' && (span.to < Date.parse(WEBLOG.from) || span.from > Date.parse(WEBLOG.to));
  if (isEmpty || dashboard === 'nothing') return { state: 'empty' };
  const mid = ISO(span.from + (span.to - span.from) * 0.62);
  const all = {
    'weblog.requests': () => ({ data: { kind: 'stat', value: 10000, compare: 9120, spark: spark(1, 100) } }),
    'weblog.visitors': () => ({ data: { kind: 'stat', value: 1753, compare: null, spark: spark(2, 40) }, better: 'higher' }),
    'weblog.errors': () => ({ data: { kind: 'stat', value: 0.0216, compare: 0.0184, spark: spark(3, 0.02) }, better: 'lower', thresholds: [{ above: 0.02, color: 'orange' }, { above: 0.05, color: 'red' }] }),
    'weblog.bytes': () => ({ data: { kind: 'stat', value: 2747282505, spark: spark(4, 30) } }),
    'weblog.per_minute': () => ({ data: series([line('requests', 5, 2, 1.1, { factor: 1, places: 2 })]), marks: [{ time: '2015-05-19T08:12:00Z', text: 'errors-high: notify, error share 0.071 above 0.05 for 1m', kind: 'decision' }] }),
    'weblog.status': () => ({ data: series([line('2xx', 6, 1.8, 1), line('3xx', 7, 0.2, 0.1), line('4xx', 8, 0.09, 0.04, { places: 1 }), line('5xx', 9, 0.03, 0.01, { places: 1 })], true) }),
    'weblog.share': () => ({ data: series([{ name: '4xx', by: {}, points: points(span, step, (at) => (noise(at / 7e5) > 0.96 ? null : round(wave(at, 10, 0.024, 0.01), 4)), has) }, { name: '5xx', by: {}, points: points(span, step, (at) => (noise(at / 7e5) > 0.96 ? null : round(wave(at, 11, 0.004, 0.002), 4)), has) }]), thresholds: RED, marks: [{ time: '2015-05-19T08:12:00Z', text: 'errors-high: notify, error share 0.071 above 0.05 for 1m', kind: 'decision' }] }),
    'weblog.served': () => ({ data: series([line('bytes', 12, 620000, 260000)]) }),
    'weblog.pages': () => ({ data: { kind: 'bars', bars: PAGES.map(([label, value]) => ({ label, value })), others: 5754 } }),
    'weblog.referrers': () => ({ data: { kind: 'bars', bars: REFERRERS.map(([label, value]) => ({ label, value })), others: 3437 } }),
    'weblog.hours': () => ({ data: { kind: 'heatmap', x: { title: 'hour', labels: hours }, y: { title: 'weekday', labels: weekdays }, cells: weekdays.map((_, day) => hours.map((_, hour) => ([3, 4, 5].includes(day) || (day === 6 && hour < 10) || (day === 2 && hour > 21) ? null : Math.round(wave(hour * 36e5, day, 120, 45))))) } }),
    'weblog.slowest': () => ({ data: { kind: 'table', columns: [{ name: 'status', type: 'Int64' }, { name: 'requests', type: 'Int64' }, { name: 'bytes', type: 'Int64', unit: 'bytes' }, { name: 'last seen', type: 'Timestamp' }], rows: [[200, 9126, 2746512222], [304, 445, null], [404, 213, 74211], [301, 164, 51012], [206, 45, 591234], [500, 3, 1821], [403, 2, 612], [416, 2, 580]].map((row, at) => [...row, ISO(Date.parse(WEBLOG.to) - at * 7_340_000)]) } }),
    'shop.revenue': () => ({ data: { kind: 'stat', value: 48213.4, compare: 43120, spark: spark(1, 800) }, better: 'higher' }),
    'shop.conversion': () => ({ data: { kind: 'stat', value: 0.0342, compare: 0.0361, spark: spark(2, 0.03) }, better: 'higher', thresholds: [{ above: 0.03, color: 'green', name: 'goal' }] }),
    'shop.p95': () => ({ data: { kind: 'stat', value: 182 + 20 * noise(Date.now() / 1000), compare: 171, spark: spark(3, 180) }, better: 'lower' }),
    'shop.orders': () => ({ data: series(['DE', 'FR', 'NL', 'AT', 'PL'].map((name, at) => line(name, 20 + at, 60 - at * 10, 12, { factor: 1 })).concat(line('DE, a day ago', 44, 54, 10, { factor: 1, dashed: true }))), marks: [{ time: mid, text: 'scale cart: 3 → 5 instances', kind: 'scale' }] }),
    'shop.countries': () => ({ data: series(['web', 'app', 'partner'].map((name, at) => line(name, 30 + at, 40 - at * 12, 9, { factor: 1 })), true) }),
    'shop.latency': () => ({ data: series(['p50', 'p95', 'p99'].map((name, at) => line(name, 50 + at, [40, 180, 320][at], [4, 20, 60][at], { factor: 1 }))), thresholds: [{ above: 400, color: 'red', name: 'too slow' }, { above: 250, color: 'yellow' }] }),
    'shop.top': () => ({ data: { kind: 'table', columns: [{ name: 'article', type: 'Utf8' }, { name: 'orders', type: 'Int64' }, { name: 'revenue', type: 'Float64', unit: 'EUR' }], rows: ['Kettle, steel', 'Coffee mill', 'Tea tin, large', 'Filter papers', 'Mug, blue', 'Mug, green', 'Scales', 'Thermometer'].map((name, at) => [name, 412 - at * 37, round(9871.5 / (at + 1), 2)]) } }),
    'states.empty_stat': () => ({ state: 'empty' }),
    'states.gap_stat': () => ({ data: { kind: 'stat', value: null, compare: null, spark: [] } }),
    'states.error_stat': () => ({ state: 'error', error: { code: 'SER-QUERY-007', message: 'the query ran longer than 30 s (query.deadline_s)' } }),
    'states.empty': () => ({ state: 'empty' }),
    'states.error': () => ({ state: 'error', error: { code: 'SER-DASH-010', message: `Schema error: No field named lat_ms. Valid fields are ${Array.from({ length: 24 }, (_, at) => `"http.request".column_${at}`).join(', ')}.` } }),
    'states.loading': () => undefined,
    'states.markup': () => ({ data: { kind: 'bars', bars: [['<img src=x onerror=alert(1)>', 42], ['"><script>alert(2)</script>', 30], ['ordinary', 12], ['', 3], ['𝕌𝕟𝕚𝕔𝕠𝕕𝕖 ‮reversed', 2]].map(([label, value]) => ({ label, value })) } }),
    'states.lonely': () => ({ data: series([{ name: 'now and then', by: {}, points: points(span, step, (at) => 3 + noise(at), (at) => noise(at / 1e5) > 0.6) }]) }),
    'states.negative': () => ({ data: series([{ name: 'profit', by: {}, points: points(span, step * 6, (at) => round((noise(at / 1e4) - 0.4) * 900)) }], false, step * 6) }),
  };
  return all[`${dashboard}.${panel}`]?.();
}

const relative = (text, now) => {
  const match = /^now(?:-(\d+)([smhdw]))?$/.exec(text);
  if (!match) return Date.parse(text);
  return now - (match[1] ? Number(match[1]) * { s: 1e3, m: 6e4, h: 36e5, d: DAY, w: 7 * DAY }[match[2]] : 0);
};

export function definition(name, revision) {
  const found = dashboards[name];
  if (!found) return undefined;
  const { title, description, range, refresh_s, layout, panels, problems = [] } = found;
  const rows = layout.map((row) => row.map((cell) => ({ panel: cell.split(':')[0], share: Number(cell.split(':')[1]) })));
  return { name, title, description, range, refresh_s, layout: rows, panels, variables: [], is_built_in: false, revision, problems };
}

export function data(name, from, to, now = Date.now()) {
  const found = dashboards[name];
  const span = { from: relative(from ?? found.range.from, now), to: relative(to ?? found.range.to, now) };
  const step = stepFor(span.from, span.to);
  const panels = {};
  const watermark = found.isLive ? ISO(Math.floor(now / 1000) * 1000 - 2000) : WEBLOG.to;
  for (const [panel, one] of Object.entries(found.panels)) {
    const filled = content(name, panel, span, step);
    if (filled) panels[panel] = { panel, ...one, state: 'ok', thresholds: [], marks: [], watermark, served_from: 'files', ...filled };
  }
  return { from: ISO(span.from), to: ISO(span.to), step_s: step, panels, watermark, data_range: found.dataRange ?? { from: ISO(now - DAY), to: ISO(now) } };
}

export const decisions = (now = Date.now()) => [
  { time: ISO(now - 41_000), rule: 'errors-high', action: 'notify', kpi: 'error_share', value: 0.0713, bound: 0.05, unit: 'ratio', why: 'error_share was 7.13 %, above 5 % for 1m; 3 of 3 windows complete, none missing' },
  { time: ISO(now - 2_400_000), rule: 'slow-pay', action: 'notify', kpi: 'pay_p95', value: 512, bound: 400, unit: 'ms', why: 'pay_p95 was 512 ms, above 400 ms for 5m' },
  { time: ISO(now - 90_000_000), rule: 'errors-high', action: 'hold', kpi: 'error_share', value: null, bound: 0.05, unit: 'ratio', why: 'no data for 2m: cannot measure, so nothing was decided' },
];
