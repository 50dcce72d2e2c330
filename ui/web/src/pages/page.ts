// What every page is: an element, a reaction to a new URL, keys of its own, and an end.
import type { UrlState } from '../url';

export interface Page {
  readonly element: HTMLElement;
  readonly title: string;
  /** The URL changed within this page. */
  onUrl?: (url: UrlState) => void;
  onKeys?: (keys: string) => void;
  destroy: () => void;
}

export interface Context {
  url: () => UrlState;
  /** Changes the URL; the page hears of it through `onUrl`. */
  go: (change: Partial<UrlState>, how?: 'push' | 'replace') => void;
  setTitle: (title: string) => void;
}
