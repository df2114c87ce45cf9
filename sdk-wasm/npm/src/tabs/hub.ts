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
  private readonly others = new Map<string, Other>();
  private readonly owners = new Map<number, { readonly tab: string; readonly id: number }>();
  private next = OTHERS;
  private readonly own = { wants: false, hidden: false };
  private wanted = false;

  constructor(
    readonly leader: string,
    private readonly local: Local,
    private readonly say: Say,
    /** Watches for the end of a tab. */
    private readonly watch: (tab: string) => void,
  ) {}

  readonly call: Call = (...said) => this.local.call(...said);

  ask(question: Question, answer: (text: string) => void): void {
    this.local.ask(question, answer);
  }

  place(name: string, filter?: string, cursor?: string): void {
    this.local.place(name, filter, cursor);
  }

  whenIdle(run: () => void): void {
    this.local.whenIdle(run);
  }

  stop(): void {
    this.local.stop();
  }

  want(wanted: boolean): void {
    this.own.wants = wanted;
    this.weigh();
  }

  hide(hidden: boolean): void {
    this.own.hidden = hidden;
    this.weigh();
  }

  // What other tabs say.

  called(tab: string, name: string, args: readonly unknown[]): void {
    const named = CALLS[name as Step];
    const other = this.other(tab);
    if (named === undefined) return;
    let rest = args;
    if (named) {
      const id = this.idFor(tab, other, Number(args[0]), name === 'subscribe');
      if (id === undefined) return;
      rest = [id, ...args.slice(1)];
      if (name === 'unsubscribe') this.forget(other, Number(args[0]), id);
    }
    if (name === 'publish' && args[2] !== true && this.waits(String(args[0]))) return;
    (this.local.call as (name: string, ...args: readonly unknown[]) => void)(name, ...rest);
  }

  asked(tab: string, number: number, question: Question): void {
    this.local.ask(question, (text) => this.say('answer', this.leader, tab, number, text));
  }

  wants(tab: string, wanted: boolean): void {
    this.other(tab).wants = wanted;
    this.weigh();
  }

  hides(tab: string, hidden: boolean): void {
    this.other(tab).hidden = hidden;
    this.weigh();
  }

  /** The other tabs, those that somebody sees first. */
  get tabs(): string[] {
    const seen = (wanted: boolean): string[] => [...this.others].filter(([, { hidden }]) => hidden !== wanted).map(([tab]) => tab);
    return [...seen(true), ...seen(false)];
  }

  has(tab: string): boolean {
    return this.others.has(tab);
  }

  /** A tab has ended, or has left. */
  gone(tab: string): void {
    const other = this.others.get(tab);
    if (!other) return;
    this.others.delete(tab);
    for (const id of other.ids.values()) {
      this.owners.delete(id);
      this.local.call('unsubscribe', id);
    }
    this.weigh();
  }

  /** Passes on what others are meant by, and returns what this tab is. */
  route(effect: Effect, bytes: number): Effect | undefined {
    switch (effect[0]) {
      case 'message':
      case 'transient':
      case 'gap':
      case 'live': {
        const own = effect[1].filter((id) => id < OTHERS);
        this.tell(effect, bytes, effect[1]);
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
        this.tell(effect, bytes, [id]);
        const owner = this.owners.get(id);
        const other = owner && this.others.get(owner.tab);
        if (other && (name === 'revoked' || name === 'refused')) this.forget(other, owner.id, id);
        return undefined;
      }
      case 'published':
      case 'failed':
      case 'wedged':
      case 'merged':
      case 'did':
      case 'state':
        break;
      default:
        return effect;
    }
    if (this.others.size > 0) this.say('effect', this.leader, effect, bytes, null);
    return effect;
  }

  /** To the tabs whose subscriptions these are. */
  private tell(effect: Effect, bytes: number, ids: readonly number[]): void {
    const to: Record<string, number[]> = {};
    for (const id of ids) {
      const owner = this.owners.get(id);
      if (owner) (to[owner.tab] ??= []).push(owner.id);
    }
    if (Object.keys(to).length > 0) this.say('effect', this.leader, effect, bytes, to);
  }

  private other(tab: string): Other {
    let other = this.others.get(tab);
    if (!other) {
      other = { ids: new Map(), wants: false, hidden: false };
      this.others.set(tab, other);
      this.watch(tab);
    }
    return other;
  }

  private idFor(tab: string, other: Other, id: number, fresh: boolean): number | undefined {
    if (!fresh) return other.ids.get(id);
    const own = (this.next += 1);
    other.ids.set(id, own);
    this.owners.set(own, { tab, id });
    return own;
  }

  private forget(other: Other, id: number, own: number): void {
    other.ids.delete(id);
    this.owners.delete(own);
  }

  /** Whether a publish of this id waits already: a tab that comes back says again what it does not know to be stored. */
  private waits(messageId: string): boolean {
    let outbox = '[]';
    this.local.ask(['outbox'], (text) => (outbox = text));
    return (JSON.parse(outbox) as unknown[][]).some(([id]) => id === messageId);
  }

  /** The connection stays while any tab wants it; it is hidden while all are. */
  private weigh(): void {
    const all = [this.own, ...this.others.values()];
    const wanted = all.some(({ wants }) => wants);
    if (wanted !== this.wanted) {
      this.wanted = wanted;
      this.local.want(wanted);
    }
    this.local.hide(all.every(({ hidden, wants }) => hidden || !wants));
  }
}
