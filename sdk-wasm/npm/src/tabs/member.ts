import type { Group, GroupNeeds, Role } from '../group.ts';
import { IN_MEMORY, type Storage } from '../keeping.ts';
import type { ConnectionState, Effect, TokenReason } from '../shell/core.ts';
import type { Brain, Local } from '../shell/local.ts';
import { IDLE } from '../state.ts';
import { Hub } from './hub.ts';
import { Remote } from './remote.ts';
import { Valve } from './valve.ts';
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
/** The same for a tab that knows no leader yet. One that opens its store says so when it is asked, for as long as that takes; but it may be busy with what it has read. */
const UNANSWERED = 12;
/**
 * How long other tabs may take to find a token, all together, in milliseconds: with the ten seconds of the leader's own app it is less than the core waits.
 * And how long the next one is not asked yet, as this one may hang.
 */
const TOKEN_MS = 15_000;
const SHARE_MS = 4_000;
/** How long a logout waits for the leader to wipe the store. */
const WIPE_MS = 3_000;

/**
 * A tab among those that share a connection. Whoever holds the lock leads; a tab that ends, however, gives it back, and the next one waits for it
 * already. Each tab holds a lock of its own too, by which the leader learns of its end.
 */
export class Member implements Group {
  readonly exclusive = true;
  role: Role = 'waiting';
  private readonly _tab = crypto.getRandomValues(new Uint32Array(2)).join('-');
  /** Open while this tab is one of the group: whoever listens is kept in memory. */
  private _channel: BroadcastChannel | undefined;
  private readonly _name: string;
  private _hub: Hub | undefined;
  private _remote: Remote | undefined;
  /** The way to either. */
  private _valve: Valve | undefined;
  private readonly _pauses = new Set<string>();
  /** What the core has said of the connection, which the app is not told while it pauses. */
  private _own: ConnectionState | undefined;
  private _cores = 0;
  private _state: ConnectionState | null = null;
  private _storage: Storage = IN_MEMORY;
  /** Lets go of the lock, and of the wait for it; one for each time that this tab has joined. */
  private _membership: AbortController | undefined;
  private _letGo: (() => void) | undefined;
  private _heard = false;
  private _missed = 0;
  private _beatAt = 0;
  private _stopBeat: (() => void) | undefined;
  private _wiped: (() => void) | undefined;
  /** What a tab that was asked for a token says; nothing if it has none, or has ended. */
  private _answered: ((tab: string, token?: string | null) => void) | undefined;
  /** Those that did not answer in time when they were asked last. */
  private readonly _silent = new Set<string>();
  /** When this tab last did something as a leader, and what waits until it is sure that it is one. */
  private _sureAt = 0;
  private _unsure: (() => void)[] = [];

  constructor(
    private readonly _needs: GroupNeeds,
    private readonly _locks: LockManager,
  ) {
    this._name = `anabranch ${VERSION} ${_needs.owner}`;
  }

  join(): void {
    if (this._membership) return;
    const membership = (this._membership = new AbortController());
    const { signal } = membership;
    this._channel = new BroadcastChannel(this._name);
    this._channel.onmessage = ({ data }) => this._sure(() => this._hear(data as Words));
    // The others may speak to this tab, and watch for its end, from the moment that it has a lock of its own.
    const living = (): Promise<void> => {
      if (!signal.aborted) {
        this._say('who', this._tab);
        this._queue(membership, {});
        this._beat();
      }
      return new Promise((resolve) => signal.addEventListener('abort', () => resolve()));
    };
    this._locks.request(this._lockOf(this._tab), { signal }, living).catch(() => {});
  }

  leave(): void {
    if (!this._membership) return;
    this._say('bye', this._tab);
    if (this._channel) this._channel.onmessage = null;
    this._channel?.close();
    this._channel = undefined;
    this._membership.abort();
    this._membership = undefined;
    this._stopBeat?.();
    this._resign();
    this._forget();
    this.role = 'waiting';
  }

