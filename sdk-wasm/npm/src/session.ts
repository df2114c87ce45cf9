import { AnabranchError, closedError } from './errors.ts';
import { IN_MEMORY, type Keeper, type Storage, type Write } from './keeping.ts';
import type { ClientOptions } from './options.ts';
import { type Pending, Publishes, type Terms } from './publishes.ts';
import { Resume } from './resume.ts';
import { Body } from './shell/body.ts';
import type { Call, ConnectionState, Effect } from './shell/core.ts';
import { Engine } from './shell/engine.ts';
import type { CoreClassFactory, Environment } from './shell/environment.ts';
import type { Group, Role } from './group.ts';
import { Loader } from './shell/loader.ts';
import { type Brain, Local, type Question } from './shell/local.ts';
import { IDLE, isUp, Observed } from './state.ts';
import { Streams } from './streams.ts';
import type { Delivery, Host } from './delivery.ts';

interface Asked {
  readonly question: Question;
  readonly answer: (text: string) => void;
}

const SDK = 'anabranch-js/0.1.0';
/** How long a connection outlives its last user, in milliseconds: a component that is mounted anew finds it open. */
const LINGER_MS = 1_000;

/**
 * What the app wants (subscriptions, publishes, pauses) and the engine that is told of it. The wish outlives the engine: it is
 * there before the wasm is, and is told again to a new core when one has trapped.
 */
export class Session implements Host {
  readonly state: Observed<ConnectionState>;
  readonly storage: Observed<Storage>;
  readonly publishes = new Publishes();
  readonly resume: Resume;
  private readonly _body: Body;
  readonly streams: Streams;
  private readonly _users = new Set<object>();
  private readonly _pauses = new Set<string>();
  private _brain: Brain | undefined;
  /** The core in this page, if it has one. */
  private _engine: Engine | undefined;
  private _local: Local | undefined;
  private _create: CoreClassFactory | undefined;
  private readonly _group: Group | undefined;
  private readonly _keeper: Keeper | undefined;
  /** Kept publishes that may be sent: they need the connection. */
  private readonly _waiting = new Set<string>();
  /** Where the app has come to while there was no core to tell. */
  private readonly _untold = new Map<string, readonly [filter?: string, cursor?: string]>();
  /** What was asked and is not answered: the next core is asked again. */
  private readonly _questions = new Set<Asked>();
  /** Counts the beginnings, so that one that was overtaken ends. */
  private _beginnings = 0;
  private readonly _loader: Loader;
  private _connected = false;
  private _hidden = false;
  private _over = false;
  private _stopLinger: (() => void) | undefined;
  private readonly _stopListening: () => void;

  constructor(
    private readonly _options: ClientOptions,
    private readonly _environment: Environment,
    private readonly _report: (error: AnabranchError) => void,
  ) {
    this.state = new Observed(IDLE, (error) => this.threw(error, 'a state watcher'));
    this.streams = new Streams(() => this._brain, this._call);
    const url = absolute(_options.url);
    this.storage = new Observed(IN_MEMORY, (error) => this.threw(error, 'a storage watcher'));
    const cursors = _options.store || _options.resume === 'off' ? undefined : (_options.cursors ?? _environment.cursors);
    this.resume = new Resume(cursors, `anabranch ${url} ${_options.clientId ?? ''}`, _environment, (cause) =>
      this._tell('storage', 'The cursors could not be kept; a reload starts from now.', cause),
    );
    const owner = `${url} ${_options.user ?? ''}`;
    const { now, wall, setTimer } = _environment;
    this._group = _environment.socket && _options.tabs?.({
      owner,
      now,
      wall,
      setTimer,
      lead: () => this._lead(),
      follow: (brain) => this._follow(brain),
      stepDown: () => this._handOver(),
      effect: (effect, bytes) => {
        if (effect[0] !== 'state') this._body.hear();
        this._carryOut(effect, bytes);
      },
      storage: (storage) => this.storage.set(Object.freeze(storage)),
      token: (why, cancel) => this._body.token(why, cancel),
      loggedOut: () => this._end(),
    });
    this._keeper = _environment.socket && _options.store?.({
      owner,
      alone: this._group?.exclusive ?? false,
      wall,
      setTimer,
      changed: (storage) => this._stored(storage),
    });
    this._body = new Body({ ..._options, url }, _environment, this._call, _report, (why, cancel) => this._group?.token(why, cancel));
    this._loader = new Loader(_environment, _options.wasm, {
      loaded: (create) => this._loaded(create),
      later: (cause, attempt, retryInMs) => this._loadsLater(cause, attempt, retryInMs),
      failed: (cause) => this._failed(cause),
    });
    this._stopListening = _environment.socket
      ? _environment.listen({
          wake: () => this._woken(),
          hide: (hidden) => this._hide(hidden),
          flush: () => this._flush(),
          pause: (reason) => this.pause(reason, true),
          resume: (reason) => this.unpause(reason, true),
        })
      : () => {};
  }

