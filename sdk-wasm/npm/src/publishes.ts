import { AnabranchError } from './errors.ts';
import type { Published } from './options.ts';

/** How a publish is treated while it waits. */
export interface Terms {
  /** It outlives the page, where there is a store, and a refusal for good. */
  readonly kept: boolean;
  /** Unix milliseconds until which it may be sent. */
  readonly expires: number | undefined;
  /** Called when it leaves this page for the first time. */
  readonly sent: (() => void) | undefined;
  /** A patch of a shadow: whose it is, and what to call when it has become part of an earlier one by them. */
  readonly patch?: Patching | undefined;
}

export interface Patching {
  readonly author: number;
  merged(into: string): void;
}

/** A publish that was not answered yet. */
export interface Pending {
  readonly messageId: string;
  envelope: string;
  readonly terms: Terms;
  /** A core knows of it; the next one must take it for one that may have been sent. */
  told: boolean;
  readonly published: Promise<Published>;
  /** Resolves when the store has it. */
  readonly stored: Promise<void>;
  settle(published: Published): void;
  /** Nothing more will come of it. */
  fail(error: AnabranchError): void;
  store(reason: string): void;
}

/** What was published and not yet answered. */
export class Publishes {
  private readonly _pending = new Map<string, Pending>();

  find(messageId: string): Pending | undefined {
    return this._pending.get(messageId);
  }

  add(messageId: string, envelope: string, terms: Terms): Pending {
    const published = withResolvers<Published>();
    const stored = withResolvers<void>();
    // Whoever asked may look at one of the two only.
    published.promise.catch(() => {});
    stored.promise.catch(() => {});
    const pending: Pending = {
      messageId,
      envelope,
      terms,
      told: false,
      published: published.promise,
      stored: stored.promise,
      settle: (how) => {
        stored.resolve();
        published.resolve(how);
      },
      fail: (error) => {
        stored.reject(error);
        published.reject(error);
      },
      store: (reason) => (reason === '' ? stored.resolve() : stored.reject(notKept(messageId, reason))),
    };
    this._pending.set(messageId, pending);
    return pending;
  }

  published(messageId: string, published: Published): void {
    this._pending.get(messageId)?.settle(published);
    this._pending.delete(messageId);
  }

  /** One is part of an earlier one from here on, and ends with it. */
  merged(messageId: string, into: string, envelope: string): void {
    const [one, earlier] = [this._pending.get(messageId), this._pending.get(into)];
    if (!one || !earlier) return;
    earlier.envelope = envelope;
    const drop = (): void => void this._pending.delete(messageId);
    earlier.published.then(one.settle, one.fail).then(drop);
    // The store may not have it yet: until then the next core is told of it too, since what that has of the earlier one may lack it.
    if (one.terms.kept) one.stored.then(drop, () => {});
    else drop();
    one.terms.patch?.merged(into);
  }

  failed(messageId: string, error: AnabranchError): void {
    this._pending.get(messageId)?.fail(error);
    this._pending.delete(messageId);
  }

  failAll(error: AnabranchError): void {
    for (const { fail } of this._pending.values()) fail(error);
    this._pending.clear();
  }

  /** In the order in which they were made. */
  waiting(): Pending[] {
    return [...this._pending.values()];
  }
}

function notKept(messageId: string, reason: string): AnabranchError {
  const message = `The store could not take ${messageId}: ${reason}. It is published all the same, but ends with the page.`;
  return new AnabranchError('not_kept', message, false, 'Tell the user to keep the page open until it is confirmed.');
}

function withResolvers<T>(): { promise: Promise<T>; resolve(value: T): void; reject(error: unknown): void } {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
