// The first page: the dashboards there are, and where to drop a file; first steps where there is none.
import { ApiError, dashboard, dashboards } from '../api/client';
import type { DashboardSummary } from '../api/types';
import { fill, h } from '../dom';
import { icon } from '../icons';
import { currentZone } from '../settings';
import { nameOf } from '../time/range';
import { firstStepsPanel } from './first_steps';
import type { Context, Page } from './page';

export function homePage(context: Context, chooseFile: () => void): Page {
  const list = h('div', { class: 'home-list', 'aria-busy': 'true' });
  const steps = firstStepsPanel();
  const drop = h(
    'button',
    { type: 'button', class: 'drop-area', 'data-testid': 'drop-area', onclick: chooseFile },
    icon('upload'),
    h('strong', {}, 'Drop a file anywhere, or choose one'),
    h('span', { class: 'muted' }, 'Access log, NDJSON, CSV or Parquet. Serin imports it, proposes KPIs and opens a dashboard.'),
  );
  const element = h(
    'main',
    { class: 'home', id: 'main', 'data-testid': 'home' },
    h('header', { class: 'home-header' }, h('h1', {}, 'Dashboards'), state(context)),
    steps.element,
    list,
    drop,
  );
  dashboards().then(
    (found) => fill(list, found.every(({ is_built_in }) => is_built_in) && firstSteps(), found.length > 0 && h('ul', { class: 'cards' }, ...found.map(card))),
    (error: unknown) => fill(list, h('div', { class: 'notice bad', role: 'alert' }, icon('warning'), h('span', {}, error instanceof ApiError ? error.message : 'the list cannot be read'))),
  ).finally(() => list.removeAttribute('aria-busy'));
  return { element, title: 'Dashboards', destroy: steps.destroy };
}

function state({ session }: Context): HTMLElement | null {
  return session ? h('p', { class: 'muted' }, `Serin ${session.version}`) : null;
}

function card({ name, title, description, is_built_in }: DashboardSummary): HTMLElement {
  const quick = h('small', { class: 'card-state' }, is_built_in ? 'built in' : `dashboards/${name}.yaml`);
  void dashboard(name).then(
    (found) => {
      const count = Object.keys(found.panels).length;
      const problems = found.problems.length;
      const origin = found.is_built_in ? 'built in · ' : '';
      quick.textContent = `${origin}${count} ${count === 1 ? 'panel' : 'panels'} · ${nameOf(found.range, currentZone())}`;
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
      h('strong', {}, title), h('span', { class: 'muted' }, description ?? ''), quick),
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