  get closed(): boolean {
    return this._over;
  }

  // What the app wants.

  /** Somebody needs the connection until `release`. */
  use(user: object): void {
    if (this._over) return;
    this._users.add(user);
    this._stopLinger?.();
    this._stopLinger = undefined;
    if (!this._brain) return this._load();
    if (this._connected) return;
    this._connected = true;
    this._brain.want(true);
  }

  unuse(user: object): void {
    if (!this._users.delete(user) || this._users.size > 0 || this._over) return;
    this._stopLinger = this._environment.setTimer(() => {
      this._stopLinger = undefined;
      this._connected = false;
      this._brain?.want(false);
    }, LINGER_MS);
  }

  /** Tries now: also where the core waits for the app (no acceptable token, or told to stop), or for its next attempt. */
  reconnect(): void {
    this._call('connect');
    this._woken();
  }

  /** `resumes`: the next load of the page goes on where this one ends. */
  subscribe(subscription: Delivery, resumes: boolean): void {
    this.streams.all.add(subscription);
    if (resumes && subscription.name === undefined) this.resume.add(subscription);
    this.use(subscription);
    // One made and closed in the same turn, as React's StrictMode does, never reaches the wire.
    queueMicrotask(() => {
      const wanted = this._brain && this.streams.all.has(subscription) && this.streams.ids(subscription).length === 0;
      if (wanted) this.streams.open(subscription, subscription.start);
    });
  }

  publish(messageId: string, envelope: string, terms: Terms): Pending {
    const earlier = this.publishes.find(messageId);
    if (earlier) return earlier;
    const pending = this.publishes.add(messageId, envelope, terms);
    this.use(pending);
    const settled = (): void => this.unuse(pending);
    pending.published.then(settled, settled);
    this._send(pending);
    return pending;
  }

  private _send(pending: Pending): void {
    const { messageId, envelope, terms } = pending;
    const ttl = terms.expires === undefined ? -1 : Math.max(0, terms.expires - this._environment.wall());
    // Nothing becomes part of what was told before. Nor of what the store of other tabs keeps: should the leader end before it says what it has stored,
    // the next one could not know that this is in it, and would put an old change behind newer ones.
    const author = pending.told || (terms.kept && this._group) ? 0 : (terms.patch?.author ?? 0);
    if (pending.told) this._brain?.ask(['told', messageId], () => {});
    pending.told ||= this._brain !== undefined;
    this._call('publish', messageId, envelope, terms.kept, ttl, author);
    if (terms.kept) this._brain?.ask(['flush'], (reason) => pending.store(reason));
  }

  /** Answers from memory and store, when both are there; loads them, and connects nothing. */
  ask(question: Question): Promise<string> {
    return new Promise((answer) => {
      const asked = { question, answer };
      this._questions.add(asked);
      if (this._brain) this._put(asked);
      else this._load();
    });
  }

  private _put(asked: Asked): void {
    this._brain?.ask(asked.question, (text) => this._answer(asked, text));
  }

  private _answer(asked: Asked, text: string): void {
    if (this._questions.delete(asked)) asked.answer(text);
  }

