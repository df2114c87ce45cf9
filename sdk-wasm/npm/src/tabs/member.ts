import type { Group, GroupNeeds, Role } from '../group.ts';
import { IN_MEMORY, type Storage } from '../keeping.ts';
import type { ConnectionState, Effect, TokenReason } from '../shell/core.ts';
import type { Brain, Local } from '../shell/local.ts';
import { Hub } from './hub.ts';
import { Remote } from './remote.ts';
import { VERSION, type Say, type Words } from './words.ts';

/** How often a follower looks whether it has heard of the leader, in milliseconds. */
const BEAT_MS = 400;
/**
 * So many beats in a row without a word, though asked at each: the leader is frozen or hangs, and the lock is taken from it. That is 1.2 to 1.6 s after its
 * last word. A page that parses or paints something large is seldom busy for a second at a time, and a leader that is robbed wrongly loses nothing but its
 * connection; the rest of three seconds is for opening the store and connecting, on a slow machine. It is asked by messages, which browsers do not hold
 * back from hidden pages as they do timers.
 */
const MISSED = 3;
/** A leader that has done nothing for so long, in milliseconds, may have been robbed meanwhile. Less than it takes to be. */
const SURE_MS = 1_000;
/** The same for a tab that was never answered: a leader may be opening its store. */
const UNANSWERED = 12;
/** How long other tabs may take to find a token, all together, in milliseconds. With the ten seconds of the leader's own app it is less than the core waits. */
const TOKEN_MS = 15_000;
/** How long a logout waits for the leader to wipe the store. */
const WIPE_MS = 3_000;

/**
 * A tab among those that share a connection. Whoever holds the lock leads; a tab that ends, however, gives it back, and the next one waits for it
 * already. Each tab holds a lock of its own too, by which the leader learns of its end.
 */
export class Member implements Group {
  readonly exclusive = true;
  role: Role = 'waiting';
  private readonly tab = crypto.getRandomValues(new Uint32Array(2)).join('-');
  private readonly channel: BroadcastChannel;
  private readonly name: string;
  private hub: Hub | undefined;
  private remote: Remote | undefined;
  private cores = 0;
  private state: ConnectionState | null = null;
  private storage: Storage = IN_MEMORY;
  /** Lets go of the lock, and of the wait for it; one for each time that this tab has joined. */
  private membership: AbortController | undefined;
  private letGo: (() => void) | undefined;
  private heard = false;
  private missed = 0;
  private beatAt = 0;
  private stopBeat: (() => void) | undefined;
  private wiped: (() => void) | undefined;
  /** What the tab that is asked for a token says; nothing if it has none, or has ended. */
  private answered: ((tab: string, token?: string | null) => void) | undefined;
  /** When this tab last did something as a leader, and what waits until it is sure that it is one. */
  private sureAt = 0;
  private unsure: (() => void)[] = [];

  constructor(
    private readonly needs: GroupNeeds,
    private readonly locks: LockManager,
  ) {
    this.name = `anabranch ${VERSION} ${needs.owner}`;
    this.channel = new BroadcastChannel(this.name);
    this.channel.onmessage = ({ data }) => this.sure(() => this.hear(data as Words));
  }

  join(): void {
    if (this.membership) return;
    const membership = (this.membership = new AbortController());
    const { signal } = membership;
    // The others may speak to this tab, and watch for its end, from the moment that it has a lock of its own.
    const living = (): Promise<void> => {
      if (!signal.aborted) {
        this.say('who', this.tab);
        this.queue(membership, {});
        this.beat();
      }
      return new Promise((resolve) => signal.addEventListener('abort', () => resolve()));
    };
    this.locks.request(this.lockOf(this.tab), { signal }, living).catch(() => {});
  }

  leave(): void {
    if (!this.membership) return;
    this.say('bye', this.tab);
    this.membership.abort();
    this.membership = undefined;
    this.stopBeat?.();
    this.resign();
    this.remote = undefined;
    this.role = 'waiting';
  }

  serve(local: Local): Brain {
    const leader = `${this.tab} ${(this.cores += 1)}`;
    this.state = null;
    const watch = (tab: string): void => {
      const over = (): void => {
        if (this.hub === hub) this.gone(tab);
      };
      void this.locks.request(this.lockOf(tab), over).catch(() => {});
    };
    const hub = new Hub(leader, local, this.say, watch);
    this.hub = hub;
    this.say('lead', leader, this.state, this.storage, null);
    return hub;
  }

