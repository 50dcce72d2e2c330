// Canned logs, traces and calls for the mock server: a small shop with a failing cart.

const hex = (length, seed) => Array.from({ length }, (_, at) => ((seed * 2654435761 + at * 40503 + (seed >> (at % 7))) >>> (at % 11) & 15).toString(16)).join('');
const iso = (ms) => new Date(ms).toISOString();

const MESSAGES = [
  ['info', 'web', 'page asked for by Ada'],
  ['info', 'cart', 'added finch to 7f3c'],
  ['debug', 'price', 'tax table DE read in 18 ms'],
  ['warn', 'price', 'slow tax table'],
  ['error', 'cart', 'cannot add finch: the shelf is empty\n  at add (main.py:14)\n<b>not markup</b> <script>alert(1)</script>'],
  ['info', 'mail', 'mail to ada@example.org'],
];

function line(second) {
  const at = second * 1000 + ((second * 137) % 1000);
  const [level, service, message] = MESSAGES[(second * 7 + (second >> 3)) % MESSAGES.length];
  return {
    cursor: `${at * 1000}-${String(second).padStart(12, '0')}`, time: iso(at), level, service, version: 'v2', instance: `${service}-v2-${1 + (second % 2)}`, source: 'stdout', message,
    trace_id: second % 3 === 0 ? hex(32, second) : null, dropped: second % 97 === 0 ? 12 : 0, fields: level === 'warn' ? { country: 'DE', took_ms: 18 } : {},
  };
}

function linesOf(parameters, now) {
  const wanted = (one) => ['service', 'instance'].every((name) => !parameters.get(name) || one[name] === parameters.get(name))
    && (!parameters.get('text') || one.message.toLowerCase().includes(parameters.get('text').toLowerCase()))
    && (!parameters.get('level') || ['error', 'warn', 'info', 'debug'].slice(0, ['error', 'warn', 'info', 'debug'].indexOf(parameters.get('level')) + 1).includes(one.level));
  const all = [];
  for (let second = Math.floor(now / 1000) - 3600; second < now / 1000 - 1; second += 1) all.push(line(second));
  return all.filter(wanted);
}

export function logs(parameters) {
  let lines = linesOf(parameters, Date.now());
  const limit = Number(parameters.get('limit') ?? 200);
  const from = Date.parse(parameters.get('from') ?? '');
  if (from) lines = lines.filter((one) => Date.parse(one.time) >= from);
  const before = parameters.get('before');
  if (before) lines = lines.filter((one) => one.cursor < before);
  const around = parameters.get('around');
  if (around) {
    const at = lines.findIndex((one) => one.cursor >= around);
    return { lines: lines.slice(Math.max(0, at - limit / 2), at + limit / 2), has_more: true, watermark: null };
  }
  return { lines: lines.slice(-limit), has_more: lines.length > limit, watermark: iso(Date.now()) };
}

export function logCounts(parameters) {
  const now = Date.now();
  const lines = linesOf(parameters, now);
  const step = 30_000;
  const levels = ['error', 'warn', 'info', 'debug'].map((level) => {
    const counts = new Map();
    for (let at = Math.floor((now - 3_600_000) / step) * step; at < now; at += step) counts.set(at, 0);
    for (const one of lines) if (one.level === level) counts.set(Math.floor(Date.parse(one.time) / step) * step, (counts.get(Math.floor(Date.parse(one.time) / step) * step) ?? 0) + 1);
    return { level, counts: [...counts].map(([at, count]) => [iso(at), count]) };
  });
  const senders = ['web', 'cart', 'price', 'mail'].flatMap((service) => [1, 2].map((number) => ({ service, instance: `${service}-v2-${number}`, lines: 10 })));
  return { from: iso(now - 3_600_000), to: iso(now), step_s: 30, levels: levels.filter(({ counts }) => counts.some(([, count]) => count > 0)), senders };
}

export function traces(parameters) {
  const now = Date.now();
  const all = Array.from({ length: 100 }, (_, at) => {
    const failed = at % 9 === 4 ? 2 : 0;
    const duration = Math.round(2000 * 1.045 ** ((at * 37) % 100)) + (failed ? 80_000 : 0);
    return {
      trace_id: hex(32, at + 1), time: iso(now - at * 33_000 - 2000), duration_us: duration, service: 'gateway', name: at % 4 === 0 ? 'GET /hello' : 'GET /shop', spans: 4 + (at % 9), failed,
      services: ['cart', 'gateway', 'price', 'web'].slice(0, 2 + (at % 3)), longest_us: duration,
    };
  });
  const found = all.filter((one) => (parameters.get('status') === 'error' ? one.failed > 0 : true));
  return { traces: parameters.get('order') === 'slowest' ? found.sort((a, b) => b.duration_us - a.duration_us) : found, has_more: true, watermark: iso(now) };
}