  /** The app stands there with what it keeps under this name; without a cursor, forgets that. */
  place(name: string, ...at: readonly [filter?: string, cursor?: string]): void {
    if (this._brain) this._brain.place(name, ...at);
    else this._untold.set(name, at);
  }

  get keeps(): boolean {
    return this._keeper !== undefined;
  }

  /** `stops`: not the app says so, but the browser, which stops the page. */
  pause(reason: string, stops = false): void {
    if (this._over) return;
    if (this._group && !stops) return this._group.pause(reason, true);
    this._pauses.add(reason);
    if (!this._group) return this._call('pause', reason);
    // Another tab may go on.
    this._letGo();
    this._group.leave();
    if (this.state.get().phase !== 'paused') this._changed({ ...IDLE, phase: 'paused', since: this._environment.wall() });
  }

  unpause(reason: string, stops = false): void {
    if (this._over) return;
    if (this._group && !stops) return this._group.pause(reason, false);
    if (!this._pauses.delete(reason)) return;
    if (!this._group) this._call('resume', reason);
    else if (this._pauses.size === 0 && this._create) this._group.join();
  }

  private _hide(hidden: boolean): void {
    this._hidden = hidden && this._options.whenHidden !== 'same';
    this._brain?.hide(this._hidden);
  }

  /** What this tab is among those of its user. */
  get role(): Role {
    return this._group?.role ?? 'alone';
  }

  /** Ends everything in every tab, and forgets all that was kept of this user. */
  async logout(): Promise<void> {
    const wiped = this._group?.logout() ?? Promise.resolve(false);
    const leads = this.role !== 'follower';
    if (leads) return this._end();
    this.resume.clear();
    // The leader wipes. Where none answers, this tab does.
    const done = await wiped;
    this.close(closedError('The user has logged out.'));
    if (!done) await this._keeper?.wipe();
  }

  private async _end(): Promise<void> {
    const { role } = this;
    this.resume.clear();
    this.close(closedError('The user has logged out.'));
    if (role !== 'follower') await this._keeper?.wipe();
  }

  close(error: AnabranchError): void {
    if (this._over) return;
    this._over = true;
    // Of another tab's core this tab only takes what is its own.
    if (this._engine) this._brain?.call('close');
    this._finish(error);
  }

  // What subscriptions need of it.

  taken(subscription: Delivery): void {
    const { name, filter, cursor } = subscription;
    if (name === undefined) this.resume.changed(subscription);
    else if (cursor !== undefined) this.place(name, filter, cursor);
  }

  hold(subscription: Delivery): void {
    for (const id of this.streams.ids(subscription)) this._call('park', id);
  }

  release(subscription: Delivery): void {
    for (const id of this.streams.ids(subscription)) this._call('unpark', id);
  }

  paced(subscription: Delivery): void {
    for (const id of this.streams.ids(subscription)) this._call('conflate', id, subscription.conflateMs);
  }

  ended(subscription: Delivery): void {
    this.streams.shut(subscription);
    this._forget(subscription);
  }

  heardAt(): number | null {
    return this._body.heardAt;
  }

  threw(error: unknown, what: string): void {
    this._tell('handler_threw', `${what} threw: ${String(error)}`, error);
  }

  // How it is done.

  private readonly _call: Call = (...said) => this._brain?.call(...said);

  /** Where pages are only rendered there is nothing to load for. */
  private _load(): void {
    if (this._environment.socket) void this._loader.load();
  }

  private _woken(): void {
    if (this._users.size > 0) this._load();
    this._call('wake');
  }

  private _loaded(create: CoreClassFactory): void {
    this._create = create;
    if (!this._group) this._lead();
    else if (this._pauses.size === 0) this._group.join();
  }

  /** Starts a core in this page. */
  private _lead(): void {
    const { _create: create } = this;
    if (!create || this._over) return;
    this._handOver();
    const engine = new Engine(create, this._options.clientId ?? '', SDK, this._environment, {
      effect: (effect, bytes) => this._tellTabs(effect, bytes),
      restarted: (cause) => this._restarted(engine, cause),
      failed: (cause) => this._failed(cause),
    });
    const { cacheBytes } = this._options;
    if (cacheBytes !== undefined) engine.read((core) => core.limit_cache(cacheBytes));
    this._engine = engine;
    void this._begin(engine);
  }