  serve(local: Local): Brain {
    const leader = `${this._tab} ${(this._cores += 1)}`;
    this._state = null;
    const watch = (tab: string): void => {
      const over = (): void => {
        if (this._hub === hub) this._gone(tab);
      };
      const { signal } = this._membership ?? {};
      void this._locks.request(this._lockOf(tab), signal ? { signal } : {}, over).catch(() => {});
    };
    const hub = new Hub(leader, local, this._say, watch);
    this._hub = hub;
    this._sure(() => {
      if (this._hub === hub) this._say('lead', leader, this._state, this._storage, null);
    });
    return this._through(hub);
  }

  pause(reason: string, paused: boolean): void {
    const before = this._pauses.size > 0;
    if (paused) this._pauses.add(reason);
    else this._pauses.delete(reason);
    const now = this._pauses.size > 0;
    if (now === before) return;
    this._valve?.shut(now);
    const since = this._needs.wall();
    const goesOn = this._own ?? { ...IDLE, phase: this._valve?.wanted ? 'connecting' : 'idle', since };
    this._needs.effect(['state', now ? { ...IDLE, phase: 'paused', since } : goesOn], 0);
  }

  private _through(brain: Brain): Brain {
    return (this._valve = new Valve(brain, this._pauses.size > 0));
  }

  /** What of this the app is told. */
  private _told(effect: Effect): Effect | undefined {
    if (effect[0] !== 'state') return effect;
    this._own = effect[1];
    return this._pauses.size > 0 ? undefined : effect;
  }

  route(effect: Effect, bytes: number): Effect | undefined {
    if (this._unsure.length === 0 && this._lively()) return this._pass(effect, bytes);
    this._sure(() => {
      const own = this._pass(effect, bytes);
      if (own) this._needs.effect(own, bytes);
    });
    return undefined;
  }

  private _pass(effect: Effect, bytes: number): Effect | undefined {
    if (effect[0] === 'state') this._state = effect[1];
    const own = this._hub ? this._hub.route(effect, bytes) : effect;
    return own && this._told(own);
  }

  /**
   * Does something, and if this tab leads, as the leader. One that has hung, or was frozen, does not know yet that another may lead by now: what its core has
   * still in hand, it must neither send nor keep nor tell. So it looks first whether the lock is still its own; if it is not, all of that is dropped.
   */
  private _sure(act: () => void): void {
    if (this._unsure.length === 0 && this._lively()) return act();
    const { _unsure: unsure } = this;
    if (unsure.push(act) > 1) return;
    void this._locks.query().then(({ held = [] }) => {
      if (unsure !== this._unsure) return;
      const holder = (name: string): string | undefined => held.find((lock) => lock.name === name)?.clientId;
      if (holder(this._name) !== holder(this._lockOf(this._tab))) return this._robbed();
      this._sureAt = this._needs.now();
      for (const act of unsure.splice(0)) if (unsure === this._unsure) act();
    });
  }

  /** The same, but looks at the lock whatever this tab has done lately. */
  private _doubt(act: () => void): void {
    this._sureAt = Number.NEGATIVE_INFINITY;
    this._sure(act);
  }

  private _lively(): boolean {
    if (this.role !== 'leader') return true;
    const now = this._needs.now();
    const lively = now - this._sureAt < SURE_MS;
    if (lively) this._sureAt = now;
    return lively;
  }

  stored(storage: Storage): void {
    this._storage = storage;
    if (this._hub) this._say('storage', this._hub.leader, storage);
  }

