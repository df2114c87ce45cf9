import type { ConnectionState } from './shell/core.ts';

/** A value that can be read at any time and watched. `get` returns the same object until it changes. */
export interface Observable<T> {
  get(): T;
  /** Calls `watch` after each change. Returns how to stop. */
  subscribe(watch: (value: T) => void): () => void;
}

/** @internal An observable and the right to change it. */
export class Observed<T> implements Observable<T> {
  private readonly watchers = new Set<(value: T) => void>();

  constructor(
    private value: T,
    private readonly threw: (error: unknown) => void,
  ) {}

  readonly get = (): T => this.value;

  readonly subscribe = (watch: (value: T) => void): (() => void) => {
    // A function of its own, so that the same watcher may be given twice.
    const entry = (value: T): void => watch(value);
    this.watchers.add(entry);
    return () => void this.watchers.delete(entry);
  };

  set(value: T): void {
    this.value = value;
    for (const watch of [...this.watchers]) {
      try {
        watch(value);
      } catch (error) {
        this.threw(error);
      }
    }
  }
}

/** Before anything has asked for a connection. */
export const IDLE: ConnectionState = Object.freeze({
  phase: 'idle',
  attempt: 0,
  retryInMs: null,
  since: 0,
  code: null,
  upstream: true,
});