  /** Goes on with the core of another tab. */
  private _follow(brain: Brain): void {
    if (this._over) return;
    this._handOver();
    this._brain = brain;
    this._answerAll();
  }

  /** Lets go of the core, this page's or another's; whatever the app wants is told to the next. */
  private _letGo(): void {
    this._beginnings += 1;
    this._flush();
    this._brain = this._local = undefined;
    this._waiting.clear();
    this._users.delete(this._waiting);
    if (!this._engine) return;
    this._body.letGo();
    this._engine.stop();
    this._engine = undefined;
    this._keeper?.close();
  }

  /** Lets go of it while the page runs: there is no connection until the next core says that there is one. */
  private _handOver(): void {
    this._letGo();
    const state = this.state.get();
    if (isUp(state)) this._changed({ ...state, phase: this._users.size > 0 ? 'connecting' : 'idle', since: this._environment.wall() });
  }

  private _answerAll(): void {
    for (const [name, at] of this._untold) this._brain?.place(name, ...at);
    this._untold.clear();
    this._tellAll();
    for (const asked of [...this._questions]) this._put(asked);
  }

  /** Gives a core that knows nothing what the store has, and then what the app wants. */
  private async _begin(engine: Engine): Promise<void> {
    const number = (this._beginnings += 1);
    const kept = this._keeper && (await this._keeper.load());
    if (number !== this._beginnings) return;
    if (this._over) return engine.stop();
    this._waiting.clear();
    for (const { messageId, wedged } of kept?.publishes ?? []) if (!wedged) this._waiting.add(messageId);
    this._local = new Local(engine, this._keeper, kept, this._local);
    this._brain = this._group ? this._group.serve(this._local) : this._local;
    this._answerAll();
    this._drain();
  }

  /** What waits in the outbox needs the connection, whoever said it. */
  private _drain(): void {
    if (this._waiting.size > 0) this.use(this._waiting);
    else this.unuse(this._waiting);
  }

  private _keep(write: Write): void {
    this._keeper?.write(write);
    const [what, messageId] = write;
    if (what === 'enqueue' || (what === 'wedge' && write[2] === undefined)) this._waiting.add(messageId);
    else if (what === 'settle' || what === 'wedge') this._waiting.delete(messageId);
    else return;
    this._drain();
  }

  private _stored(storage: Storage): void {
    if (storage.kind === 'memory') this._tell('storage', `Nothing is kept any more: ${storage.reason}`, storage.reason);
    this.storage.set(Object.freeze(storage));
    this._group?.stored(storage);
  }

  private _flush(): void {
    this.resume.flush();
    this._keeper?.hurry();
  }

  private _loadsLater(cause: unknown, attempt: number, retryInMs: number): void {
    this._tell('core_unavailable', `The core could not be loaded: ${String(cause)}`, cause);
    const since = attempt > 1 ? this.state.get().since : this._environment.wall();
    this._changed({ ...IDLE, phase: 'offline', attempt, retryInMs, since });
  }

  /** Tells a core that knows nothing all that the app wants. */
  private _tellAll(): void {
    for (const reason of this._pauses) this._call('pause', reason);
    if (this._hidden) this._brain?.hide(true);
    this.streams.tellAll();
    for (const pending of this.publishes.waiting()) this._send(pending);
    this._connected = this._users.size > 0;
    if (this._connected) this._brain?.want(true);
  }

  /** An effect of this page's core: for this tab, and for those that share it. */
  private _tellTabs(effect: Effect, bytes: number): void {
    const own = this._group ? this._group.route(effect, bytes) : effect;
    if (own) this._carryOut(own, bytes);
  }

