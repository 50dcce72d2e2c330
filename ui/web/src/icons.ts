// The few icons, as paths on a 16 by 16 grid; decoration only, buttons carry their own names.
import { svg } from './dom';

const PATHS = {
  play: 'M5 3.500v9l7-4.500z',
  pause: 'M5 3.500v9M11 3.500v9',
  left: 'M10 3.500 5.500 8l4.500 4.500',
  right: 'M6 3.500 10.500 8 6 12.500',
  zoomOut: 'M7 2.500a4.500 4.500 0 1 0 0 9 4.500 4.500 0 0 0 0-9M10.500 10.500 14 14M5 7h4',
  refresh: 'M13 8a5 5 0 1 1-1.500-3.600M13.200 2v3h-3',
  clock: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M8 4.800V8l2.200 1.600',
  down: 'M4 6.500 8 10.500l4-4',
  table: 'M2.500 3.500h11v9h-11zM2.500 6.500h11M6.500 6.500v6',
  expand: 'M9.500 2.500h4v4M13.500 2.500 9 7M6.500 13.500h-4v-4M2.500 13.500 7 9',
  shrink: 'M13 7H9V3M13.500 2.500 9 7M3 9h4v4M2.500 13.500 7 9',
  image: 'M2.500 3.500h11v9h-11zM2.500 11l3.500-3.500 3 3 2-2 2.500 2.500M10.500 6.200v.1',
  system: 'M2.500 3.500h11v7.500h-11zM6 13.500h4M8 11v2.500',
  light: 'M8 5.200a2.800 2.800 0 1 0 0 5.600 2.800 2.800 0 0 0 0-5.600M8 1.500v1.200M8 13.300v1.200M1.500 8h1.200M13.300 8h1.200M3.400 3.400l.9.9M11.700 11.700l.9.9M12.600 3.400l-.9.9M4.300 11.700l-.9.9',
  dark: 'M13 9.600A5.600 5.600 0 0 1 6.400 3 5.600 5.600 0 1 0 13 9.600z',
  help: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M6.300 6.400a1.700 1.700 0 1 1 2.500 1.500c-.5.3-.8.6-.8 1.200M8 11.200v.1',
  upload: 'M8 10.500v-8M4.800 5.500 8 2.300l3.200 3.200M2.500 10.500v3h11v-3',
  warning: 'M8 2.500 14.300 13.500H1.700zM8 6.500v3.200M8 11.600v.1',
  empty: 'M2.500 13.500h11M4.500 11v-2M8 11V8M11.500 11v-2',
  copy: 'M5.500 5.500h8v8h-8zM10.500 5.500v-3h-8v8h3',
  close: 'M4 4l8 8M12 4l-8 8',
  check: 'M3 8.500 6.500 12 13 4.500',
  flag: 'M4 14V2.500M4 3h7.500L9.500 5.500l2 2.500H4',
};

export type IconName = keyof typeof PATHS;

export function icon(name: IconName): SVGSVGElement {
  const path = svg('path', { d: PATHS[name], fill: name === 'play' ? 'currentColor' : 'none' });
  return svg('svg', { class: 'icon', viewBox: '0 0 16 16', 'aria-hidden': 'true' }, path);
}

export function logo(): SVGSVGElement {
  return svg(
    'svg',
    { class: 'logo', viewBox: '0 0 32 32', 'aria-hidden': 'true' },
    svg('rect', { width: 32, height: 32, rx: 8, class: 'logo-ground' }),
    svg('path', {
      class: 'logo-bird',
      d: 'M5 21c5.500 1 8-1.500 9.500-6C15.800 11 18.200 8.500 22 8.500c2 0 3.300.9 4 2.300l2.500 1-2.500 1.400C25.500 20 21 24.500 14 24.500c-4 0-7-1.300-9-3.500z',
    }),
    svg('circle', { class: 'logo-ground', cx: 22.3, cy: 11.8, r: 1.25 }),
  );
}
