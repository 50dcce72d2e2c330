// A file dropped anywhere on the page: sent to the server, its progress shown, its dashboard opened.
import { ApiError } from '../api/client';
import { openFile, type Opened, type Progress } from '../api/open';
import { fill, h } from '../dom';
import { formatValue } from '../format/value';
import { icon } from '../icons';

const STAGES: Record<string, string> = { upload: 'Uploading', import: 'Importing', propose: 'Proposing KPIs and a dashboard' };

/** Returns what opens the file dialog. */
export function acceptFiles(onOpened: (opened: Opened) => void): () => void {
  const overlay = h('div', { class: 'drop-overlay', hidden: true, 'data-testid': 'drop-overlay' }, icon('upload'), h('strong', {}, 'Drop to open'));
  const box = h('div', { class: 'toast', hidden: true, role: 'status', 'data-testid': 'open-progress' });
  const input = h('input', { type: 'file', hidden: true, 'data-testid': 'file-input' });
  document.body.append(overlay, box, input);
  let depth = 0;
  let isBusy = false;

  const hasFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes('Files') ?? false;
  addEventListener('dragenter', (event) => {
    if (!hasFiles(event)) return;
    depth += 1;
    overlay.hidden = false;
  });
  addEventListener('dragleave', (event) => {
    if (!hasFiles(event)) return;
    depth = Math.max(0, depth - 1);
    overlay.hidden = depth === 0;
  });
  addEventListener('dragover', (event) => {
    if (hasFiles(event)) event.preventDefault();
  });
  addEventListener('drop', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = 0;
    overlay.hidden = true;
    const file = event.dataTransfer?.files[0];
    if (file) void open(file);
  });
  input.addEventListener('change', () => {
    const file = input.files?.[0];
    input.value = '';
    if (file) void open(file);
  });

  async function open(file: File): Promise<void> {
    if (isBusy) return;
    isBusy = true;
    const started = performance.now();
    try {
      show(file.name, { stage: 'upload', done: 0, total: file.size }, started);
      const opened = await openFile(file, (progress) => show(file.name, progress, started));
      fill(box, h('strong', {}, file.name), ...opened.said.map((line) => h('p', { class: 'muted' }, line.trim())), close());
      onOpened(opened);
    } catch (error) {
      const { message, code } = error instanceof ApiError ? error : { message: 'the file could not be read', code: 'FILE' };
      fill(box, h('strong', {}, `${file.name} could not be opened`), h('p', {}, message), h('code', {}, code), close());
      box.classList.add('bad');
    } finally {
      isBusy = false;
    }
  }

  const close = (): HTMLElement => h('button', { type: 'button', class: 'button small', onclick: () => { box.hidden = true; } }, 'Close');

  function show(name: string, { stage, done, total, waits }: Progress, started: number): void {
    const meter = h('progress', { max: Math.max(1, total), value: Math.min(done, total), 'aria-label': STAGES[stage] ?? stage });
    const seconds = Math.max(0.001, (performance.now() - started) / 1000);
    box.classList.remove('bad');
    box.hidden = false;
    fill(box, h('strong', {}, name), meter,
      h('p', { class: 'muted' }, `${STAGES[stage] ?? stage} · ${formatValue(done, 'bytes')} of ${formatValue(total, 'bytes')} · ${seconds.toFixed(0)} s`),
      waits ? h('p', {}, `Waiting: ${waits}`) : null);
  }

  return () => input.click();
}
