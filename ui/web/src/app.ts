// The application: the bar on top, the page below it, the address bar, keys, files, signing in.
//
// Exactly one page lives at a time; a change of the URL either tells it or replaces it.
// Start at `startApp`.
import { onSignedOut, session } from './api/client';
import { fill, h, patch, setAttribute } from './dom';
import { icon, logo } from './icons';
import { dashboardPage } from './pages/dashboard';
import { decisionsPage } from './pages/decisions';
import { explorePage } from './pages/explore';
import { homePage } from './pages/home';
import { logsPage } from './pages/logs';
import { mapPage } from './pages/map';
import type { Context, Page } from './pages/page';
import { servicesPage } from './pages/services';
import { signInPage } from './pages/signin';
import { tracePage } from './pages/trace';
import { tracesPage } from './pages/traces';
import { currentTheme, nextTheme, onSettings, startSettings } from './settings';
import { acceptFiles } from './shell/drop';
import { helpDialog } from './shell/help';
import { isTyping, keyReader } from './shell/keys';
import { keepWanted, takeWanted } from './shell/wanted';
import { ownPage, pathOf, readUrl, writeUrl, type UrlState } from './url';

// Pages of the server itself: a click on a link to them leaves the application.
const SERVER_PATHS = /^\/(docs|api|d\/[^/]+\/[^/]+\.(svg|png)|signin|metrics)/;

export function startApp(): void {
  const wanted = location.pathname === '/signin' ? null : takeWanted();
  if (wanted && location.pathname === '/') history.replaceState(null, '', ownPage(wanted, location.origin));
  const first = readUrl(location.pathname, location.search);
  startSettings(first.theme);
  const app = new App(first);
  app.start();
}

class App {
  readonly #bar = h('header', { class: 'app-bar' });
  readonly #place = h('div', { class: 'place' });
  readonly #help = helpDialog();
  readonly #chooseFile: () => void;
  #page: Page | undefined;
  #url: UrlState;

  constructor(url: UrlState) {
    this.#url = url;
    document.body.append(h('a', { class: 'skip', href: '#main' }, 'To the content'), this.#bar, this.#place, this.#help);
    this.#chooseFile = acceptFiles(({ dashboard, from, to }) =>
      this.#go({ route: { page: 'dashboard', name: dashboard }, range: { from, to }, panel: undefined, isolated: {}, chosen: {}, filters: {} }, 'push'),
    );
  }

