// Files dropped anywhere on the page, or chosen: sent to the server, their dashboard opened.
import type { Opened } from '../api/open';
import { h } from '../dom';
import { icon } from '../icons';
import { openings } from './openings';

/** Returns what opens the file dialog. */
export function acceptFiles(onOpened: (opened: Opened) => void): () => void {
  const overlay = h('div', { class: 'drop-overlay', hidden: true, 'data-testid': 'drop-overlay' }, icon('upload'), h('strong', {}, 'Drop to open'));
  const input = h('input', { type: 'file', multiple: true, hidden: true, 'data-testid': 'file-input' });
  const boxes = openings(onOpened);
  document.body.append(overlay, boxes.element, input);
  let depth = 0;

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
    boxes.add([...(event.dataTransfer?.files ?? [])]);
  });
  input.addEventListener('change', () => {
    const files = [...(input.files ?? [])];
    input.value = '';
    boxes.add(files);
  });
  return () => input.click();
}
