// A row of filters over a list: texts with suggestions and choices, held by the URL.
//
// It is told the values and tells what was changed; a text counts once typing rests or Enter is pressed.
// Start at `filterBar`.
import { fill, h } from '../dom';
import type { Filter } from '../url';

export interface Field {
  name: Filter;
  label: string;
  placeholder?: string;
  /** A choice of these; without them it is a text. The first one is "all". */
  choices?: [value: string, text: string][];
}

export interface FilterBar {
  readonly element: HTMLElement;
  show: (values: Record<string, string>) => void;
  suggest: (name: Filter, values: string[]) => void;
  /** Puts the cursor into the field. */
  focus: (name: Filter) => void;
}

const REST_MS = 350;

export function filterBar(fields: Field[], change: (name: Filter, value: string) => void): FilterBar {
  const inputs = new Map<Filter, HTMLInputElement | HTMLSelectElement>();
  const lists = new Map<Filter, HTMLDataListElement>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const tell = (name: Filter, value: string): void => {
    clearTimeout(timer);
    change(name, value.trim());
  };
  const parts = fields.map((field) => {
    const { name, label } = field;
    const id = `filter-${name}`;
    let input: HTMLInputElement | HTMLSelectElement;
    if (field.choices) {
      const options = field.choices.map(([value, text]) => h('option', { value }, text));
      input = h('select', { id, class: 'input', 'data-testid': id, onchange: () => tell(name, input.value) }, ...options);
    } else {
      const list = h('datalist', { id: `${id}-list` });
      lists.set(name, list);
      input = h('input', {
        id, class: 'input', type: 'search', placeholder: field.placeholder, list: list.id, autocomplete: 'off', spellcheck: 'false', 'data-testid': id,
        oninput: () => {
          clearTimeout(timer);
          timer = setTimeout(() => tell(name, input.value), REST_MS);
        },
        onchange: () => tell(name, input.value),
      });
    }
    inputs.set(name, input);
    return h('div', { class: `filter filter-${name}` }, h('label', { for: id }, label), input, lists.get(name));
  });
  const element = h('form', { class: 'filters', role: 'search', onsubmit: (event: Event) => event.preventDefault() }, ...parts);
  return {
    element,
    show: (values) => {
      for (const [name, input] of inputs) {
        const value = values[name] ?? '';
        if (input.value.trim() !== value) input.value = value;
        input.classList.toggle('set', value !== '');
      }
    },
    suggest: (name, values) => {
      const list = lists.get(name);
      if (list) fill(list, ...values.map((value) => h('option', { value })));
    },
    focus: (name) => inputs.get(name)?.focus(),
  };
}