export function trace(id) {
  const began = (Date.now() - 60_000) * 1000;
  const spans = [];
  const add = (span_id, parent_id, service, name, at, took, attributes = {}, status = 'ok') =>
    spans.push({ span_id, parent_id, name, service, version: 'v2', instance: `${service}-v2-1`, time: iso((began + at) / 1000), began_us: began + at, duration_us: took, status, attributes });
  const calls = (parent, from, service, endpoint, at, network, queue, handler, status = 'ok') => {
    const [outer, inner] = [`${parent}${service}c`, `${parent}${service}s`];
    const error = status === 'error' ? { error: 'the shelf is empty' } : {};
    add(outer, parent, from, `${service}.${endpoint}`, at, network + queue + handler, { kind: 'client', network_us: network, queue_us: queue, handler_us: handler, peer_instance: `${service}-v2-1`, ...error }, status);
    add(inner, outer, service, endpoint, at + network / 2, queue + handler, { kind: 'server', status: status === 'ok' ? 200 : 500, queue_us: queue, handler_us: handler, caller: from, ...error }, status);
    return inner;
  };
  add('g', null, 'gateway', 'GET /shop', 0, 96_400, { 'http.route': '/shop', 'http.response.status_code': 500, 'serin.instance': 'web-v2-1' }, 'error');
  add('w', 'g', 'web', 'http', 700, 95_100, { kind: 'server', status: 500, queue_us: 300, handler_us: 94_800, caller: 'gateway' }, 'error');
  add('chain', 'w', 'web', 'product-page', 1500, 52_000, { kind: 'chain', stages: 2 });
  calls('chain', 'web', 'price', 'quote', 1800, 900, 4000, 16_000);
  calls('chain', 'web', 'stock', 'level', 23_100, 1000, 800, 8000);
  calls('chain', 'web', 'reviews', 'top', 23_200, 1200, 300, 28_500);
  for (const [at, name] of ['catalogue', 'recommendation', 'tax', 'mail', 'payment', 'checkout'].entries()) calls('chain', 'web', name, 'item', 24_000 + at * 2500, 900, 1500, 9000);
  const cart = calls('w', 'web', 'cart', 'add', 54_200, 1100, 200, 39_600, 'error');
  calls(cart, 'cart', 'price', 'quote', 55_400, 700, 9000, 21_000);
  const looks = Object.fromEntries([...new Set(spans.map(({ service }) => service))].map((service, at) => [service, at]));
  return { trace_id: id, spans, looks, has_more: false };
}

export function callMap() {
  const now = Date.now();
  const wave = 1 + 0.2 * Math.sin(now / 5000);
  const edge = (caller, callee, perS, failed, p95) => {
    const requests = Math.round(perS * 300 * wave);
    return { caller, callee, requests, failed: Math.round(requests * failed), p50_ms: p95 / 3, p95_ms: p95, is_sampled: false };
  };
  const edges = [
    edge('gateway', 'web', 42, 0.004, 96), edge('gateway', 'hello', 12, 0, 2.1), edge('web', 'price', 42, 0, 19), edge('web', 'stock', 41, 0.02, 9.4), edge('web', 'reviews', 41, 0, 140),
    edge('web', 'cart', 12, 0.12, 44), edge('cart', 'price', 12, 0, 21), edge('cart', 'mail', 10, 0, 1.2), edge('mail', 'cart', 0.2, 0, 3), edge(null, 'price', 0.5, 0, 12),
  ];
  const nodes = ['gateway', 'web', 'hello', 'price', 'stock', 'reviews', 'cart', 'mail', 'tax'].map((name) => {
    const into = edges.filter((one) => (name === 'gateway' ? one.caller === name : one.callee === name));
    const sum = (key) => into.reduce((total, one) => total + one[key], 0);
    return { name, kind: name === 'gateway' ? 'gateway' : 'service', state: name === 'stock' ? 'degraded' : name === 'gateway' ? null : 'serving', requests: sum('requests'), failed: sum('failed') };
  });
  return { from: iso(now - 300_000), to: iso(now), range_s: 300, nodes, edges, edges_dropped: 0, watermark: iso(now) };
}
