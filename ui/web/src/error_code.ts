// The code of an error, which leads to its line in the book.
import { h } from './dom';

export function errorCode(code: string): HTMLElement {
  if (!code.startsWith('SER-')) return h('code', { class: 'error-code' }, code);
  return h('a', { class: 'error-code', href: `/docs/errors#${code}`, target: '_blank', rel: 'noopener', title: 'What this code stands for' }, code);
}
