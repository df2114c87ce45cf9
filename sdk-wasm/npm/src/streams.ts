import type { Delivery } from './delivery.ts';
import { type MessageEvent, messageEvent, type SubscriptionEvent } from './events.ts';
import type { Start } from './options.ts';
import { freeName } from './resume.ts';
import type { Call, Effect, Envelope } from './shell/core.ts';
import type { Brain } from './shell/local.ts';

/** Most messages that a subscription begins with from the cache. */
const CACHED = 1_000;

/** The subscriptions: all that the app has, and which of them the core knows under which number. */
export class Streams {
  /** All that are not closed. */
  readonly all = new Set<Delivery>();
  private readonly _open = new Map<number, Delivery>();
  private _nextId = 0;

  constructor(
    private readonly _brain: () => Brain | undefined,
    private readonly _call: Call,
  ) {}

  /** The lowest name of a filter's places that no open subscription has. */
  freeName(filter: string): string {
    return freeName(new Set([...this.all].map(({ name }) => name)), (count) => `${filter} ${count}`);
  }

  /** Tells a core that knows nothing of them. */
  tellAll(): void {
    this._open.clear();
    for (const subscription of this.all) {
      const cursor = subscription.received;
      this.open(subscription, cursor === undefined ? subscription.start : { cursor });
      if (subscription.held) for (const id of this.ids(subscription)) this._call('park', id);
    }
  }

  open(subscription: Delivery, start: Start | undefined): void {
    const id = this._nextId++;
    this._open.set(id, subscription);
    const tell = (start: Start | undefined): void => {
      this._call('subscribe', id, subscription.filter, startJson(start, subscription));
    };
    const { name, filter } = subscription;
    if (name === undefined) return tell(start);
    const keep = (start: Start | undefined): void => {
      this._brain()?.call('keep_messages', id);
      tell(start);
    };
    if (subscription.begun) return keep(start);
    const isOpen = (): boolean => this._open.get(id) === subscription;
    this._brain()?.ask(['place', name, filter], (cursor) => {
      if (!isOpen()) return;
      this._brain()?.ask(['cached', filter, CACHED], (text) => {
        if (!isOpen()) return;
        subscription.begin(cursor, cachedMessages(text));
        if (isOpen()) keep(cursor === '' ? start : { cursor });
      });
    });
  }

  ids(subscription: Delivery): number[] {
    return [...this._open].filter(([, open]) => open === subscription).map(([id]) => id);
  }

  shut(subscription: Delivery): void {
    for (const id of this.ids(subscription)) {
      this._open.delete(id);
      this._call('unsubscribe', id);
    }
  }

  /** Takes out one that the core has ended. */
  take(id: number): Delivery | undefined {
    const subscription = this._open.get(id);
    this._open.delete(id);
    return subscription;
  }

  /** The connection is lost. */
  lost(): void {
    for (const subscription of this._open.values()) subscription.lost();
  }

  clear(): void {
    this.all.clear();
    this._open.clear();
  }

  /** What the core says to subscriptions. */
  carryOut(effect: Effect, bytes: number): void {
    const event = eventOf(effect);
    switch (effect[0]) {
      case 'message':
        return this._each(effect[1], (subscription) => subscription.push({ event, position: effect[2], bytes }));
      case 'transient':
        return this._each(effect[1], (subscription) => event && subscription.pass(event, bytes));
      case 'gap':
      case 'live':
        return this._each(effect[1], (subscription) => subscription.push({ event, bytes: 0 }));
      case 'subscribed':
      case 'snapshot_begins':
      case 'snapshot_ends':
        return this._each([effect[1]], (subscription) => subscription.push({ event, bytes: 0 }));
      case 'cursor':
        return this._each([effect[1]], (subscription) => subscription.push({ cursor: effect[2], bytes: 0 }));
    }
  }

  private _each(ids: readonly number[], act: (subscription: Delivery) => void): void {
    for (const id of ids) {
      const subscription = this._open.get(id);
      if (subscription) act(subscription);
    }
  }
}

/** The event that an effect is to the app. */
function eventOf(effect: Effect): SubscriptionEvent | undefined {
  const [type] = effect;
  switch (type) {
    case 'message':
      return messageEvent(effect[2], effect[3], effect[4]);
    case 'transient': {
      const { metadata, payload } = effect[2];
      return { type, topic: metadata.topic, payload, metadata };
    }
    case 'gap':
      return { type, ...effect[2] };
    case 'subscribed':
      return { type, outcome: effect[2] };
    case 'snapshot_ends':
      return { type, complete: effect[2] };
    case 'snapshot_begins':
    case 'live':
      return { type };
  }
  return undefined;
}

/** A start as the core reads it, with what else is wished. */
function startJson(start: Start | undefined, { snapshot, conflateMs }: Delivery): string {
  const wish = conflateMs > 0 ? { snapshot, conflateMs } : { snapshot };
  if (typeof start === 'string') return JSON.stringify({ from: start, ...wish });
  if (start && 'sinceMs' in start) return JSON.stringify({ sinceMs: Math.max(0, Math.round(start.sinceMs)), ...wish });
  return JSON.stringify({ ...start, ...wish });
}

/** The core's `cached`, without what is no envelope: a store may hold what others wrote. */
export function cachedMessages(text: string): MessageEvent[] {
  const entries = JSON.parse(text || '[]') as [string, Envelope | null, number?][];
  return entries.flatMap(([position, envelope, flags]) => (envelope?.metadata ? [messageEvent(position, envelope, flags)] : []));
}
