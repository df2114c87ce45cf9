import type { ConnectionState } from './shell/core.ts';

/** A value that can be read at any time and watched. `get` returns the same object until it changes. */
export interface Observable<T> {
  get(): T;
  /** Calls `watch` after each change. Returns how to stop. */
  subscribe(watch: (value: T) => void): () => void;
}

/** @internal An observable and the right to change it. */
export class Observed<T> implements Observable<T> {
  private readonly _watchers = new Set<(value: T) => void>();

  constructor(
    private _value: T,
    private readonly _threw: (error: unknown) => void,
  ) {}

  readonly get = (): T => this._value;

  readonly subscribe = (watch: (value: T) => void): (() => void) => {
    // A function of its own, so that the same watcher may be given twice.
    const entry = (value: T): void => watch(value);
    this._watchers.add(entry);
    return () => void this._watchers.delete(entry);
  };

  set(value: T): void {
    this._value = value;
    for (const watch of [...this._watchers]) {
      try {
        watch(value);
      } catch (error) {
        this._threw(error);
      }
    }
  }
}

/** Whether there is a connection, as far as anybody knows. */
export function isUp({ phase }: ConnectionState): boolean {
  return phase === 'live' || phase === 'syncing';
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