  async token(why: TokenReason, cancel: AbortSignal): Promise<string | undefined> {
    const { _hub: hub } = this;
    const until = this._needs.now() + TOKEN_MS;
    const silent = (tab: string): number => Number(this._silent.has(tab));
    const tabs = (hub?.tabs ?? []).sort((a, b) => silent(a) - silent(b));
    for (const tab of tabs) {
      const left = until - this._needs.now();
      if (!hub || this._hub !== hub || cancel.aborted || left <= 0) return undefined;
      if (!hub.has(tab)) continue;
      const token = await new Promise<string | null | undefined>((resolve) => {
        const giveUp = (): void => {
          this._silent.add(tab);
          resolve(null);
        };
        const late = this._needs.setTimer(giveUp, tab === tabs.at(-1) ? left : Math.min(left, SHARE_MS));
        this._answered = (from, token) => {
          this._silent.delete(from);
          // One that was asked before may have found one after all.
          if (from !== tab && typeof token !== 'string') return;
          late();
          resolve(token);
        };
        this._say('token', hub.leader, tab, why);
      });
      if (typeof token === 'string') return token;
    }
    return undefined;
  }

  logout(): Promise<boolean> {
    this._say('logout');
    if (this.role === 'leader') return Promise.resolve(false);
    return new Promise((resolve) => {
      const late = this._needs.setTimer(() => resolve(false), WIPE_MS);
      this._wiped = () => {
        late();
        resolve(true);
      };
    });
  }

  /** Also when it is not one of them any more, or not now: of a logout the others hear. */
  private readonly _say: Say = (...words) => {
    const channel = this._channel ?? new BroadcastChannel(this._name);
    channel.postMessage(words);
    if (channel !== this._channel) channel.close();
  };

  private _lockOf(tab: string): string {
    return `anabranch tab ${tab}`;
  }

  /** Waits for the leader's lock, or takes it. */
  private _queue(membership: AbortController, options: LockOptions): void {
    const wait = new AbortController();
    const stop = (): void => wait.abort();
    membership.signal.addEventListener('abort', stop);
    const lead = (): Promise<void> => {
      if (membership.signal.aborted) return Promise.resolve();
      const held = new Promise<void>((resolve) => (this._letGo = resolve));
      this._forget();
      this.role = 'leader';
      // It may have hung when it was given the lock, too.
      this._doubt(() => {
        this._say('opening');
        this._needs.lead();
      });
      return held;
    };
    this._stopWaiting?.();
    this._stopWaiting = stop;
    const request = options.steal ? this._locks.request(this._name, { steal: true }, lead) : this._locks.request(this._name, { signal: wait.signal }, lead);
    request.catch(() => {
      // Given up by ourselves; or somebody took it from us.
      if (this.role === 'leader' && membership === this._membership) this._robbed();
    });
  }

  private _stopWaiting: (() => void) | undefined;

  private _robbed(): void {
    const { _membership: membership } = this;
    if (!membership || this.role !== 'leader') return;
    this._needs.stepDown();
    this._resign();
    this.role = 'waiting';
    this._queue(membership, {});
    this._say('who', this._tab);
  }

  private _gone(tab: string): void {
    this._hub?.gone(tab);
    this._answered?.(tab);
  }

  private _resign(): void {
    this._unsure = [];
    this._hub = this._valve = this._own = undefined;
    this._letGo?.();
    this._letGo = undefined;
  }

  /** Looks whether the leader lives. Whatever it says to anybody is a sign of it. */
  private _beat(): void {
    this._stopBeat?.();
    const late = this._needs.now() - this._beatAt > 3 * BEAT_MS;
    this._beatAt = this._needs.now();
    this._stopBeat = this._needs.setTimer(() => this._beat(), BEAT_MS);
    if (this.role === 'leader') return void this._lively();
    if (!this._membership) return;
    // A tab that was frozen itself has heard nothing, and knows nothing.
    if (this._heard || late) {
      this._heard = false;
      this._missed = 0;
      return;
    }
    this._missed += 1;
    if (this._missed < (this._remote ? MISSED : UNANSWERED)) return this._say('who', this._tab);
    this._missed = 0;
    this._queue(this._membership, { steal: true });
  }

