import type { Delivery } from './delivery.ts';
import { type MessageEvent, messageEvent } from './events.ts';
import type { Start } from './options.ts';
import type { Call, Effect, Envelope } from './shell/core.ts';
import type { Brain } from './shell/local.ts';

/** Most messages that a subscription begins with from the cache. */
const CACHED = 1_000;

/** The subscriptions: all that the app has, and which of them the core knows under which number. */
export class Streams {
  /** All that are not closed. */
  readonly all = new Set<Delivery>();
  private readonly open_ = new Map<number, Delivery>();
  private nextId = 0;

  constructor(
    private readonly brain: () => Brain | undefined,
    private readonly call: Call,
  ) {}

  /** The lowest name of a filter's places that no open subscription has. */
  freeName(filter: string): string {
    const taken = new Set([...this.all].map(({ name }) => name));
    let count = 0;
    while (taken.has(`${filter} ${count}`)) count += 1;
    return `${filter} ${count}`;
  }

  /** Tells a core that knows nothing of them. */
  tellAll(): void {
    this.open_.clear();
    for (const subscription of this.all) {
      const cursor = subscription.received;
      this.open(subscription, cursor === undefined ? subscription.start : { cursor });
      if (subscription.held) for (const id of this.ids(subscription)) this.call('park', id);
    }
  }

  open(subscription: Delivery, start: Start | undefined): void {
    const id = this.nextId++;
    this.open_.set(id, subscription);
    const tell = (start: Start | undefined): void => {
      this.call('subscribe', id, subscription.filter, startJson(start, subscription));
    };
    const { name, filter } = subscription;
    if (name === undefined) return tell(start);
    const keep = (start: Start | undefined): void => {
      this.brain()?.call('keep_messages', id);
      tell(start);
    };
    if (subscription.begun) return keep(start);
    const isOpen = (): boolean => this.open_.get(id) === subscription;
    this.brain()?.ask(['place', name, filter], (cursor) => {
      if (!isOpen()) return;
      this.brain()?.ask(['cached', filter, CACHED], (text) => {
        if (!isOpen()) return;
        subscription.begin(cursor, cachedMessages(text));
        if (isOpen()) keep(cursor === '' ? start : { cursor });
      });
    });
  }

  ids(subscription: Delivery): number[] {
    return [...this.open_].filter(([, open]) => open === subscription).map(([id]) => id);
  }

  shut(subscription: Delivery): void {
    for (const id of this.ids(subscription)) {
      this.open_.delete(id);
      this.call('unsubscribe', id);
    }
  }

  /** Takes out one that the core has ended. */
  take(id: number): Delivery | undefined {
    const subscription = this.open_.get(id);
    this.open_.delete(id);
    return subscription;
  }

  /** The connection is lost. */
  lost(): void {
    for (const subscription of this.open_.values()) subscription.lost();
  }

  clear(): void {
    this.all.clear();
    this.open_.clear();
  }

  /** What the core says to subscriptions. */
  deliver(effect: Effect, bytes: number): void {
    switch (effect[0]) {
      case 'message': {
        const [, ids, position, envelope, flags] = effect;
        const event = messageEvent(position, envelope, flags);
        return this.each(ids, (subscription) => subscription.push({ event, position, bytes }));
      }
      case 'transient': {
        const { metadata, payload } = effect[2];
        const event = { type: 'transient', topic: metadata.topic, payload, metadata } as const;
        return this.each(effect[1], (subscription) => subscription.pass(event, bytes));
      }
      case 'gap': {
        const event = { type: 'gap', ...effect[2] } as const;
        return this.each(effect[1], (subscription) => subscription.push({ event, bytes: 0 }));
      }
      case 'live':
        return this.each(effect[1], (subscription) => subscription.push({ event: { type: 'live' }, bytes: 0 }));
      case 'subscribed': {
        const event = { type: 'subscribed', outcome: effect[2] } as const;
        return this.each([effect[1]], (subscription) => subscription.push({ event, bytes: 0 }));
      }
      case 'snapshot_begins':
        return this.each([effect[1]], (subscription) => subscription.push({ event: { type: effect[0] }, bytes: 0 }));
      case 'snapshot_ends': {
        const event = { type: effect[0], complete: effect[2] } as const;
        return this.each([effect[1]], (subscription) => subscription.push({ event, bytes: 0 }));
      }
      case 'cursor':
        return this.each([effect[1]], (subscription) => subscription.push({ cursor: effect[2], bytes: 0 }));
    }
  }

  private each(ids: readonly number[], act: (subscription: Delivery) => void): void {
    for (const id of ids) {
      const subscription = this.open_.get(id);
      if (subscription) act(subscription);
    }
  }
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
