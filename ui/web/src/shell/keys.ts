// Turns key presses into shortcuts, one key or two in a row (`t o`), never while typing.

const PAUSE_MS = 1200;
const PREFIXES = new Set(['t', 'd', 'c']);

export const SHORTCUTS: [keys: string, text: string][] = [
  ['t o', 'zoom out'],
  ['t ←  t →', 'earlier, later'],
  ['t a', 'choose a range'],
  ['t j', 'jump to the data'],
  ['d r', 'refresh'],
  ['d p', 'pause or play'],
  ['/', 'search, in logs and traces'],
  ['v', 'fill the page with the focused panel'],
  ['← →', 'move the cursor in a focused chart'],
  ['c t', 'change the theme'],
  ['Esc', 'back'],
  ['?', 'this list'],
];

export interface KeyReader {
  /** The shortcut that this press completes, if any. */
  press: (key: string, at: number) => string | undefined;
}

export function keyReader(): KeyReader {
  let prefix = '';
  let pressedAt = 0;
  return {
    press: (key, at) => {
      if (key === 'Shift' || key === ' ') return undefined;
      const waiting = at - pressedAt < PAUSE_MS ? prefix : '';
      prefix = '';
      if (waiting) return `${waiting} ${key}`;
      if (!PREFIXES.has(key)) return key;
      prefix = key;
      pressedAt = at;
      return undefined;
    },
  };
}

export function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}
