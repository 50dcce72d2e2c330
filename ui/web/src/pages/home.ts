// The first page: the dashboards there are, and where to drop a file; first steps where there is none.
import { ApiError, dashboard, dashboards, session } from '../api/client';
import type { DashboardSummary } from '../api/types';
import { fill, h, setText, type Child } from '../dom';
import { icon } from '../icons';
import { currentZone } from '../settings';
import { nameOf } from '../time/range';
import { firstStepsPanel } from './first_steps';
import { failureNotice } from './notice';
import type { Page } from './page';

export function homePage(chooseFile: () => void): Page {
  const version = h('p', { class: 'muted' });
  const list = h('div', { class: 'home-list' });
  const steps = firstStepsPanel();
  const drop = h(
    'button',
    { type: 'button', class: 'drop-area', hidden: true, 'data-testid': 'drop-area', onclick: chooseFile },
    icon('upload'),
    h('strong', {}, 'Drop a file anywhere, or choose one'),
    h('span', { class: 'muted' }, 'Access log, NDJSON, CSV or Parquet. Serin imports it, proposes KPIs and opens a dashboard.'),
  );
  const element = h(
    'main',
    { class: 'home', id: 'main', 'data-testid': 'home', 'aria-busy': 'true' },
    h('header', { class: 'home-header' }, h('h1', {}, 'Dashboards'), version),
    steps.element,
    list,
    drop,
  );
  void session().then((known) => setText(version, `Serin ${known.version}`), () => {});
  // All at once, so that nothing moves under the pointer.
  const show = (...content: Child[]): void => {
    fill(list, ...content);
    drop.hidden = false;
    element.removeAttribute('aria-busy');
  };
  Promise.all([dashboards(), steps.looked]).then(
    ([found]) => show(...groups(found)),
    (error: unknown) => {
      if (!(error instanceof ApiError)) throw error;
      show(failureNotice(error));
    },
  );
  return { element, title: 'Dashboards', destroy: steps.destroy };
}

function groups(found: DashboardSummary[]): Child[] {
  const cards = (some: DashboardSummary[]): HTMLElement => h('ul', { class: 'cards' }, ...some.map(card));
  const own = found.filter(({ is_built_in: isBuiltIn }) => !isBuiltIn);
  const builtIn = found.filter(({ is_built_in: isBuiltIn }) => isBuiltIn);
  return [
    own.length === 0 ? firstSteps() : cards(own),
    builtIn.length > 0 && h('section', { class: 'home-group', 'aria-labelledby': 'built-in' }, h('h2', { id: 'built-in' }, 'Built in'), cards(builtIn)),
  ];
}

function card({ name, title, description }: DashboardSummary): HTMLElement {
  const quick = h('small', { class: 'card-state' }, '…');
  void dashboard(name).then(
    (found) => {
      const count = Object.keys(found.panels).length;
      const problems = found.problems.length;
      quick.textContent = `${count} ${count === 1 ? 'panel' : 'panels'} · ${nameOf(found.own_range ?? found.range, currentZone())}`;
      if (problems > 0) quick.append(h('span', { class: 'card-problem' }, ` · ${problems} ${problems === 1 ? 'problem' : 'problems'}`));
    },
    (error: unknown) => {
      if (error instanceof ApiError) quick.textContent = error.message;
    },
  );
  return h(
    'li',
    {},
    h('a', { class: 'card', href: `/d/${encodeURIComponent(name)}`, 'data-testid': 'dashboard-card' },
      h('strong', {}, title), description ? h('span', { class: 'muted' }, description) : null, quick),
  );
}

function firstSteps(): HTMLElement {
  const step = (title: string, ...text: (string | Node)[]): HTMLElement => h('li', {}, h('strong', {}, title), h('p', {}, ...text));
  return h(
    'div',
    { class: 'first-steps', 'data-testid': 'first-steps' },
    h('h2', {}, 'No dashboards of yours yet'),
    h('ol', {},
      step('Bring data in', 'Drop a file on this page, or run ', h('code', {}, 'serin open access.log'), '.'),
      step('Or send an event', h('code', {}, 'serin emit order.paid amount=12.5 country=DE')),
      step('Then write a dashboard', 'Put YAML into ', h('code', {}, 'kpis/'), ' and ', h('code', {}, 'dashboards/'), '; saving shows it here. The ', h('a', { href: '/docs', 'data-external': true }, 'book'), ' has examples.'),
    ),
  );
}
