// What a reader chooses on a dashboard: a list for one value, boxes to tick for many.
//
// It offers what the server found, and what the address bar says even where the server did not find
// it. Asks anew when it is opened. Start at `variablePickers`.
import type { Chosen, Variable } from '../api/types';
import { fill, h, setText } from '../dom';

export interface VariablePickers {
  readonly element: HTMLElement;
  show: (defined: Variable[], offered: Variable[], chosen: Chosen) => void;
}

export function variablePickers(choose: (name: string, values: string[]) => void, ask: () => void): VariablePickers {
  const element = h('div', { class: 'variables' });
  let shown = '';
  return {
    element,
    show: (defined, offered, chosen) => {
      const variables = defined.map((variable) => ({ ...variable, values: valuesOf(variable, offered, chosen) }));
      const state = JSON.stringify([variables, chosen]);
      if (state === shown || element.contains(document.activeElement)) return;
      shown = state;
      fill(element, ...variables.map((variable) => (variable.is_multi ? many(variable, chosen, choose, ask) : one(variable, chosen, choose, ask))));
    },
  };
}

/** What can be chosen, in order: what is there, and what is chosen already. */
export function valuesOf(variable: Variable, offered: Variable[], chosen: Chosen): string[] {
  const found = offered.find(({ name }) => name === variable.name)?.values ?? [];
  return [...new Set([...found, ...(chosen[variable.name] ?? [])])].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
}

type Offered = Variable & { values: string[] };

function one({ name, title, values }: Offered, chosen: Chosen, choose: (name: string, values: string[]) => void, ask: () => void): HTMLElement {
  // Without a choice the server shows the first.
  const current = chosen[name]?.[0] ?? values[0];
  const options = values.map((value) => h('option', { value, selected: value === current }, value));
  const select = h(
    'select',
    {
      class: 'input',
      'data-testid': `variable-${name}`,
      onpointerdown: ask,
      onchange: () => {
        select.blur();
        choose(name, [select.value]);
      },
    },
    ...(options.length > 0 ? options : [h('option', { value: '' }, 'none yet')]),
  );
  return h('label', { class: 'variable' }, h('span', {}, title), select);
}

function many({ name, title, values }: Offered, chosen: Chosen, choose: (name: string, values: string[]) => void, ask: () => void): HTMLElement {
  const picked = new Set(chosen[name]);
  const label = h('span', {}, summary(picked));
  const box = (value: string): HTMLElement => {
    const input = h('input', {
      type: 'checkbox',
      checked: picked.has(value),
      onchange: () => {
        if (input.checked) picked.add(value);
        else picked.delete(value);
        setText(label, summary(picked));
        choose(name, [...picked]);
      },
    });
    return h('label', {}, input, h('span', {}, value));
  };
  return h(
    'details',
    { class: 'variable', 'data-testid': `variable-${name}`, ontoggle: ask },
    h('summary', { class: 'button small' }, `${title}: `, label),
    h('div', { class: 'variable-values' }, ...(values.length > 0 ? values.map(box) : [h('p', { class: 'muted' }, 'none yet')])),
  );
}

function summary(picked: Set<string>): string {
  const [first, ...more] = picked;
  if (first === undefined) return 'all';
  return more.length === 0 ? first : `${picked.size} chosen`;
}
