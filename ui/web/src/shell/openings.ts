// Files on their way into Serin, one box for each in a corner of the page: waiting, under way, done, failed.
//
// One after the other, since each is imported as fast as the server takes it. Once none is left, the
// dashboard of the last one that came in is shown; a box says until it is closed what became of its file.
// Start at `openings`.
import { ApiError } from '../api/client';
import { openFile, type Opened, type Progress } from '../api/open';
import { fill, h, setAttribute, setText, withCode, type Child } from '../dom';
import { errorCode } from '../error_code';
import { formatValue } from '../format/value';
import { icon } from '../icons';
import { outcomeOf, whyNot } from './said';

const STAGES: Record<string, string> = { upload: 'Uploading', import: 'Importing', propose: 'Proposing KPIs and a dashboard' };
/** More boxes than these are no longer read; those of files that came in give way first. */
const BOXES_MAX = 12;

type Look = 'waiting' | 'busy' | 'done' | 'bad';

interface Opening {
  file: File;
  box: HTMLElement;
  request: AbortController;
}

export interface Openings {
  readonly element: HTMLElement;
  add: (files: File[]) => void;
}

export function openings(onOpened: (opened: Opened) => void): Openings {
  const list = h('ul', { class: 'openings', 'aria-label': 'Files', hidden: true });
  // What is told aloud: each step once, and not every number on the way.
  const spoken = h('p', { class: 'visually-hidden', role: 'status' });
  const queue: Opening[] = [];
  let isBusy = false;
  let last: Opened | undefined;

  function add(files: File[]): void {
    for (const file of files) {
      const opening = { file, box: h('li', { 'data-testid': 'open-progress' }), request: new AbortController() };
      queue.push(opening);
      list.append(opening.box);
      show(opening, 'waiting', h('p', { class: 'muted' }, 'Waits for the file before it'));
    }
    for (const done of [...list.querySelectorAll('.done')].slice(0, Math.max(0, list.childElementCount - BOXES_MAX))) done.remove();
    list.hidden = false;
    if (!isBusy) void work();
  }

  async function work(): Promise<void> {
    isBusy = true;
    for (let next = queue.shift(); next; next = queue.shift()) await open(next);
    isBusy = false;
    if (last) onOpened(last);
    last = undefined;
  }

  async function open(opening: Opening): Promise<void> {
    const { file, request } = opening;
    const track = underWay(opening);
    try {
      const opened = await openFile(file, track, request.signal);
      last = opened;
      const { first, remarks } = outcomeOf(opened.said);
      show(opening, 'done', h('p', {}, `${first} · `, h('a', { href: dashboardOf(opened) }, 'its dashboard')), ...remarks.map((line) => h('p', { class: 'muted' }, line)));
      setText(spoken, `${file.name}: ${first}`);
    } catch (error) {
      if (request.signal.aborted) {
        remove(opening);
        return;
      }
      const { message, code } = whyNot(file.name, error instanceof ApiError ? error : undefined);
      show(opening, 'bad', h('p', {}, ...withCode(message)), code ? errorCode(code) : null);
      setText(spoken, `${file.name} was not opened: ${message}`);
    }
  }

  /** Draws its progress, changing only what differs. */
  function underWay(opening: Opening): (progress: Progress) => void {
    const started = performance.now();
    const meter = h('progress', { max: 1 });
    const told = h('p', { class: 'muted' });
    const waits = h('p', {});
    show(opening, 'busy', meter, told, waits);
    return ({ stage, done, total, waits: why }) => {
      const name = STAGES[stage] ?? stage;
      const seconds = Math.floor((performance.now() - started) / 1000);
      setAttribute(meter, 'aria-label', name);
      // The last step has no measure; a bar that stands at its end would look as if it hung.
      if (stage === 'propose' || total === 0) meter.removeAttribute('value');
      else meter.value = Math.min(1, done / total);
      const size = stage === 'propose' ? '' : ` · ${formatValue(done, 'bytes')} of ${formatValue(total, 'bytes')}`;
      setText(told, `${name}${size}${seconds > 0 ? ` · ${seconds} s` : ''}`);
      setText(waits, why ? `Waits: ${why}` : '');
      setText(spoken, `${opening.file.name}: ${name}${why ? `, waits: ${why}` : ''}`);
    };
  }

  function show(opening: Opening, look: Look, ...content: Child[]): void {
    const { file, box } = opening;
    const isOver = look === 'done' || look === 'bad';
    const label = isOver ? `Close the message about ${file.name}` : `Do not open ${file.name}`;
    box.className = `opening ${look}`;
    fill(box,
      icon(look === 'done' ? 'check' : look === 'bad' ? 'warning' : 'upload'),
      h('strong', { title: file.name }, file.name),
      h('button', { type: 'button', class: 'icon-button', 'aria-label': label, title: isOver ? 'Close' : 'Do not open it', onclick: () => remove(opening) }, icon('close')),
      h('div', { class: 'opening-body' }, ...content));
  }

  function remove(opening: Opening): void {
    const at = queue.indexOf(opening);
    if (at >= 0) queue.splice(at, 1);
    opening.request.abort();
    opening.box.remove();
    list.hidden = list.childElementCount === 0;
  }

  return { element: h('div', {}, list, spoken), add };
}

/** The address of what was proposed, where its data are. */
export function dashboardOf({ dashboard, from, to }: Opened): string {
  return `/d/${encodeURIComponent(dashboard)}?${new URLSearchParams({ from, to })}`;
}
