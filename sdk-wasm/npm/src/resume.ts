import type { Environment } from './shell/environment.ts';
import type { CursorStore } from './cursors.ts';
import type { Delivery } from './delivery.ts';

/** How long a cursor may wait to be written, in milliseconds. A page that ends in good order writes at once. */
const WRITE_AFTER_MS = 250;

/**
 * Keeps each subscription's cursor where a reload finds it. The key is the gateway, the client, the filter, and a count that
 * tells subscriptions of the same filter apart, in the order in which they were made.
 */
export class Resume {
  private readonly keys = new Map<Delivery, string>();
  private readonly dirty = new Set<Delivery>();
  private stopTimer: (() => void) | undefined;

  constructor(
    private readonly store: CursorStore | undefined,
    private readonly prefix: string,
    private readonly environment: Environment,
    private readonly failed: (cause: unknown) => void,
  ) {}

  /** The cursor that an earlier load of the page left for this filter, before the subscription is made. */
  find(filter: string): string | undefined {
    return this.attempt((store) => store.load(this.freeKey(filter)));
  }

  add(subscription: Delivery): void {
    this.keys.set(subscription, this.freeKey(subscription.filter));
  }

  /** The subscription ended on purpose: the next one begins on its own. */
  remove(subscription: Delivery): void {
    const key = this.keys.get(subscription);
    this.keys.delete(subscription);
    this.dirty.delete(subscription);
    if (key !== undefined) this.attempt((store) => store.remove(key));
  }

  /** Forgets every cursor of this gateway and client, as far as the store can tell them. */
  clear(): void {
    this.keys.clear();
    this.dirty.clear();
    this.attempt((store) => store.clear?.(this.prefix));
  }

  changed(subscription: Delivery): void {
    if (!this.store || !this.keys.has(subscription)) return;
    this.dirty.add(subscription);
    this.stopTimer ??= this.environment.setTimer(() => this.flush(), WRITE_AFTER_MS);
  }

  flush(): void {
    this.stopTimer?.();
    this.stopTimer = undefined;
    for (const subscription of this.dirty) {
      const key = this.keys.get(subscription);
      const cursor = subscription.cursor;
      if (key !== undefined && cursor !== undefined) this.attempt((store) => store.save(key, cursor));
    }
    this.dirty.clear();
  }

  private freeKey(filter: string): string {
    const taken = new Set(this.keys.values());
    let count = 0;
    while (taken.has(this.key(filter, count))) count += 1;
    return this.key(filter, count);
  }

  private key(filter: string, count: number): string {
    return `${this.prefix} ${count} ${filter}`;
  }

  private attempt<T>(act: (store: CursorStore) => T): T | undefined {
    try {
      return this.store && act(this.store);
    } catch (cause) {
      this.failed(cause);
      return undefined;
    }
  }
}
