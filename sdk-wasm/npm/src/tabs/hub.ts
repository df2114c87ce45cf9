import type { Call, Effect, Step } from '../shell/core.ts';
import type { Brain, Local, Question } from '../shell/local.ts';
import type { Say } from './words.ts';

/** Subscriptions of other tabs have ids from here on in the core; this tab's own are below. */
const OTHERS = 2 ** 30;

interface Other {
  /** Its ids, and the core's for them. */
  readonly ids: Map<number, number>;
  wants: boolean;
  hidden: boolean;
}

/** What other tabs may call, and whether its first argument is a subscription. */
const CALLS: Readonly<Partial<Record<Step, boolean>>> = {
  subscribe: true,
  unsubscribe: true,
  conflate: true,
  park: true,
  unpark: true,
  keep_messages: true,
  publish: false,
  connect: false,
  wake: false,
};

/** The leader's core, for its own tab and for all others. */
export class Hub implements Brain {
  private readonly _others = new Map<string, Other>();
  private readonly _owners = new Map<number, { readonly tab: string; readonly id: number }>();
  private _next = OTHERS;
  private readonly _own = { wants: false, hidden: false };
  private _wanted = false;
  /** The publishes that wait, from when somebody asks for the first time: the outbox is not read for each. */
  private _waiting: Set<string> | undefined;

  constructor(
    readonly leader: string,
    private readonly _local: Local,
    private readonly _say: Say,
    /** Watches for the end of a tab. */
    private readonly _watch: (tab: string) => void,
  ) {}

  readonly call: Call = (...said) => {
    if (said[0] === 'publish') this._waiting?.add(said[1] as string);
    this._local.call(...said);
  };

  ask(question: Question, answer: (text: string) => void): void {
    this._local.ask(question, answer);
  }

  place(name: string, filter?: string, cursor?: string): void {
    this._local.place(name, filter, cursor);
  }

  whenIdle(run: () => void): void {
    this._local.whenIdle(run);
  }

  stop(): void {
    this._local.stop();
  }

  want(wanted: boolean): void {
    this._own.wants = wanted;
    this._weigh();
  }

  hide(hidden: boolean): void {
    this._own.hidden = hidden;
    this._weigh();
  }

  // What other tabs say.

  called(tab: string, name: string, args: readonly unknown[]): void {
    const named = CALLS[name as Step];
    const other = this._other(tab);
    if (named === undefined) return;
    let rest = args;
    if (named) {
      const id = this._idFor(tab, other, Number(args[0]), name === 'subscribe');
      if (id === undefined) return;
      rest = [id, ...args.slice(1)];
      if (name === 'unsubscribe') this._forget(other, Number(args[0]), id);
    }
    if (name === 'publish' && args[2] !== true && this._waits(String(args[0]))) return;
    (this.call as (name: string, ...args: readonly unknown[]) => void)(name, ...rest);
  }

  asked(tab: string, number: number, question: Question): void {
    this._local.ask(question, (text) => this._say('answer', this.leader, tab, number, text));
  }

  wants(tab: string, wanted: boolean): void {
    this._other(tab).wants = wanted;
    this._weigh();
  }

  hides(tab: string, hidden: boolean): void {
    this._other(tab).hidden = hidden;
    this._weigh();
  }

  /** The other tabs, those that somebody sees first. */
  get tabs(): string[] {
    const seen = (wanted: boolean): string[] => [...this._others].filter(([, { hidden }]) => hidden !== wanted).map(([tab]) => tab);
    return [...seen(true), ...seen(false)];
  }

  has(tab: string): boolean {
    return this._others.has(tab);
  }

  /** A tab has ended, or has left. */
  gone(tab: string): void {
    const other = this._others.get(tab);
    if (!other) return;
    this._others.delete(tab);
    for (const id of other.ids.values()) {
      this._owners.delete(id);
      this._local.call('unsubscribe', id);
    }
    this._weigh();
  }

  /** Passes on what others are meant by, and returns what this tab is. */
  route(effect: Effect, bytes: number): Effect | undefined {
    switch (effect[0]) {
      case 'message':
      case 'transient':
      case 'gap':
      case 'live': {
        const own = effect[1].filter((id) => id < OTHERS);
        this._tell(effect, bytes, effect[1]);
        if (own.length === 0) return undefined;
        return own.length === effect[1].length ? effect : ([effect[0], own, ...effect.slice(2)] as Effect);
      }
      case 'subscribed':
      case 'snapshot_begins':
      case 'snapshot_ends':
      case 'cursor':
      case 'revoked':
      case 'refused': {
        const [name, id] = effect;
        if (id === null) break;
        if (id < OTHERS) return effect;
        this._tell(effect, bytes, [id]);
        const owner = this._owners.get(id);
        const other = owner && this._others.get(owner.tab);
        if (other && (name === 'revoked' || name === 'refused')) this._forget(other, owner.id, id);
        return undefined;
      }
      case 'published':
      case 'failed':
      case 'merged':
        this._waiting?.delete(effect[1]);
        break;
      case 'did':
        if (effect[1] === 'withdraw') this._waiting?.delete(effect[2]);
        break;
      case 'wedged':
      case 'sent':
      case 'state':
        break;
      default:
        return effect;
    }
    if (this._others.size > 0) this._say('effect', this.leader, effect, bytes, null);
    return effect;
  }

  /** To the tabs whose subscriptions these are. */
  private _tell(effect: Effect, bytes: number, ids: readonly number[]): void {
    const to: Record<string, number[]> = {};
    for (const id of ids) {
      const owner = this._owners.get(id);
      if (owner) (to[owner.tab] ??= []).push(owner.id);
    }
    if (Object.keys(to).length > 0) this._say('effect', this.leader, effect, bytes, to);
  }

  private _other(tab: string): Other {
    let other = this._others.get(tab);
    if (!other) {
      other = { ids: new Map(), wants: false, hidden: false };
      this._others.set(tab, other);
      this._watch(tab);
    }
    return other;
  }

  private _idFor(tab: string, other: Other, id: number, fresh: boolean): number | undefined {
    if (!fresh) return other.ids.get(id);
    const own = (this._next += 1);
    other.ids.set(id, own);
    this._owners.set(own, { tab, id });
    return own;
  }

  private _forget(other: Other, id: number, own: number): void {
    other.ids.delete(id);
    this._owners.delete(own);
  }

  /** Whether a publish of this id waits already: a tab that comes back says again what it does not know to be stored. */
  private _waits(messageId: string): boolean {
    if (!this._waiting) this._local.ask(['outbox'], (text) => (this._waiting = new Set((JSON.parse(text) as [string][]).map(([id]) => id))));
    return this._waiting?.has(messageId) ?? false;
  }

  /** The connection stays while any tab wants it; it is hidden while all are. */
  private _weigh(): void {
    const all = [this._own, ...this._others.values()];
    const wanted = all.some(({ wants }) => wants);
    if (wanted !== this._wanted) {
      this._wanted = wanted;
      this._local.want(wanted);
    }
    this._local.hide(all.every(({ hidden, wants }) => hidden || !wants));
  }
}
