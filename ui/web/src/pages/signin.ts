// What is shown without a session: where the sign-in link is, and a field for its token.
import { session } from '../api/client';
import { h } from '../dom';
import { logo } from '../icons';
import type { Page } from './page';

const POLL_MS = 3000;

/** `onSignedIn` is called when a session exists, also when it was made in another tab. */
export function signInPage(next: string, onSignedIn: () => void): Page {
  const element = h(
    'main',
    { class: 'sign-in', id: 'main', 'data-testid': 'sign-in' },
    logo(),
    h('h1', {}, 'Sign in to Serin'),
    h('p', {}, 'Open the sign-in link that ', h('code', {}, 'serin up'), ' printed when it started. ', h('code', {}, 'serin status'), ' prints it again.'),
    h('form', { action: '/signin', method: 'get' },
      h('label', { for: 'token' }, 'Or paste its token'),
      h('input', { id: 'token', name: 'token', class: 'input', type: 'password', autocomplete: 'off', required: true }),
      h('input', { type: 'hidden', name: 'next', value: next }),
      h('button', { type: 'submit', class: 'button primary' }, 'Sign in')),
    h('p', { class: 'muted' }, 'The token is made anew at each start. Scripts send it as "Authorization: Bearer …".'),
  );
  const timer = setInterval(() => void session().then(onSignedIn, () => {}), POLL_MS);
  return { element, title: 'Sign in', destroy: () => clearInterval(timer) };
}