  private _hear(words: Words): void {
    if (!this._membership) return;
    switch (words[0]) {
      case 'who':
        if (this._hub) this._say('lead', this._hub.leader, this._state, this._storage, words[1]);
        else if (this.role === 'leader') this._say('opening');
        return;
      case 'opening':
        return this._opens();
      case 'lead': {
        const [, leader, state, storage, tab] = words;
        this._heard ||= this._remote?.leader === leader;
        if (tab !== null && tab !== this._tab) return;
        // Somebody has taken the lock while this tab was frozen; or that was said before this tab took it.
        if (this.role === 'leader') return this._doubt(() => {});
        return this._follow(leader, state, storage);
      }
      case 'bye':
        return this._gone(words[1]);
      case 'logout':
        return void this._loggedOut();
      case 'wiped':
        return this._wiped?.();
      case 'call':
        if (this._hub?.leader === words[1]) this._hub.called(words[2], words[3], words[4]);
        return;
      case 'ask':
        if (this._hub?.leader === words[1]) this._hub.asked(words[2], words[3], words[4]);
        return;
      case 'want':
        if (this._hub?.leader === words[1]) this._hub.wants(words[2], words[3]);
        return;
      case 'hide':
        if (this._hub?.leader === words[1]) this._hub.hides(words[2], words[3]);
        return;
      case 'token of':
        if (this._hub?.leader === words[1]) this._answered?.(words[2], words[3]);
        return;
      case 'place':
        if (this._hub?.leader === words[1]) this._hub.place(words[3], words[4], words[5]);
        return;
    }
    if (!this._remote || words[1] !== this._remote.leader) return;
    this._heard = true;
    if (words[0] === 'answer' && words[2] === this._tab) this._remote.answered(words[3], words[4]);
    else if (words[0] === 'storage') this._needs.storage(words[2]);
    else if (words[0] === 'token' && words[2] === this._tab) void this._ask(words[1], words[3]);
    else if (words[0] === 'effect') this._take(words[2], words[3], words[4]);
  }

  private _follow(leader: string, state: ConnectionState | null, storage: Storage): void {
    if (this._remote?.leader === leader) return;
    this._remote?.stop();
    this._remote = new Remote(leader, this._tab, this._say);
    this.role = 'follower';
    this._heard = true;
    this._needs.storage(storage);
    this._own = undefined;
    this._needs.follow(this._through(this._remote));
    if (state) this._take(['state', state], 0, null);
  }

  /** Another tab has the lock and opens the store. Whom this one follows leads no more. */
  private _opens(): void {
    if (this.role === 'leader') return;
    this._heard = true;
    if (!this._remote) return;
    // Whoever was robbed in the middle of it may say so late. Then the leader lives, and answers; it is told everything anew.
    this._say('bye', this._tab);
    this._forget();
    this.role = 'waiting';
    this._needs.stepDown();
    this._say('who', this._tab);
  }

  /** Uses the leader that it knows no longer. */
  private _forget(): void {
    this._remote?.stop();
    this._remote = this._valve = this._own = undefined;
  }

  private _take(effect: Effect, bytes: number, to: Readonly<Record<string, number[]>> | null): void {
    const own = this._told(effect);
    if (!own) return;
    if (!to) return this._needs.effect(own, bytes);
    const ids = to[this._tab];
    if (!ids) return;
    const first = Array.isArray(effect[1]) ? ids : ids[0];
    this._needs.effect([effect[0], first, ...effect.slice(2)] as Effect, bytes);
  }

  /** The app has ten seconds, as ever. */
  private async _ask(leader: string, why: TokenReason): Promise<void> {
    const token = await this._needs.token(why, new AbortController().signal).catch(() => null);
    this._say('token of', leader, this._tab, token);
  }

  private async _loggedOut(): Promise<void> {
    const leads = this.role === 'leader';
    await this._needs.loggedOut();
    if (leads) this._say('wiped');
  }
}
