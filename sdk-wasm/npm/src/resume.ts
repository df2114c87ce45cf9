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
  private readonly _keys = new Map<Delivery, string>();
  private readonly _dirty = new Set<Delivery>();
  private _stopTimer: (() => void) | undefined;

  constructor(
    private readonly _store: CursorStore | undefined,
    private readonly _prefix: string,
    private readonly _environment: Environment,
    private readonly _failed: (cause: unknown) => void,
  ) {}

  /** The cursor that an earlier load of the page left for this filter, before the subscription is made. */
  find(filter: string): string | undefined {
    return this._attempt((store) => store.load(this._freeKey(filter)));
  }

  add(subscription: Delivery): void {
    this._keys.set(subscription, this._freeKey(subscription.filter));
  }

  /** The subscription ended on purpose: the next one begins on its own. */
  remove(subscription: Delivery): void {
    const key = this._keys.get(subscription);
    this._keys.delete(subscription);
    this._dirty.delete(subscription);
    if (key !== undefined) this._attempt((store) => store.remove(key));
  }

  /** Forgets every cursor of this gateway and client, as far as the store can tell them. */
  clear(): void {
    this._keys.clear();
    this._dirty.clear();
    this._attempt((store) => store.clear?.(this._prefix));
  }

  changed(subscription: Delivery): void {
    if (!this._store || !this._keys.has(subscription)) return;
    this._dirty.add(subscription);
    this._stopTimer ??= this._environment.setTimer(() => this.flush(), WRITE_AFTER_MS);
  }

  flush(): void {
    this._stopTimer?.();
    this._stopTimer = undefined;
    for (const subscription of this._dirty) {
      const key = this._keys.get(subscription);
      const cursor = subscription.cursor;
      if (key !== undefined && cursor !== undefined) this._attempt((store) => store.save(key, cursor));
    }
    this._dirty.clear();
  }

  private _freeKey(filter: string): string {
    return freeName(new Set(this._keys.values()), (count) => `${this._prefix} ${count} ${filter}`);
  }

  private _attempt<T>(act: (store: CursorStore) => T): T | undefined {
    try {
      return this._store && act(this._store);
    } catch (cause) {
      this._failed(cause);
      return undefined;
    }
  }
}

/** The first of these names that is not taken. */
export function freeName(taken: ReadonlySet<string | undefined>, name: (count: number) => string): string {
  let count = 0;
  while (taken.has(name(count))) count += 1;
  return name(count);
}
