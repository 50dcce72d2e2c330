// What every drawing of a panel has in common: it is given data and a frame, and draws.
//
// A chart never asks the server and never knows the page; it tells what the reader did through
// `Gestures`. Start at `Chart`.
import type { PanelData, Series } from '../api/types';
import type { Zone } from '../time/format';

export interface Frame {
  /** The shown range, in milliseconds. */
  from: number;
  to: number;
  dark: boolean;
  zone: Zone;
  /** The series shown alone. */
  isolated: string | undefined;
}

export interface Gestures {
  zoom: (from: number, to: number) => void;
  isolate: (series: string | undefined) => void;
  /** A point was clicked: its step in milliseconds, and its series where one is near. */
  inspect?: ((from: number, to: number, series: Series | undefined) => void) | undefined;
}

export interface Chart {
  readonly element: HTMLElement;
  update: (panel: PanelData, frame: Frame) => void;
  destroy: () => void;
}

/** Calls `draw` when the element's size changes; returns the function that ends it. */
export function onResize(element: Element, draw: (width: number, height: number) => void): () => void {
  let last = '';
  const observer = new ResizeObserver(([entry]) => {
    if (!entry) return;
    const { width, height } = entry.contentRect;
    const size = `${Math.round(width)}x${Math.round(height)}`;
    if (size === last || width < 1 || height < 1) return;
    last = size;
    draw(Math.round(width), Math.round(height));
  });
  observer.observe(element);
  return () => observer.disconnect();
}