  start(): void {
    onSignedOut(() => this.#signedOut());
    addEventListener('popstate', () => this.#onUrl(readUrl(location.pathname, location.search)));
    document.addEventListener('click', (event) => this.#onClick(event));
    const keys = keyReader();
    // Captured, so that the second key of a shortcut does not also move the cursor of a focused chart.
    document.addEventListener('keydown', (event) => this.#onKey(event, keys.press), { capture: true });
    onSettings(() => this.#drawBar());
    this.#open();
    // Also a page that asks for nothing shows that nobody is signed in.
    session().catch(() => {});
  }

  #open(): void {
    this.#page?.destroy();
    this.#page = undefined;
    this.#drawBar();
    this.#show(this.#pageFor(this.#url));
  }

  #show(page: Page): void {
    this.#page = page;
    page.element.tabIndex = -1;
    fill(this.#place, page.element);
    this.#setTitle(page.title);
    this.#showPlaceInBar();
    document.documentElement.classList.toggle('kiosk', this.#url.isKiosk);
    scrollTo(0, 0);
  }

  #pageFor(url: UrlState): Page {
    const context: Context = {
      url: () => this.#url,
      go: (change, how = 'push') => this.#go(change, how),
      setTitle: (title) => this.#setTitle(title),
    };
    switch (url.route.page) {
      case 'home':
        return homePage(this.#chooseFile);
      case 'dashboard':
        return dashboardPage(context, url.route.name);
      case 'services':
        return servicesPage();
      case 'logs':
        return logsPage(context);
      case 'traces':
        return tracesPage(context);
      case 'trace':
        return tracePage(context, url.route.id);
      case 'map':
        return mapPage(context);
      case 'decisions':
        return decisionsPage();
      case 'explore':
        return explorePage(context);
      case 'unknown':
        return url.route.path === '/signin' ? signInPage(wantedHere(), () => this.#signedIn()) : unknownPage(url.route.path);
    }
  }

  #go(change: Partial<UrlState>, how: 'push' | 'replace'): void {
    const next = { ...this.#url, ...change };
    const address = writeUrl(next);
    if (how === 'push') history.pushState(null, '', address);
    else history.replaceState(null, '', address);
    this.#onUrl(next);
  }

  #onUrl(next: UrlState): void {
    const isSamePage = pathOf(next.route) === pathOf(this.#url.route);
    this.#url = next;
    if (isSamePage && this.#page) {
      this.#page.onUrl?.(next);
      return;
    }
    this.#open();
    // What had the focus is gone: readers and the Tab key go on at the top of the new page.
    this.#page?.element.focus({ preventScroll: true });
  }

  #signedOut(): void {
    if (this.#page?.title === 'Sign in') return;
    this.#page?.destroy();
    this.#drawBar();
    const next = wantedHere();
    if (location.pathname !== '/signin') keepWanted(next);
    this.#show(signInPage(next, () => this.#signedIn()));
  }

  #signedIn(): void {
    if (location.pathname === '/signin') location.assign(wantedHere());
    else location.reload();
  }

  #setTitle(title: string): void {
    const text = `${title} · Serin`;
    if (document.title !== text) document.title = text;
  }

  #drawBar(): void {
    const { page } = this.#url.route;
    const link = (href: string, text: string, isHere: boolean): HTMLElement => {
      const element = h('a', { href, class: 'nav-link' }, text);
      setAttribute(element, 'aria-current', isHere ? 'page' : null);
      return element;
    };
    const theme = currentTheme();
    patch(
      this.#bar,
      h('a', { class: 'brand', href: '/', 'aria-label': 'Serin, dashboards' }, logo(), h('span', {}, 'Serin')),
      h('nav', { 'aria-label': 'Pages' },
        link('/', 'Dashboards', page === 'home' || page === 'dashboard'),
        link('/services', 'Services', page === 'services'),
        link('/map', 'Map', page === 'map'),
        link('/logs', 'Logs', page === 'logs'),
        link('/traces', 'Traces', page === 'traces' || page === 'trace'),
        link('/explore', 'Explore', page === 'explore'),
        link('/decisions', 'Decisions', page === 'decisions'),
        link('/docs', 'Docs', false)),
      h('div', { class: 'bar-end' },
        h('button', { type: 'button', class: 'icon-button', 'data-testid': 'theme', 'data-theme-choice': theme, 'aria-label': `Theme: ${theme}`, title: `Theme: ${theme} (c t)`, onclick: () => this.#changeTheme() }, icon(theme)),
        h('button', { type: 'button', class: 'icon-button', 'aria-label': 'Keyboard shortcuts', title: 'Keyboard shortcuts (?)', onclick: () => this.#help.showModal() }, icon('help'))),
    );
  }

  /** A narrow bar scrolls; the page one is on is in sight. */
  #showPlaceInBar(): void {
    this.#bar.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' });
  }

  #changeTheme(): void {
    nextTheme();
    this.#bar.querySelector<HTMLElement>('[data-testid=theme]')?.focus();
  }

  /** Links within the application change the page without loading it anew. */
  #onClick(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    // Links within pictures are SVG's, which know no address of their own.
    const link = event.target instanceof Element ? event.target.closest('a') : null;
    const href = link?.getAttribute('href');
    if (!link || !href || link.hasAttribute('target') || link.hasAttribute('download')) return;
    const address = new URL(href, location.href);
    if (address.origin !== location.origin || SERVER_PATHS.test(address.pathname) || href.startsWith('#')) return;
    event.preventDefault();
    const kept = { isKiosk: this.#url.isKiosk, theme: this.#url.theme };
    this.#go({ ...readUrl(address.pathname, address.search), ...kept }, 'push');
  }

  #onKey(event: KeyboardEvent, press: (key: string, at: number) => string | undefined): void {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || this.#help.open) return;
    if (event.target instanceof Element && event.target.closest('.popup')) return;
    const keys = press(event.key, event.timeStamp);
    if (keys === undefined) return;
    if (keys.includes(' ')) {
      event.preventDefault();
      event.stopPropagation();
    }
    if (keys === '?') this.#help.showModal();
    else if (keys === 'c t') this.#changeTheme();
    else this.#page?.onKeys?.(keys);
  }
}

/** Where somebody wants to be who has to sign in first. */
function wantedHere(): string {
  const { pathname, search, hash, origin } = location;
  return pathname === '/signin' ? ownPage(new URLSearchParams(search).get('next'), origin) : pathname + search + hash;
}

function unknownPage(path: string): Page {
  const element = h('main', { class: 'page-message', id: 'main' }, icon('warning'), h('h1', {}, 'There is no such page'), h('p', {}, h('code', {}, path)), h('a', { href: '/', class: 'button' }, 'To the dashboards'));
  return { element, title: 'No such page', destroy: () => {} };
}
