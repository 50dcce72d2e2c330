// What one browser remembers: theme and time zone. Tells listeners when either changes.
//
// A theme in the URL (`?theme=dark`, for screens on a wall) wins and is not remembered.
import { remember, remembered } from './memory';
import type { Zone } from './time/format';

export type Theme = 'system' | 'light' | 'dark';

const THEMES: Theme[] = ['system', 'light', 'dark'];
const systemIsDark = matchMedia('(prefers-color-scheme: dark)');
const listeners = new Set<() => void>();

let theme: Theme = THEMES.find((name) => name === remembered('serin.theme')) ?? 'system';
let zone: Zone = remembered('serin.zone') === 'local' ? 'local' : 'utc';

export const currentTheme = (): Theme => theme;
export const currentZone = (): Zone => zone;
export const isDark = (): boolean => (theme === 'system' ? systemIsDark.matches : theme === 'dark');

export function startSettings(themeInUrl: string | undefined): void {
  theme = THEMES.find((name) => name === themeInUrl) ?? theme;
  systemIsDark.addEventListener('change', () => tell());
  show();
}

export function nextTheme(): Theme {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? 'system';
  remember('serin.theme', theme);
  tell();
  return theme;
}

export function setZone(next: Zone): void {
  zone = next;
  remember('serin.zone', next);
  tell();
}

/** Returns the function that ends it. */
export function onSettings(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell(): void {
  show();
  for (const listener of listeners) listener();
}

function show(): void {
  if (theme === 'system') delete document.documentElement.dataset['theme'];
  else document.documentElement.dataset['theme'] = theme;
}
