import type { Client, ConnectionState, Phase } from '@anabranch/client';
import { ago, clock, everyTick } from './age.ts';
import { el, panel, say } from './dom.ts';

const NAMES: Record<Phase, string> = {
  idle: 'Idle',
  connecting: 'Connecting',
  syncing: 'Catching up',
  live: 'Live',
  offline: 'Offline',
  paused: 'Paused',
  needs_auth: 'Needs a token',
  closed: 'Closed',
};
const JOURNAL_LINES = 60;

/** The connection: a badge for the head of the page, and a journal of what happened to it. */
export class Link {
  readonly badge: HTMLElement;
  readonly journal: HTMLElement;
  private readonly phase = el('b', { id: 'phase', 'aria-live': 'polite' });
  private readonly fresh = el('span', { class: 'detail', id: 'fresh' });
  private readonly lines = el('ol', { class: 'journal', tabindex: 0, 'aria-label': 'What happened, newest first' });
  private retryAt: number | null = null;
  private before: Phase | undefined;
  private readonly retry: HTMLButtonElement;
  /** The journal's line about the outage that lasts, with a count of the attempts in it. */
  private outage: HTMLElement | undefined;

  constructor(
    private readonly client: Client,
    /** Unix milliseconds up to which everything shown is known to be whole. */
    private readonly freshAsOf: () => number | null,
  ) {
    this.retry = el('button', { type: 'button', class: 'small', hidden: true, onclick: () => client.connect() }, 'Retry now');
    this.badge = el('div', { class: 'badge' }, this.retry, el('span', { class: 'dot' }), this.phase, this.fresh);
    this.journal = panel('Journal', this.lines);
    client.state.subscribe((state) => this.changed(state));
    client.onError((error) => this.note(`${error.message} (${error.code})`, 'bad'));
    this.changed(client.state.get());
    everyTick((now) => this.tick(now));
  }

  /** Adds a line to the journal. */
  note(text: string, tone: 'good' | 'bad' | '' = ''): HTMLElement {
    const line = el('li', { class: tone }, el('time', {}, clock(Date.now())), el('span', {}, text));
    this.lines.prepend(line);
    while (this.lines.children.length > JOURNAL_LINES) this.lines.lastElementChild?.remove();
    return line;
  }

  private changed(state: ConnectionState): void {
    this.badge.dataset['phase'] = state.phase;
    this.retryAt = state.retryInMs === null ? null : Date.now() + state.retryInMs;
    this.tick(Date.now());
    this.retry.hidden = state.phase !== 'offline' && state.phase !== 'needs_auth';
    if (state.phase === this.before) return;
    const { before } = this;
    this.before = state.phase;
    const why = state.code === null ? '' : `, code ${state.code}`;
    if (state.phase === 'offline') return this.down(before, why, state.attempt);
    if (state.phase === 'connecting' && this.outage) return;
    this.outage = undefined;
    if (state.phase === 'live') this.note('live: everything is here', 'good');
    else if (state.phase !== 'idle') this.note(`${NAMES[state.phase].toLowerCase()}${why}`);
  }

  /** One line for one outage, however many attempts it takes. */
  private down(before: Phase | undefined, why: string, attempt: number): void {
    const tries = attempt > 1 ? `, ${attempt} attempts` : '';
    const what = before === 'connecting' && !this.outage ? 'no connection' : 'connection lost';
    if (!this.outage) this.outage = this.note(`${what}${why}`, 'bad');
    else say(this.outage.lastElementChild as HTMLElement, `connection lost${why}${tries}`);
  }

  private tick(now: number): void {
    const { phase, upstream } = this.client.state.get();
    const retry = this.retryAt !== null && this.retryAt > now ? ` · retry in ${Math.ceil((this.retryAt - now) / 1000)} s` : '';
    say(this.phase, `${NAMES[phase]}${retry}${upstream ? '' : ' · log unreachable'}`);
    const at = this.freshAsOf();
    say(this.fresh, at === null ? '' : `as of ${clock(at)}${now - at < 2_000 ? '' : `, ${ago(now - at)}`}`);
  }
}
