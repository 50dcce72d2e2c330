// What rules, the runtime and people decided, newest first, each with its inputs and its reason.
import { ApiError, decisions } from '../api/client';
import type { Decision } from '../api/types';
import { fill, h } from '../dom';
import { formatValue } from '../format/value';
import { icon } from '../icons';
import { currentZone, onSettings } from '../settings';
import { formatAge, formatDateTime } from '../time/format';
import { serviceLink } from '../url';
import type { Page } from './page';

const LIMIT = 100;
const POLL_MS = 5000;

export function decisionsPage(): Page {
  const list = h('div', { 'aria-live': 'off', 'data-testid': 'decision-list' }, h('p', { class: 'muted' }, 'loading'));
  const element = h(
    'main',
    { class: 'decisions', id: 'main' },
    h('header', { class: 'home-header' }, h('h1', {}, 'Decisions'), h('p', { class: 'muted' }, 'What rules, the runtime and people decided and why, newest first. Each is an event of type serin.decision.')),
    list,
  );
  let shown = '';
  const draw = async (): Promise<void> => {
    try {
      const found = await decisions(LIMIT);
      const next = JSON.stringify([found, currentZone()]);
      if (next === shown) return;
      shown = next;
      fill(list, found.length > 0 ? h('ol', { class: 'decision-list' }, ...found.map(entry)) : nothing());
    } catch (error) {
      shown = '';
      const text = error instanceof ApiError ? `${error.message} (${error.code})` : 'the decisions cannot be read';
      fill(list, h('div', { class: 'notice bad', role: 'alert' }, icon('warning'), h('span', {}, text)));
    }
  };
  void draw();
  const timer = setInterval(() => void draw(), POLL_MS);
  const end = onSettings(() => void draw());
  return {
    element,
    title: 'Decisions',
    destroy: () => {
      clearInterval(timer);
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
  return h(
    'li',
    { class: 'decision', 'data-testid': 'decision' },
    h('time', { datetime: decision.time, title: `${formatAge(Date.now() - at)} ago` }, formatDateTime(at, currentZone())),
    h('span', { class: 'chip' }, decision.action),
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