  private _carryOut(effect: Effect, bytes: number): void {
    switch (effect[0]) {
      case 'open':
      case 'send':
      case 'close':
      case 'token':
      case 'timer':
        return this._body.carryOut(effect);
      case 'refused': {
        const error = new AnabranchError(effect[2], effect[3], effect[2] < 4400);
        return effect[1] === null ? this._report(error) : this._endSubscription(effect[1], error);
      }
      case 'revoked':
        return this._endSubscription(effect[1], new AnabranchError(effect[2], 'The token no longer grants this.', false));
      case 'published':
        return this.publishes.published(effect[1], { position: effect[2], duplicate: effect[3] });
      case 'failed':
        return this.publishes.failed(effect[1], new AnabranchError(effect[2], effect[3], effect[4]));
      case 'wedged':
        return this.publishes.failed(effect[1], new AnabranchError(effect[2], effect[3], false));
      case 'merged':
        return this.publishes.merged(effect[1], effect[2], effect[3]);
      case 'sent':
        return this.publishes.find(effect[1])?.terms.sent?.();
      case 'did': {
        const [, what, id] = effect;
        if (what === 'withdraw') this.publishes.failed(id, withdrawn(id));
        for (const asked of this._questions) if (asked.question[0] === what && asked.question[1] === id) this._answer(asked, 'true');
        return;
      }
      case 'keep': {
        const [, ...write] = effect;
        return this._keep(write);
      }
      case 'state':
        return this._changed(effect[1]);
      default:
        return this.streams.carryOut(effect, bytes);
    }
  }

  private _endSubscription(id: number, error: AnabranchError): void {
    const subscription = this.streams.take(id);
    if (!subscription) return;
    subscription.end(error);
    this._forget(subscription);
  }

  private _forget(subscription: Delivery): void {
    this.streams.all.delete(subscription);
    this.resume.remove(subscription);
    this.unuse(subscription);
  }

  private _changed(state: ConnectionState): void {
    if (!isUp(state)) this.streams.lost();
    this.state.set(Object.freeze(state));
  }

  private _restarted(engine: Engine, cause: unknown): void {
    this._body.letGo();
    // Until the new core has what the store has, nobody may tell it anything: other tabs neither.
    this._local?.retire();
    this._brain = undefined;
    const state = this.state.get();
    if (isUp(state)) {
      this._tellTabs(['state', { ...state, phase: 'connecting', since: this._environment.wall() }], 0);
    }
    this._tell('core_restarted', `The core failed and was started anew: ${String(cause)}`, cause);
    void this._begin(engine);
  }

  private _failed(cause: unknown): void {
    if (this._over) return;
    this._over = true;
    const error = new AnabranchError('core_failed', `The core cannot run: ${String(cause)}`, false, HINT_CORE, { cause });
    this._report(error);
    this._finish(error);
  }

  private _finish(error: AnabranchError): void {
    this._stopListening();
    this._stopLinger?.();
    this._loader.stop();
    for (const subscription of this.streams.all) subscription.end(error);
    this.resume.flush();
    this.publishes.failAll(error);
    for (const { answer } of this._questions) answer('');
    this._questions.clear();
    const stop = (): void => {
      this._body.letGo();
      this._letGo();
      this._group?.leave();
      this._keeper?.close();
      this.streams.clear();
      if (this.state.get().phase !== 'closed') {
        this._changed({ ...this.state.get(), phase: 'closed', code: error.code, since: this._environment.wall() });
      }
    };
    // A handler may have called this: what the core said of its end is carried out first.
    if (this._brain) this._brain.whenIdle(stop);
    else stop();
  }

  private _tell(code: string, message: string, cause: unknown): void {
    this._report(new AnabranchError(code, message, true, undefined, { cause }));
  }
}

const HINT_CORE =
  "Is core_bg.wasm served, and does the page's Content-Security-Policy allow 'wasm-unsafe-eval'? Else please report it.";

function withdrawn(messageId: string): AnabranchError {
  return new AnabranchError('withdrawn', `${messageId} was withdrawn.`, false, 'The gateway never had it, or had refused it.');
}

/** A path becomes a url of this page's host. Where there is no page, it stays as it is: nothing connects there. */
function absolute(url: string): string {
  if (!url.startsWith('/') || typeof location === 'undefined') return url;
  return `${location.protocol === 'https:' ? 'wss:' : 'ws:'}//${location.host}${url}`;
}
