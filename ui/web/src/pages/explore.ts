// A plain SQL page: write, run, read; the statement and the range stand in the URL.
import { ApiError, query } from '../api/client';
import { dataTable } from '../charts/table';
import { rangePicker } from '../dashboard/range_picker';
import { fill, h } from '../dom';
import { saveText } from '../panel/panel';
import { toCsv } from '../panel/rows';
import { currentZone, onSettings } from '../settings';
import { formatDateTime } from '../time/format';
import type { Range } from '../time/range';
import type { UrlState } from '../url';
import { failureNotice } from './notice';
import type { Context, Page } from './page';
import { tableList } from './tables';

const DEFAULT_RANGE: Range = { from: 'now-24h', to: 'now' };
const FIRST_SQL = 'SELECT table_name FROM information_schema.tables ORDER BY 1';

export function explorePage(context: Context): Page {
  const range = (): Range => context.url().range ?? DEFAULT_RANGE;
  const picker = rangePicker((chosen) => context.go({ range: chosen }));
  const editor = h('textarea', { class: 'editor', rows: 6, spellcheck: 'false', autocomplete: 'off', 'aria-label': 'SQL', 'data-testid': 'sql' });
  editor.value = context.url().sql ?? FIRST_SQL;
  const runButton = h('button', { type: 'button', class: 'button primary', 'data-testid': 'run', title: 'Ctrl+Enter', onclick: () => void run() }, 'Run');
  const outcome = h('p', { class: 'muted', role: 'status', 'data-testid': 'query-status' }, 'Ctrl+Enter runs the statement. $__range and $__interval stand for the chosen range.');
  const output = h('div', { class: 'query-output' });
  const table = dataTable();
  let request: AbortController | undefined;

  async function run(): Promise<void> {
    request?.abort();
    request = new AbortController();
    const { signal } = request;
    const sql = editor.value.trim();
    context.go({ sql }, 'replace');
    outcome.textContent = 'running…';
    const started = performance.now();
    try {
      const result = await query(sql, range(), signal);
      const took = Math.round(performance.now() - started);
      const parts = [`${result.rows.length} ${result.rows.length === 1 ? 'row' : 'rows'} in ${took} ms`];
      if (result.watermark) parts.push(`complete up to ${formatDateTime(Date.parse(result.watermark), currentZone())}`);
      if (result.served_from) parts.push(`from ${result.served_from}`);
      outcome.textContent = parts.join(' · ');
      const draw = (): void => table.update(result, { caption: 'Result', zone: currentZone() });
      draw();
      redraw = draw;
      const save = h('button', { type: 'button', class: 'button small', onclick: () => saveText('query.csv', 'text/csv', toCsv(result)) }, 'Save as CSV');
      fill(output, h('div', { class: 'panel result', 'data-testid': 'result' }, table.element), save);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      outcome.textContent = 'failed';
      fill(output, h('div', { 'data-testid': 'query-error' }, failureNotice(error)));
    }
  }

  let redraw = (): void => {};
  editor.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    void run();
  });
  picker.show(range());
  const end = onSettings(() => {
    picker.show(range());
    redraw();
  });
  // Only when this page stands: running tells the address bar, and the address bar tells the page.
  if (context.url().sql) queueMicrotask(() => void run());
  const element = h(
    'main',
    { class: 'explore', id: 'main', 'data-testid': 'explore' },
    h('header', { class: 'dashboard-header' }, h('div', { class: 'dashboard-heading' }, h('h1', { class: 'dashboard-title' }, 'Explore')), h('div', { class: 'toolbar' }, picker.element)),
    h(
      'div',
      { class: 'explore-columns' },
      tableList((text) => insertInto(editor, text)),
      h('div', { class: 'explore-main' }, h('div', { class: 'editor-frame' }, editor, h('div', { class: 'editor-bar' }, outcome, runButton)), output),
    ),
  );
  return {
    element,
    title: 'Explore',
    onUrl: (url: UrlState) => picker.show(url.range ?? DEFAULT_RANGE),
    destroy: () => {
      request?.abort();
      end();
    },
  };
}

/** Puts text at the cursor, as if it had been typed. */
function insertInto(editor: HTMLTextAreaElement, text: string): void {
  const { selectionStart, selectionEnd, value } = editor;
  const isGlued = /[\w"]$/.test(value.slice(0, selectionStart));
  editor.setRangeText(isGlued ? ` ${text}` : text, selectionStart, selectionEnd, 'end');
  editor.focus();
}