  route(effect: Effect, bytes: number): Effect | undefined {
    if (this.unsure.length === 0 && this.lively()) return this.pass(effect, bytes);
    this.sure(() => {
      const own = this.pass(effect, bytes);
      if (own) this.needs.effect(own, bytes);
    });
    return undefined;
  }

  private pass(effect: Effect, bytes: number): Effect | undefined {
    if (effect[0] === 'state') this.state = effect[1];
    return this.hub ? this.hub.route(effect, bytes) : effect;
  }

  /**
   * Does something, and if this tab leads, as the leader. One that has hung, or was frozen, does not know yet that another may lead by now: what its core has
   * still in hand, it must neither send nor keep nor tell. So it looks first whether the lock is still its own; if it is not, all of that is dropped.
   */
  private sure(act: () => void): void {
    if (this.unsure.length === 0 && this.lively()) return act();
    const { unsure } = this;
    if (unsure.push(act) > 1) return;
    void this.locks.query().then(({ held = [] }) => {
      if (unsure !== this.unsure) return;
      const holder = (name: string): string | undefined => held.find((lock) => lock.name === name)?.clientId;
      if (holder(this.name) !== holder(this.lockOf(this.tab))) return this.robbed();
      this.sureAt = this.needs.now();
      for (const act of unsure.splice(0)) if (unsure === this.unsure) act();
    });
  }

  private lively(): boolean {
    if (this.role !== 'leader') return true;
    const now = this.needs.now();
    const lively = now - this.sureAt < SURE_MS;
    if (lively) this.sureAt = now;
    return lively;
  }

  stored(storage: Storage): void {
    this.storage = storage;
    if (this.hub) this.say('storage', this.hub.leader, storage);
  }

  async token(why: TokenReason, cancel: AbortSignal): Promise<string | undefined> {
    const { hub } = this;
    const until = this.needs.now() + TOKEN_MS;
    for (const tab of hub?.tabs ?? []) {
      const left = until - this.needs.now();
      if (!hub || this.hub !== hub || cancel.aborted || left <= 0) return undefined;
      if (!hub.has(tab)) continue;
      const token = await new Promise<string | null | undefined>((resolve) => {
        const late = this.needs.setTimer(() => resolve(null), left);
        this.answered = (from, token) => {
          if (from !== tab) return;
          late();
          resolve(token);
        };
        this.say('token', hub.leader, tab, why);
      });
      if (typeof token === 'string') return token;
    }
    return undefined;
  }

  logout(): Promise<boolean> {
    this.say('logout');
    if (this.role === 'leader') return Promise.resolve(false);
    return new Promise((resolve) => {
      const late = this.needs.setTimer(() => resolve(false), WIPE_MS);
      this.wiped = () => {
        late();
        resolve(true);
      };
    });
  }

  private readonly say: Say = (...words) => this.channel.postMessage(words);

  private lockOf(tab: string): string {
    return `anabranch tab ${tab}`;
  }

  /** Waits for the leader's lock, or takes it. */
  private queue(membership: AbortController, options: LockOptions): void {
    const wait = new AbortController();
    const stop = (): void => wait.abort();
    membership.signal.addEventListener('abort', stop);
    const lead = (): Promise<void> => {
      if (membership.signal.aborted) return Promise.resolve();
      const held = new Promise<void>((resolve) => (this.letGo = resolve));
      this.remote?.stop();
      this.remote = undefined;
      this.role = 'leader';
      // It may have hung when it was given the lock, too.
      this.sureAt = Number.NEGATIVE_INFINITY;
      this.sure(() => this.needs.lead());
      return held;
    };
    this.stopWaiting?.();
    this.stopWaiting = stop;
    const request = options.steal ? this.locks.request(this.name, { steal: true }, lead) : this.locks.request(this.name, { signal: wait.signal }, lead);
    request.catch(() => {
      // Given up by ourselves; or somebody took it from us.
      if (this.role === 'leader' && membership === this.membership) this.robbed();
    });
  }

  private stopWaiting: (() => void) | undefined;

