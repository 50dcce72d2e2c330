// What is shown without a session: where a sign-in link is, and a field for the token.
import { ApiError, session, signInCode } from '../api/client';
import { h } from '../dom';
import { logo } from '../icons';
import type { Page } from './page';

const POLL_MS = 3000;

/** `onSignedIn` is called when a session exists, also when it was made in another tab. */
export function signInPage(next: string, onSignedIn: () => void): Page {
  const input = h('input', { id: 'token', class: 'input', type: 'password', autocomplete: 'off', required: true });
  const failed = h('p', { class: 'error', role: 'alert' });
  const form = h('form', {},
    h('label', { for: 'token' }, 'Or paste the token'),
    input,
    h('button', { type: 'submit', class: 'button primary' }, 'Sign in'),
    failed);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    failed.textContent = '';
    void linkOf(input.value.trim(), next).then(
      (link) => location.assign(link),
      (error: unknown) => { failed.textContent = whyNot(error); },
    );
  });
  const element = h(
    'main',
    { class: 'sign-in', id: 'main', 'data-testid': 'sign-in' },
    logo(),
    h('h1', {}, 'Sign in to Serin'),
    isSpent() ? h('p', { class: 'notice', 'data-testid': 'spent' }, 'This link was used already, is older than ten minutes, or of an earlier start (SER-AUTH-004).') : null,
    h('p', {}, h('code', {}, 'serin status'), ', run in the folder of Serin, prints a new sign-in link, good once, for ten minutes.'),
    form,
    h('p', { class: 'muted' }, 'The token is in ', h('code', {}, '.serin/run.json'), ', new at each start. Scripts send it as "Authorization: Bearer …".'),
  );
  const timer = setInterval(() => void session().then(onSignedIn, () => {}), POLL_MS);
  return { element, title: 'Sign in', destroy: () => clearInterval(timer) };
}

/** The token goes in a header, and a code that is good once into the address. */
async function linkOf(token: string, next: string): Promise<string> {
  const { code } = await signInCode(token);
  return `/signin?${new URLSearchParams({ code, next })}`;
}

function whyNot(error: unknown): string {
  if (error instanceof ApiError && error.status === 401) return 'This is not the token of this start.';
  return error instanceof Error ? error.message : 'The server did not answer.';
}

/** Whether one came here by a link that is no longer good. */
function isSpent(): boolean {
  return location.pathname === '/signin' && new URLSearchParams(location.search).has('code');
}
