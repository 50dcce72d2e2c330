// A server for developing the page without Serin: the built bundle and canned answers.
//
// `npm run build && npm run mock` serves http://127.0.0.1:7071 under the same content security policy
// as the real one. `?` switches: start with MOCK=signedout, MOCK=none (no dashboards).
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { dashboards, data, decisions, definition } from './data.mjs';
import { callMap, logCounts, logs, trace, traces } from './telemetry.mjs';

const dist = fileURLToPath(new URL('../dist/', import.meta.url));
const port = Number(process.env.MOCK_PORT ?? 7071);
const mode = process.env.MOCK ?? '';
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

const json = (response, status, body) => {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
};

async function bodyOf(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

function live(request, response, name, url) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  const send = (event, body) => response.write(`event: ${event}\ndata: ${JSON.stringify(body)}\n\n`);
  let isFirst = true;
  const tick = () => {
    const now = new Date().toISOString();
    const all = data(name, url.searchParams.get('from'), url.searchParams.get('to'));
    if (dashboards[name].isLive || isFirst) send('panels', all);
    isFirst = false;
    send('tick', { now, watermark: all.watermark });
  };
  tick();
  const timer = setInterval(tick, 2000);
  request.on('close', () => clearInterval(timer));
}

/** A file whose name ends in `.jpg` is refused. */
async function open(request, response, name) {
  const body = await bodyOf(request);
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  const line = (told) => response.write(`${JSON.stringify(told)}\n`);
  const total = body.length;
  for (let step = 0; step <= 10; step += 1) {
    line({ stage: step < 9 ? 'import' : 'propose', done: Math.round((total * step) / 10), total });
    await new Promise((resolve) => { setTimeout(resolve, 150); });
    if (name.endsWith('.jpg')) break;
  }
  if (name.endsWith('.jpg')) line({ error: `cannot open ${name}: byte 1 is no text; give an access log, NDJSON, CSV or Parquet` });
  else line({ dashboard: 'weblog', ...dashboards.weblog.range, events: 10000, refused: 1, said: ['10000 events imported', '1 line was not taken:', '  line 26: no time', 'a dashboard is proposed in dashboards/weblog.yaml'] });
  response.end();
}

async function api(request, response, url) {
  if (mode === 'signedout') return json(response, 401, { error: 'no session; open the link that `serin up` printed', code: 'SER-AUTH-001' });
  const path = url.pathname.slice('/api/v1/'.length).split('/').map(decodeURIComponent);
  if (path[0] === 'session') return json(response, 200, { user: 'local', version: '0.1.0', instance: 'weblog@laptop' });
  if (path[0] === 'decisions') return json(response, 200, mode === 'none' ? [] : decisions());
  if (path[0] === 'logs') return json(response, 200, mode === 'none' ? { lines: [], has_more: false, levels: [], senders: [], step_s: 30, from: 'now-1h', to: 'now' } : path[1] === 'counts' ? logCounts(url.searchParams) : logs(url.searchParams));
  if (path[0] === 'traces') return json(response, 200, mode === 'none' ? { traces: [], has_more: false } : path[1] ? trace(path[1]) : traces(url.searchParams));
  if (path[0] === 'map') return json(response, 200, mode === 'none' ? { ...callMap(), nodes: [], edges: [] } : callMap());
  if (path[0] === 'services') return json(response, 200, { services: [] });
  if (path[0] === 'open') return open(request, response, url.searchParams.get('name') ?? '');
  if (path[0] === 'query') {
    const { sql } = JSON.parse(await bodyOf(request));
    if (/drop|delete|insert/i.test(sql)) return json(response, 400, { error: 'statement is not a query: only SELECT is allowed here', code: 'SER-SQL-002' });
    if (/table_name/.test(sql)) return json(response, 200, { columns: [{ name: 'table_name', type: 'Utf8' }], rows: [['http.request'], ['refused'], ['serin.decision']], watermark: null, served_from: 'catalogue' });
    const { columns, rows } = data('weblog').panels.slowest.data;
    return json(response, 200, { columns, rows, watermark: '2015-05-20T21:05:59Z', served_from: 'files' });
  }
  if (path[0] !== 'dashboards') return json(response, 404, { error: `there is no ${url.pathname}`, code: 'SER-HTTP-002' });
  if (path.length === 1) {
    const list = Object.entries(dashboards).map(([name, { title, description }]) => ({ name, title, description, is_built_in: false }));
    return json(response, 200, mode === 'none' ? [] : list);
  }
  const [, name, what] = path;
  const found = definition(name, 1);
  if (!found) return json(response, 404, { error: `there is no dashboard "${name}"; there are ${Object.keys(dashboards).join(', ')}`, code: 'SER-DASH-001' });
  if (what === 'data') return json(response, 200, data(name, url.searchParams.get('from'), url.searchParams.get('to')));
  if (what === 'live') return live(request, response, name, url);
  return json(response, 200, found);
}

async function file(response, path) {
  const wanted = extname(path) ? normalize(path).replace(/^(\.\.[/\\])+/, '') : 'index.html';
  const content = await readFile(join(dist, wanted)).catch(() => undefined);
  if (!content) return json(response, 404, { error: `there is no page ${path}`, code: 'SER-HTTP-002' });
  response.writeHead(200, {
    'content-type': TYPES[extname(wanted)] ?? 'application/octet-stream',
    'content-security-policy': "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
  });
  response.end(content);
}

createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost');
  const answer = url.pathname.startsWith('/api/') ? api(request, response, url) : file(response, url.pathname);
  Promise.resolve(answer).catch((error) => json(response, 500, { error: String(error), code: 'MOCK' }));
}).listen(port, '127.0.0.1', () => console.log(`mock on http://127.0.0.1:${port}`));
