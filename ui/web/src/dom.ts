// Makes elements from values: the only way markup comes to be in this application.
//
// Text from data becomes text nodes, never markup; style is set through the CSSOM because the
// content security policy forbids style attributes. Start at `h`.

export type Child = Node | string | number | null | undefined | false;
type Listener = (event: never) => void;
export type Props = Record<string, string | number | boolean | null | undefined | Listener>;

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  apply(element, props);
  append(element, children);
  return element;
}

export function svg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  apply(element, props);
  append(element, children);
  return element;
}

/** Replaces everything in `parent`. */
export function fill(parent: Element, ...children: Child[]): void {
  parent.replaceChildren();
  append(parent, children);
}

/**
 * Has `parent` show these children, changing only what differs: what stays keeps its place, its focus and
 * its layout. Children with the same `data-key`, which is unique among them, are the same thing. Listeners
 * remain those of the elements that were there, so that this is for such as never change.
 */
export function patch(parent: Element, ...children: Child[]): void {
  const wanted = h('div', {}, ...children);
  patchChildren(parent, [...wanted.childNodes]);
}

function patchChildren(parent: Element, wanted: ChildNode[]): void {
  const keys = new Set(wanted.map(keyOf));
  const kept = new Map<string, ChildNode>();
  for (const child of [...parent.childNodes]) {
    const key = keyOf(child);
    if (key === undefined) continue;
    if (keys.has(key)) kept.set(key, child);
    else child.remove();
  }
  let at = parent.firstChild;
  for (const want of wanted) {
    const key = keyOf(want);
    const there = key === undefined ? (at && keyOf(at) === undefined ? at : undefined) : kept.get(key);
    if (!there || there.nodeName !== want.nodeName) {
      parent.insertBefore(want, at);
      continue;
    }
    if (there === at) at = at.nextSibling;
    else parent.insertBefore(there, at);
    patchNode(there, want);
  }
  while (at) {
    const next: ChildNode | null = at.nextSibling;
    at.remove();
    at = next;
  }
}

function patchNode(there: ChildNode, want: ChildNode): void {
  if (there instanceof Text) {
    if (there.data !== want.textContent) there.data = want.textContent ?? '';
    return;
  }
  if (!(there instanceof Element) || !(want instanceof Element)) return;
  for (const { name } of [...there.attributes]) if (name !== 'style' && !want.hasAttribute(name)) there.removeAttribute(name);
  for (const { name, value } of want.attributes) if (name !== 'style') setAttribute(there, name, value);
  // The content security policy forbids the attribute, not what it stands for.
  if (there instanceof HTMLElement && want instanceof HTMLElement && there.style.cssText !== want.style.cssText) there.style.cssText = want.style.cssText;
  patchChildren(there, [...want.childNodes]);
}

function keyOf(node: Node): string | undefined {
  return node instanceof HTMLElement || node instanceof SVGElement ? node.dataset['key'] : undefined;
}

/** Text with its `commands` between backticks set as code. */
export function withCode(text: string): Child[] {
  return text.split(/`([^`]+)`/).map((part, at) => (at % 2 === 1 ? h('code', {}, part) : part));
}

/** Writes text only where it differs, so that live pages do not disturb selections and readers. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets or removes an attribute, only where it differs. */
export function setAttribute(element: Element, name: string, value: string | null): void {
  if (element.getAttribute(name) === value) return;
  if (value === null) element.removeAttribute(name);
  else element.setAttribute(name, value);
}

function apply(element: Element, props: Props): void {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name.slice(2), value as EventListener);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
}

function append(parent: Element, children: Child[]): void {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(typeof child === 'number' ? String(child) : child);
  }
}
