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

  constructor(
    private readonly client: Client,
    /** Unix milliseconds up to which everything shown is known to be whole. */
    private readonly freshAsOf: () => number | null,
  ) {
    this.badge = el('div', { class: 'badge' }, el('span', { class: 'dot' }), this.phase, this.fresh);
    this.journal = panel('Journal', this.lines);
    client.state.subscribe((state) => this.changed(state));
    client.onError((error) => this.note(`${error.message} (${error.code})`, 'bad'));
    this.changed(client.state.get());
    everyTick((now) => this.tick(now));
  }

  /** Adds a line to the journal. */
  note(text: string, tone: 'good' | 'bad' | '' = ''): void {
    this.lines.prepend(el('li', { class: tone }, el('time', {}, clock(Date.now())), ' ', text));
    while (this.lines.children.length > JOURNAL_LINES) this.lines.lastElementChild?.remove();
  }

  private changed(state: ConnectionState): void {
    this.badge.dataset['phase'] = state.phase;
    this.retryAt = state.retryInMs === null ? null : Date.now() + state.retryInMs;
    this.tick(Date.now());
    if (state.phase === this.before) return;
    this.before = state.phase;
    const why = state.code === null ? '' : `, code ${state.code}`;
    if (state.phase === 'live') this.note('live: everything is here', 'good');
    else if (state.phase === 'offline') this.note(`connection lost${why}`, 'bad');
    else if (state.phase !== 'idle') this.note(`${NAMES[state.phase].toLowerCase()}${why}`);
  }

  private tick(now: number): void {
    const { phase, upstream } = this.client.state.get();
    const retry = this.retryAt !== null && this.retryAt > now ? ` · retry in ${Math.ceil((this.retryAt - now) / 1000)} s` : '';
    say(this.phase, `${NAMES[phase]}${retry}${upstream ? '' : ' · log unreachable'}`);
    const at = this.freshAsOf();
    say(this.fresh, at === null ? '' : `as of ${clock(at)}, ${ago(now - at)}`);
  }
}
