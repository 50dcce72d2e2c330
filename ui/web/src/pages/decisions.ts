// What rules, the runtime and people decided, newest first, each with its inputs and its reason.
import { decisions } from '../api/client';
import type { Decision } from '../api/types';
import { markColor } from '../charts/palette';
import { h, patch } from '../dom';
import { formatValue } from '../format/value';
import { icon } from '../icons';
import { currentZone, isDark, onSettings } from '../settings';
import { formatAge, formatDateTime } from '../time/format';
import { serviceLink } from '../url';
import { failureNotice } from './notice';
import type { Page } from './page';
import { poller } from './poll';

const LIMIT = 100;
const POLL_MS = 5000;

export function decisionsPage(): Page {
  const notices = h('div', { class: 'notices' });
  const list = h('div', { 'data-testid': 'decision-list' }, h('p', { class: 'muted' }, 'loading'));
  let found: Decision[] | undefined;
  const draw = (): void => {
    if (found) patch(list, found.length > 0 ? h('ol', { class: 'decision-list' }, ...found.map(entry)) : nothing());
  };
  const poll = poller({
    everyMs: POLL_MS,
    look: async (signal) => {
      found = await decisions(LIMIT, signal);
      if (!signal.aborted) draw();
    },
    onFailure: (failure) => {
      patch(notices, failure ? failureNotice(failure) : null);
      if (failure && !found) patch(list);
    },
  });
  poll.now();
  const end = onSettings(draw);
  return {
    element: h(
      'main',
      { class: 'decisions', id: 'main' },
      h('header', { class: 'home-header' },
        h('h1', {}, 'Decisions'), poll.element,
        h('p', { class: 'muted' }, 'What rules, the runtime and people decided and why, newest first. Each is an event of type ', h('code', {}, 'serin.decision'), '.')),
      notices,
      list,
    ),
    title: 'Decisions',
    onKeys: (keys) => {
      if (keys === 'd r') poll.now();
    },
    destroy: () => {
      poll.stop();
      end();
    },
  };
}

function entry(decision: Decision): HTMLElement {
  const at = Date.parse(decision.time);
  const unit = typeof decision['unit'] === 'string' ? decision['unit'] : undefined;
  const numbers = decision.kpi
    ? h('span', { class: 'decision-numbers' }, h('code', {}, decision.kpi), ` ${formatValue(decision.value, unit)} `, h('span', { class: 'muted' }, `bound ${formatValue(decision.bound, unit)}`))
    : null;
  const chip = h('span', { class: 'chip' }, decision.action);
  chip.style.setProperty('--color', markColor(decision.action, isDark()));
  return h(
    'li',
    { class: 'decision', 'data-testid': 'decision', 'data-key': typeof decision['id'] === 'string' ? decision['id'] : null },
    h('time', { datetime: decision.time, title: `${formatAge(Date.now() - at)} ago` }, formatDateTime(at, currentZone())),
    chip,
    h('strong', {}, decision.subject ? h('a', { href: serviceLink(decision.subject) }, decision.subject) : decision.rule),
    decision.subject ? h('span', { class: 'muted' }, decision.rule) : null,
    numbers,
    h('p', {}, decision.why ?? ''),
  );
}

function nothing(): HTMLElement {
  return h('div', { class: 'page-message' }, icon('flag'), h('h2', {}, 'No decisions yet'),
    h('p', {}, 'Deploys are decisions, and so is what a rule in YAML tells, for instance:'),
    h('pre', {}, 'rules:\n  errors-high: {when: {kpi: error_share, above: 0.05, for: 1m}, then: notify}'));
}