  private robbed(): void {
    const { membership } = this;
    if (!membership || this.role !== 'leader') return;
    this.needs.stepDown();
    this.resign();
    this.role = 'waiting';
    this.queue(membership, {});
    this.say('who', this.tab);
  }

  private gone(tab: string): void {
    this.hub?.gone(tab);
    this.answered?.(tab);
  }

  private resign(): void {
    this.unsure = [];
    this.hub = undefined;
    this.letGo?.();
    this.letGo = undefined;
  }

  /** Looks whether the leader lives. Whatever it says to anybody is a sign of it. */
  private beat(): void {
    this.stopBeat?.();
    const late = this.needs.now() - this.beatAt > 3 * BEAT_MS;
    this.beatAt = this.needs.now();
    this.stopBeat = this.needs.setTimer(() => this.beat(), BEAT_MS);
    if (this.role === 'leader') return void this.lively();
    if (!this.membership) return;
    // A tab that was frozen itself has heard nothing, and knows nothing.
    if (this.heard || late) {
      this.heard = false;
      this.missed = 0;
      return;
    }
    this.missed += 1;
    if (this.missed < (this.remote ? MISSED : UNANSWERED)) return this.say('who', this.tab);
    this.missed = 0;
    this.queue(this.membership, { steal: true });
  }

  private hear(words: Words): void {
    if (!this.membership) return;
    switch (words[0]) {
      case 'who':
        if (this.hub) this.say('lead', this.hub.leader, this.state, this.storage, words[1]);
        return;
      case 'lead': {
        const [, leader, state, storage, tab] = words;
        this.heard ||= this.remote?.leader === leader;
        if (tab !== null && tab !== this.tab) return;
        // Somebody has taken the lock while this tab was frozen.
        if (this.role === 'leader') this.robbed();
        return this.follow(leader, state, storage);
      }
      case 'bye':
        return this.gone(words[1]);
      case 'logout':
        return void this.loggedOut();
      case 'wiped':
        return this.wiped?.();
      case 'call':
        if (this.hub?.leader === words[1]) this.hub.called(words[2], words[3], words[4]);
        return;
      case 'ask':
        if (this.hub?.leader === words[1]) this.hub.asked(words[2], words[3], words[4]);
        return;
      case 'want':
        if (this.hub?.leader === words[1]) this.hub.wants(words[2], words[3]);
        return;
      case 'hide':
        if (this.hub?.leader === words[1]) this.hub.hides(words[2], words[3]);
        return;
      case 'token of':
        if (this.hub?.leader === words[1]) this.answered?.(words[2], words[3]);
        return;
      case 'place':
        if (this.hub?.leader === words[1]) this.hub.place(words[3], words[4], words[5]);
        return;
    }
    if (!this.remote || words[1] !== this.remote.leader) return;
    this.heard = true;
    if (words[0] === 'answer' && words[2] === this.tab) this.remote.answered(words[3], words[4]);
    else if (words[0] === 'storage') this.needs.storage(words[2]);
    else if (words[0] === 'token' && words[2] === this.tab) void this.ask(words[1], words[3]);
    else if (words[0] === 'effect') this.take(words[2], words[3], words[4]);
  }

  private follow(leader: string, state: ConnectionState | null, storage: Storage): void {
    if (this.remote?.leader === leader) return;
    this.remote?.stop();
    this.remote = new Remote(leader, this.tab, this.say);
    this.role = 'follower';
    this.heard = true;
    this.needs.storage(storage);
    if (state) this.needs.effect(['state', state], 0);
    this.needs.follow(this.remote);
  }

  private take(effect: Effect, bytes: number, to: Readonly<Record<string, number[]>> | null): void {
    if (!to) return this.needs.effect(effect, bytes);
    const ids = to[this.tab];
    if (!ids) return;
    const first = Array.isArray(effect[1]) ? ids : ids[0];
    this.needs.effect([effect[0], first, ...effect.slice(2)] as Effect, bytes);
  }

  /** The app has ten seconds, as ever. */
  private async ask(leader: string, why: TokenReason): Promise<void> {
    const token = await this.needs.token(why, new AbortController().signal).catch(() => null);
    this.say('token of', leader, this.tab, token);
  }

  private async loggedOut(): Promise<void> {
    const leads = this.role === 'leader';
    await this.needs.loggedOut();
    if (leads) this.say('wiped');
  }
}
