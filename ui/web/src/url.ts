// What the address bar holds, read and written: page, range, the panel seen alone, isolated series.
//
// The URL is the only place where this state lives; pages derive from it. Pure.
// Start at `readUrl`.
import type { Chosen } from './api/types';
import type { Range } from './time/range';

export type Route =
  | { page: 'home' }
  | { page: 'dashboard'; name: string }
  | { page: 'services' }
  | { page: 'logs' }
  | { page: 'traces' }
  | { page: 'trace'; id: string }
  | { page: 'map' }
  | { page: 'decisions' }
  | { page: 'explore' }
  | { page: 'unknown'; path: string };

export interface UrlState {
  route: Route;
  /** Undefined: the dashboard's own range. */
  range: Range | undefined;
  /** The panel that fills the page. */
  panel: string | undefined;
  /** Series shown alone, by panel. */
  isolated: Record<string, string>;
  /** What was chosen of a dashboard's variables. */
  chosen: Chosen;
  sql: string | undefined;
  /** What the pages of logs and traces are narrowed to, by name. */
  filters: Record<string, string>;
  isKiosk: boolean;
  theme: string | undefined;
}

/** The names of filters; other parameters are none. */
export const FILTERS = ['service', 'instance', 'level', 'text', 'trace', 'endpoint', 'status', 'slower', 'order', 'at', 'line', 'of'] as const;

export type Filter = (typeof FILTERS)[number];

export function readUrl(pathname: string, search: string): UrlState {
  const parameters = new URLSearchParams(search);
  const from = parameters.get('from');
  const to = parameters.get('to');
  const isolated: Record<string, string> = {};
  for (const [name, value] of parameters) {
    if (name.startsWith('only.')) isolated[name.slice('only.'.length)] = value;
  }
  const chosen: Chosen = {};
  for (const [name, value] of parameters) {
    if (name.startsWith('var.')) (chosen[name.slice('var.'.length)] ??= []).push(value);
  }
  const filters: Record<string, string> = {};
  for (const name of FILTERS) {
    const value = parameters.get(name);
    if (value) filters[name] = value;
  }
  return {
    route: readRoute(pathname),
    range: from && to ? { from, to } : undefined,
    panel: parameters.get('panel') ?? undefined,
    isolated,
    chosen,
    sql: parameters.get('sql') ?? undefined,
    filters,
    isKiosk: parameters.has('kiosk'),
    theme: parameters.get('theme') ?? undefined,
  };
}

export function writeUrl(state: UrlState): string {
  const parameters = new URLSearchParams();
  if (state.range) {
    parameters.set('from', state.range.from);
    parameters.set('to', state.range.to);
  }
  if (state.panel) parameters.set('panel', state.panel);
  for (const [panel, series] of Object.entries(state.isolated)) parameters.set(`only.${panel}`, series);
  for (const [name, values] of Object.entries(state.chosen)) for (const value of values) parameters.append(`var.${name}`, value);
  for (const [name, value] of Object.entries(state.filters)) if (value) parameters.set(name, value);
  if (state.sql) parameters.set('sql', state.sql);
  if (state.theme) parameters.set('theme', state.theme);
  if (state.isKiosk) parameters.set('kiosk', '1');
  const search = parameters.toString().replaceAll('%3A', ':');
  return search ? `${pathOf(state.route)}?${search}` : pathOf(state.route);
}

export function pathOf(route: Route): string {
  switch (route.page) {
    case 'home':
      return '/';
    case 'dashboard':
      return `/d/${encodeURIComponent(route.name)}`;
    case 'trace':
      return `/traces/${encodeURIComponent(route.id)}`;
    case 'unknown':
      return route.path;
    default:
      return `/${route.page}`;
  }
}

function readRoute(pathname: string): Route {
  const [first = '', second, ...more] = pathname.replace(/^\/|\/$/g, '').split('/');
  if (first === '' && second === undefined) return { page: 'home' };
  if (first === 'd' && second && more.length === 0) return { page: 'dashboard', name: decode(second) };
  if (first === 'traces' && second && more.length === 0) return { page: 'trace', id: decode(second) };
  const isPlain = first === 'services' || first === 'logs' || first === 'traces' || first === 'map' || first === 'decisions' || first === 'explore';
  if (isPlain && second === undefined) return { page: first };
  return { page: 'unknown', path: pathname };
}

/** The address of a page with filters, for links. */
export function linkTo(route: Route, filters: Partial<Record<Filter, string>>, range?: Range): string {
  return writeUrl({ route, range, filters, panel: undefined, isolated: {}, chosen: {}, sql: undefined, isKiosk: false, theme: undefined });
}

/** The address of the built-in dashboard of one service. */
export function serviceLink(service: string): string {
  return `/d/service?var.service=${encodeURIComponent(service)}`;
}

/** A page of ours, with query and fragment, to go to after signing in; anything else leads to the first page. */
export function ownPage(wanted: string | null, origin: string): string {
  if (!wanted?.startsWith('/') || !URL.canParse(wanted, origin)) return '/';
  const { origin: itsOrigin, pathname, search, hash } = new URL(wanted, origin);
  const isOwn = itsOrigin === origin && !pathname.startsWith('//') && pathname !== '/signin';
  return isOwn ? pathname + search + hash : '/';
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
