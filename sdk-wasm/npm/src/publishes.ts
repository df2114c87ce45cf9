import { AnabranchError } from './errors.ts';
import type { Published } from './options.ts';

interface Pending {
  readonly envelope: string;
  readonly promise: Promise<Published>;
  resolve(published: Published): void;
  reject(error: AnabranchError): void;
}

/** What was published and not yet answered. */
export class Publishes {
  private readonly pending = new Map<string, Pending>();

  get size(): number {
    return this.pending.size;
  }

  /** The promise of an earlier publish under this id that still waits. */
  find(messageId: string): Promise<Published> | undefined {
    return this.pending.get(messageId)?.promise;
  }

  add(messageId: string, envelope: string): Promise<Published> {
    const { promise, resolve, reject } = withResolvers<Published>();
    this.pending.set(messageId, { envelope, promise, resolve, reject });
    return promise;
  }

  published(messageId: string, published: Published): void {
    this.pending.get(messageId)?.resolve(published);
    this.pending.delete(messageId);
  }

  failed(messageId: string, error: AnabranchError): void {
    this.pending.get(messageId)?.reject(error);
    this.pending.delete(messageId);
  }

  failAll(error: AnabranchError): void {
    for (const { reject } of this.pending.values()) reject(error);
    this.pending.clear();
  }

  /** In the order in which they were made: id and envelope. */
  *waiting(): Iterable<[string, string]> {
    for (const [messageId, { envelope }] of this.pending) yield [messageId, envelope];
  }
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
