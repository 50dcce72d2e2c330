// The panel of a young folder: send visitors, kill one, edit hello, change a KPI, read along with DuckDB.
// Closed for good by its cross.
//
// It asks how it stands each second while it is open. A bad version that rolls itself back gets its place
// between editing and DuckDB, once versions are judged. Start at `firstStepsPanel`.
import { ApiError } from '../api/client';
import { closeFirstSteps, firstSteps, killOne, sendVisitors, type FirstSteps, type Killed } from '../api/first_steps';
import { fill, h, setText } from '../dom';
import { formatValue } from '../format/value';
import { icon } from '../icons';
import { serviceLink } from '../url';
import { poller } from './poll';

const POLL_MS = 1000;

export interface FirstStepsPanel {
  readonly element: HTMLElement;
  /** It is known whether there is anything to show. */
  readonly looked: Promise<void>;
  destroy: () => void;
}

/** Stays empty where there is nothing to try, or where it was closed. */
export function firstStepsPanel(): FirstStepsPanel {
  const element = h('div', {});
  let steps: ReturnType<typeof build> | undefined;
  let tell: () => void = () => {};
  const looked = new Promise<void>((resolve) => { tell = resolve; });
  const poll = poller({
    everyMs: POLL_MS,
    look: async (signal) => {
      const found = await firstSteps(signal);
      if (signal.aborted) return;
      steps = found.is_open ? (steps ?? build(found, () => poll.now(), end)) : undefined;
      if (element.firstElementChild !== (steps?.element ?? null)) fill(element, steps?.element);
      steps?.show(found);
    },
    // An older server knows no first steps; of one that is away the rest of the page tells.
    onFailure: (failure) => {
      tell();
      if (failure?.status === 404) end();
    },
  });

  function end(): void {
    poll.stop();
    element.replaceChildren();
  }

  poll.now();
  return { element, looked, destroy: end };
}

function build(found: FirstSteps, changed: () => void, close: () => void): { element: HTMLElement; show: (now: FirstSteps) => void } {
  const outcome = (): HTMLElement => h('p', { class: 'step-outcome', role: 'status' });
  const [visited, killed] = [outcome(), outcome()];
  let areComing = found.are_coming;
  const fail = (place: HTMLElement, error: unknown): void => {
    if (!(error instanceof ApiError)) throw error;
    setText(place, error.message);
    place.classList.add('bad');
  };
  const visitors = button('Send visitors', 'send-visitors', () => {
    sendVisitors(!areComing).then(changed, (error: unknown) => fail(visited, error));
  });
  const kill = button('Kill one', 'kill-one', () => {
    kill.disabled = true;
    killed.classList.remove('bad');
    setText(killed, 'killed; waiting for the next one …');
    killOne().then((done) => setText(killed, sentence(done)), (error: unknown) => fail(killed, error)).finally(() => { kill.disabled = false; });
  });
  const step = (title: string, action: HTMLElement | null, ...text: (string | Node)[]): HTMLElement =>
    h('li', {}, h('div', { class: 'step-head' }, h('strong', {}, title), action), h('p', {}, ...text));
  const code = (text: string): HTMLElement => h('code', {}, text);
  const element = h(
    'section',
    { class: 'first-steps', 'aria-label': 'First steps', 'data-testid': 'first-steps-panel' },
    h('header', {},
      h('h2', {}, `${found.service} runs in two instances. Try it`),
      h('button', { type: 'button', class: 'icon-button', 'aria-label': 'Close the first steps for good', title: 'Close for good', 'data-testid': 'close-first-steps', onclick: () => { closeFirstSteps().then(close, (error: unknown) => fail(visited, error)); } }, icon('close'))),
    h('ol', {},
      h('li', {}, h('div', { class: 'step-head' }, h('strong', {}, 'Give it something to do'), visitors),
        h('p', {}, 'Some twenty visitors a second come to ', h('a', { href: found.url, target: '_blank', rel: 'noreferrer' }, found.url), ' through the gateway; watch them on the ', h('a', { href: '/map' }, 'map'), ', as ', h('a', { href: '/traces' }, 'traces'), ' and on ', h('a', { href: '/services' }, 'its numbers'), '.'), visited),
      h('li', {}, h('div', { class: 'step-head' }, h('strong', {}, 'Kill an instance'), kill),
        h('p', {}, 'Its process ends at once, as in a crash. Its visitors go to the other one, and a new one takes its place.'), killed),
      step('Make it yours', null, 'Change ', code(`services/${found.service}/page.html`), ' and save it: the new version takes over, on ', h('a', { href: serviceLink(found.service) }, 'its charts'), ' a second later. Without ', code('deploy: {on_save: true}'), ' in ', code('serin.yaml'), ', ', code(`serin deploy ${found.service}`), ' does it.'),
      step('Change what is measured', null, 'In ', code(`kpis/${found.service}.yaml`), ' change the title or the measure, and watch ', h('a', { href: `/d/${encodeURIComponent(found.service)}` }, 'its dashboard'), '.'),
      step('Read the same events with DuckDB', null, code(found.attach)),
    ),
  );
  return {
    element,
    show: (now) => {
      areComing = now.are_coming;
      setText(visitors, areComing ? 'Send them home' : 'Send visitors');
      visitors.setAttribute('aria-pressed', String(areComing));
      const all = now.answered + now.failed;
      if (all > 0) setText(visited, `${all.toLocaleString('en-US')} came, ${now.failed === 0 ? 'all' : now.answered.toLocaleString('en-US')} were answered${now.failed > 0 ? `, ${now.failed} were not` : ''}`);
    },
  };
}

function button(text: string, testid: string, onclick: () => void): HTMLButtonElement {
  return h('button', { type: 'button', class: 'button primary small', 'data-testid': testid, onclick }, text);
}

/** `replaced in 0.3 s, 0 lost`, with who by whom. */
function sentence({ killed, replacement, took_us: us, lost }: Killed): string {
  const seconds = `${formatValue(Number((us / 1e6).toPrecision(2)), 'count')} s`;
  const told = lost === null ? 'nobody was visiting' : `${lost} lost`;
  return `replaced in ${seconds}, ${told}: ${killed} by ${replacement}`;
}
