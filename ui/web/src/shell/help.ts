// The dialog that lists the keyboard shortcuts.
import { h } from '../dom';
import { SHORTCUTS } from './keys';

export function helpDialog(): HTMLDialogElement {
  const dialog = h(
    'dialog',
    { class: 'help', 'aria-labelledby': 'help-title', 'data-testid': 'help' },
    h('h2', { id: 'help-title' }, 'Keyboard'),
    h('dl', {}, ...SHORTCUTS.flatMap(([keys, text]) => [h('dt', {}, ...keys.split('  ').flatMap((one) => one.split(' ').map((key) => h('kbd', {}, key)))), h('dd', {}, text)])),
    h('p', { class: 'muted' }, 'Drag over a chart to zoom in; click a series in a legend to see it alone. ?kiosk&theme=dark in the address suits a screen on a wall.'),
    h('form', { method: 'dialog' }, h('button', { class: 'button' }, 'Close')),
  );
  return dialog;
}
