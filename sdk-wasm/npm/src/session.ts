import { AnabranchError } from './errors.ts';
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
import { IDLE, Observed } from './state.ts';
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
  private readonly body: Body;
  readonly streams: Streams;
  private readonly users = new Set<object>();
  private readonly pauses = new Set<string>();
  private brain: Brain | undefined;
  /** The core in this page, if it has one. */
  private engine: Engine | undefined;
  private local: Local | undefined;
  private create: CoreClassFactory | undefined;
  private readonly group: Group | undefined;
  private readonly keeper: Keeper | undefined;
  /** Kept publishes that may be sent: they need the connection. */
  private readonly waiting = new Set<string>();
  /** Where the app has come to while there was no core to tell. */
  private readonly untold = new Map<string, readonly [filter?: string, cursor?: string]>();
  /** What was asked and is not answered: the next core is asked again. */
  private readonly questions = new Set<Asked>();
  /** Counts the beginnings, so that one that was overtaken ends. */
  private beginnings = 0;
  private readonly loader: Loader;
  private connected = false;
  private hidden = false;
  private over = false;
  private stopLinger: (() => void) | undefined;
  private readonly stopListening: () => void;

  constructor(
    private readonly options: ClientOptions,
    private readonly environment: Environment,
    private readonly report: (error: AnabranchError) => void,
  ) {
    this.state = new Observed(IDLE, (error) => this.threw(error, 'a state watcher'));
    this.streams = new Streams(() => this.brain, this.call);
    const url = absolute(options.url);
    this.storage = new Observed(IN_MEMORY, (error) => this.threw(error, 'a storage watcher'));
    const cursors = options.store || options.resume === 'off' ? undefined : (options.cursors ?? environment.cursors);
    this.resume = new Resume(cursors, `anabranch ${url} ${options.clientId ?? ''}`, environment, (cause) =>
      this.tell('storage', 'The cursors could not be kept; a reload starts from now.', cause),
    );
    const owner = `${url} ${options.user ?? ''}`;
    this.group = environment.socket && options.tabs?.({
      owner,
      now: () => environment.now(),
      setTimer: (run, ms) => environment.setTimer(run, ms),
      lead: () => this.lead(),
      follow: (brain) => this.follow(brain),
      stepDown: () => this.letGo(),
      effect: (effect, bytes) => {
        this.body.hear();
        this.carryOut(effect, bytes);
      },
      storage: (storage) => this.storage.set(Object.freeze(storage)),
      token: (why, cancel) => this.body.askApp(why, cancel),
      loggedOut: () => this.end(),
    });
    this.keeper = environment.socket && options.store?.({
      owner,
      alone: this.group?.exclusive ?? false,
      wall: () => environment.wall(),
      setTimer: (run, ms) => environment.setTimer(run, ms),
      changed: (storage) => this.stored(storage),
    });
    this.body = new Body({ ...options, url }, environment, this.call, report, (why, cancel) => this.group?.token(why, cancel));
    this.loader = new Loader(environment, options.wasm, {
      loaded: (create) => this.loaded(create),
      later: (cause, attempt, retryInMs) => this.loadsLater(cause, attempt, retryInMs),
      failed: (cause) => this.failed(cause),
    });
    this.stopListening = environment.socket
      ? environment.listen({
          wake: () => this.woken(),
          hide: (hidden) => this.hide(hidden),
          flush: () => this.flush(),
          pause: (reason) => this.pause(reason),
          resume: (reason) => this.unpause(reason),
        })
      : () => {};
  }

  get closed(): boolean {
    return this.over;
  }

  // What the app wants.

  /** Somebody needs the connection until `release`. */
  use(user: object): void {
    if (this.over) return;
    this.users.add(user);
    this.stopLinger?.();
    this.stopLinger = undefined;
    if (!this.brain) return this.load();
    if (this.connected) return;
    this.connected = true;
    this.brain.want(true);
  }

  unuse(user: object): void {
    if (!this.users.delete(user) || this.users.size > 0 || this.over) return;
    this.stopLinger = this.environment.setTimer(() => {
      this.stopLinger = undefined;
      this.connected = false;
      this.brain?.want(false);
    }, LINGER_MS);
  }

  /** Tries now: also where the core waits for the app (no acceptable token, or told to stop), or for its next attempt. */
  reconnect(): void {
    this.call('connect');
    this.woken();
  }

  /** `resumes`: the next load of the page goes on where this one ends. */
  subscribe(subscription: Delivery, resumes: boolean): void {
    this.streams.all.add(subscription);
    if (resumes && subscription.name === undefined) this.resume.add(subscription);
    this.use(subscription);
    // One made and closed in the same turn, as React's StrictMode does, never reaches the wire.
    queueMicrotask(() => {
      const wanted = this.brain && this.streams.all.has(subscription) && this.streams.ids(subscription).length === 0;
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
    this.send(pending);
    return pending;
  }

  private send(pending: Pending): void {
    const { messageId, envelope, terms } = pending;
    const ttl = terms.expires === undefined ? -1 : Math.max(0, terms.expires - this.environment.wall());
    // Nothing becomes part of what was told before. Nor of what the store of other tabs keeps: should the leader end before it says what it has stored,
    // the next one could not know that this is in it, and would put an old change behind newer ones.
    const author = pending.told || (terms.kept && this.group) ? 0 : (terms.patch?.author ?? 0);
    if (pending.told) this.brain?.ask(['told', messageId], () => {});
    pending.told ||= this.brain !== undefined;
    this.call('publish', messageId, envelope, terms.kept, ttl, author);
    if (terms.kept) this.brain?.ask(['flush'], (reason) => pending.store(reason));
  }

  /** Answers from memory and store, when both are there; loads them, and connects nothing. */
  ask(question: Question): Promise<string> {
    return new Promise((answer) => {
      const asked = { question, answer };
      this.questions.add(asked);
      if (this.brain) this.put(asked);
      else this.load();
    });
  }

  private put(asked: Asked): void {
    this.brain?.ask(asked.question, (text) => this.answer(asked, text));
  }

  private answer(asked: Asked, text: string): void {
    if (this.questions.delete(asked)) asked.answer(text);
  }

  /** The app stands there with what it keeps under this name; without a cursor, forgets that. */
  place(name: string, ...at: readonly [filter?: string, cursor?: string]): void {
    if (this.brain) this.brain.place(name, ...at);
    else this.untold.set(name, at);
  }

  get keeps(): boolean {
    return this.keeper !== undefined;
  }

  pause(reason: string): void {
    this.pauses.add(reason);
    if (!this.group) return this.call('pause', reason);
    // Another tab may go on.
    this.letGo();
    this.group.leave();
    if (!this.over && this.state.get().phase !== 'paused') {
      this.changed({ ...IDLE, phase: 'paused', since: this.environment.wall() });
    }
  }

  unpause(reason: string): void {
    if (!this.pauses.delete(reason)) return;
    if (!this.group) this.call('resume', reason);
    else if (this.pauses.size === 0 && this.create && !this.over) this.group.join();
  }

  private hide(hidden: boolean): void {
    this.hidden = hidden && this.options.whenHidden !== 'same';
    this.brain?.hide(this.hidden);
  }

  /** What this tab is among those of its user. */
  get role(): Role {
    return this.group?.role ?? 'alone';
  }

  /** Ends everything in every tab, and forgets all that was kept of this user. */
  async logout(): Promise<void> {
    const wiped = this.group?.logout() ?? Promise.resolve(false);
    const leads = this.role !== 'follower';
    if (leads) return this.end();
    this.resume.clear();
    // The leader wipes. Where none answers, this tab does.
    const done = await wiped;
    this.close(loggedOut());
    if (!done) await this.keeper?.wipe();
  }

  private async end(): Promise<void> {
    const { role } = this;
    this.resume.clear();
    this.close(loggedOut());
    if (role !== 'follower') await this.keeper?.wipe();
  }

  close(error: AnabranchError): void {
    if (this.over) return;
    this.over = true;
    // Of another tab's core this tab only takes what is its own.
    if (this.engine) this.brain?.call('close');
    this.finish(error);
  }

  // What subscriptions need of it.

  taken(subscription: Delivery): void {
    const { name, filter, cursor } = subscription;
    if (name === undefined) this.resume.changed(subscription);
    else if (cursor !== undefined) this.place(name, filter, cursor);
  }

  hold(subscription: Delivery): void {
    for (const id of this.streams.ids(subscription)) this.call('park', id);
  }

  release(subscription: Delivery): void {
    for (const id of this.streams.ids(subscription)) this.call('unpark', id);
  }

  paced(subscription: Delivery): void {
    for (const id of this.streams.ids(subscription)) this.call('conflate', id, subscription.conflateMs);
  }

  ended(subscription: Delivery): void {
    this.streams.shut(subscription);
    this.forget(subscription);
  }

  heardAt(): number | null {
    return this.body.heardAt;
  }

  threw(error: unknown, what: string): void {
    this.tell('handler_threw', `${what} threw: ${String(error)}`, error);
  }

  // How it is done.

  private readonly call: Call = (...said) => this.brain?.call(...said);

  /** Where pages are only rendered there is nothing to load for. */
  private load(): void {
    if (this.environment.socket) void this.loader.load();
  }

  private woken(): void {
    if (this.users.size > 0) this.load();
    this.call('wake');
  }

  private loaded(create: CoreClassFactory): void {
    this.create = create;
    if (!this.group) this.lead();
    else if (this.pauses.size === 0) this.group.join();
  }

  /** Starts a core in this page. */
  private lead(): void {
    const { create } = this;
    if (!create || this.over) return;
    this.letGo();
    const engine = new Engine(create, this.options.clientId ?? '', SDK, this.environment, {
      effect: (effect, bytes) => this.tellTabs(effect, bytes),
      restarted: (cause) => this.restarted(engine, cause),
      failed: (cause) => this.failed(cause),
    });
    const { cacheBytes } = this.options;
    if (cacheBytes !== undefined) engine.read((core) => core.limit_cache(cacheBytes));
    this.engine = engine;
    void this.begin(engine);
  }

  /** Goes on with the core of another tab. */
  private follow(brain: Brain): void {
    if (this.over) return;
    this.letGo();
    this.brain = brain;
    this.answerAll();
  }

  /** Lets go of the core, this page's or another's; whatever the app wants is told to the next. */
  private letGo(): void {
    this.beginnings += 1;
    this.flush();
    this.brain = this.local = undefined;
    this.waiting.clear();
    this.users.delete(this.waiting);
    if (!this.engine) return;
    this.body.letGo();
    this.engine.stop();
    this.engine = undefined;
    this.keeper?.close();
  }

  private answerAll(): void {
    for (const [name, at] of this.untold) this.brain?.place(name, ...at);
    this.untold.clear();
    this.tellAll();
    for (const asked of [...this.questions]) this.put(asked);
  }

  /** Gives a core that knows nothing what the store has, and then what the app wants. */
  private async begin(engine: Engine): Promise<void> {
    const number = (this.beginnings += 1);
    const kept = this.keeper && (await this.keeper.load());
    if (number !== this.beginnings) return;
    if (this.over) return engine.stop();
    this.waiting.clear();
    for (const { messageId, wedged } of kept?.publishes ?? []) if (!wedged) this.waiting.add(messageId);
    this.local = new Local(engine, this.keeper, kept, this.local);
    this.brain = this.group ? this.group.serve(this.local) : this.local;
    this.answerAll();
    this.drain();
  }

  /** What waits in the outbox needs the connection, whoever said it. */
  private drain(): void {
    if (this.waiting.size > 0) this.use(this.waiting);
    else this.unuse(this.waiting);
  }

  private keep(write: Write): void {
    this.keeper?.write(write);
    const [what, messageId] = write;
    if (what === 'enqueue' || (what === 'wedge' && write[2] === undefined)) this.waiting.add(messageId);
    else if (what === 'settle' || what === 'wedge') this.waiting.delete(messageId);
    else return;
    this.drain();
  }

  private stored(storage: Storage): void {
    if (storage.kind === 'memory') this.tell('storage', `Nothing is kept any more: ${storage.reason}`, storage.reason);
    this.storage.set(Object.freeze(storage));
    this.group?.stored(storage);
  }

  private flush(): void {
    this.resume.flush();
    this.keeper?.hurry();
  }

  private loadsLater(cause: unknown, attempt: number, retryInMs: number): void {
    this.tell('core_unavailable', `The core could not be loaded: ${String(cause)}`, cause);
    const since = attempt > 1 ? this.state.get().since : this.environment.wall();
    this.changed({ ...IDLE, phase: 'offline', attempt, retryInMs, since });
  }

  /** Tells a core that knows nothing all that the app wants. */
  private tellAll(): void {
    for (const reason of this.pauses) this.call('pause', reason);
    if (this.hidden) this.brain?.hide(true);
    this.streams.tellAll();
    for (const pending of this.publishes.waiting()) this.send(pending);
    this.connected = this.users.size > 0;
    if (this.connected) this.brain?.want(true);
  }

  /** An effect of this page's core: for this tab, and for those that share it. */
  private tellTabs(effect: Effect, bytes: number): void {
    const own = this.group ? this.group.route(effect, bytes) : effect;
    if (own) this.carryOut(own, bytes);
  }

  private carryOut(effect: Effect, bytes: number): void {
    switch (effect[0]) {
      case 'open':
      case 'send':
      case 'close':
      case 'token':
      case 'timer':
        return this.body.carryOut(effect);
      case 'refused': {
        const error = new AnabranchError(effect[2], effect[3], effect[2] < 4400);
        return effect[1] === null ? this.report(error) : this.endSubscription(effect[1], error);
      }
      case 'revoked':
        return this.endSubscription(effect[1], new AnabranchError(effect[2], 'The token no longer grants this.', false));
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
        for (const asked of this.questions) if (asked.question[0] === what && asked.question[1] === id) this.answer(asked, 'true');
        return;
      }
      case 'keep': {
        const [, ...write] = effect;
        return this.keep(write);
      }
      case 'state':
        return this.changed(effect[1]);
      default:
        return this.streams.deliver(effect, bytes);
    }
  }

  private endSubscription(id: number, error: AnabranchError): void {
    const subscription = this.streams.take(id);
    if (!subscription) return;
    subscription.end(error);
    this.forget(subscription);
  }

  private forget(subscription: Delivery): void {
    this.streams.all.delete(subscription);
    this.resume.remove(subscription);
    this.unuse(subscription);
  }

  private changed(state: ConnectionState): void {
    if (state.phase !== 'live' && state.phase !== 'syncing') {
      this.streams.lost();
    }
    this.state.set(Object.freeze(state));
  }

  private restarted(engine: Engine, cause: unknown): void {
    this.body.letGo();
    // Until the new core has what the store has, nobody may tell it anything: other tabs neither.
    this.local?.retire();
    this.brain = undefined;
    const state = this.state.get();
    if (state.phase === 'live' || state.phase === 'syncing') {
      this.tellTabs(['state', { ...state, phase: 'connecting', since: this.environment.wall() }], 0);
    }
    this.tell('core_restarted', `The core failed and was started anew: ${String(cause)}`, cause);
    void this.begin(engine);
  }

  private failed(cause: unknown): void {
    if (this.over) return;
    this.over = true;
    const error = new AnabranchError('core_failed', `The core cannot run: ${String(cause)}`, false, HINT_CORE, { cause });
    this.report(error);
    this.finish(error);
  }

  private finish(error: AnabranchError): void {
    this.stopListening();
    this.stopLinger?.();
    this.loader.stop();
    for (const subscription of this.streams.all) subscription.end(error);
    this.resume.flush();
    this.publishes.failAll(error);
    for (const { answer } of this.questions) answer('');
    this.questions.clear();
    const stop = (): void => {
      this.body.letGo();
      this.letGo();
      this.group?.leave();
      this.keeper?.close();
      this.streams.clear();
      if (this.state.get().phase !== 'closed') {
        this.changed({ ...this.state.get(), phase: 'closed', code: error.code, since: this.environment.wall() });
      }
    };
    // A handler may have called this: what the core said of its end is carried out first.
    if (this.brain) this.brain.whenIdle(stop);
    else stop();
  }

  private tell(code: string, message: string, cause: unknown): void {
    this.report(new AnabranchError(code, message, true, undefined, { cause }));
  }
}

const HINT_CORE =
  "Is core_bg.wasm served, and does the page's Content-Security-Policy allow 'wasm-unsafe-eval'? Else please report it.";

function loggedOut(): AnabranchError {
  return new AnabranchError('closed', 'The user has logged out.', false, 'Make a new client with createClient.');
}

function withdrawn(messageId: string): AnabranchError {
  return new AnabranchError('withdrawn', `${messageId} was withdrawn.`, false, 'The gateway never had it, or had refused it.');
}

/** A path becomes a url of this page's host. Where there is no page, it stays as it is: nothing connects there. */
function absolute(url: string): string {
  if (!url.startsWith('/') || typeof location === 'undefined') return url;
  return `${location.protocol === 'https:' ? 'wss:' : 'ws:'}//${location.host}${url}`;
}
