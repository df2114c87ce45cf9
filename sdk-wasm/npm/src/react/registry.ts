import type { Client } from '../client.ts';

/** How long a thing outlives the last component that uses it, in milliseconds: one that is mounted anew, as StrictMode does, finds it open. */
const LINGER_MS = 1_000;
/** How often components hear of changes while nobody can see the page, in milliseconds. */
const HIDDEN_MS = 1_000;

/** Something that components share: opened with the first of them, closed after the last. */
export interface Source<Snapshot> {
  /** The same object until something changes. */
  get(): Snapshot;
  close(): void;
}

/** Opens a source; `changed` is to be called after each change. */
export type Open<Snapshot> = (client: Client, changed: () => void) => Source<Snapshot>;

class Entry<Snapshot> {
  users = 0;
  shown: Snapshot;
  source: Source<Snapshot> | undefined;
  private readonly _watchers = new Set<() => void>();
  private _stopLinger: (() => void) | undefined;
  private _due = false;

  constructor(
    private readonly _open: (changed: () => void) => Source<Snapshot>,
    idle: Snapshot,
    private readonly _forget: () => void,
  ) {
    this.shown = idle;
  }

  subscribe(watch: () => void): () => void {
    this._stopLinger?.();
    this._stopLinger = undefined;
    this._watchers.add(watch);
    this.source ??= this._open(() => this._changed());
    this.shown = this.source.get();
    return () => {
      this._watchers.delete(watch);
      if (this._watchers.size > 0) return;
      const timer = setTimeout(() => {
        this.source?.close();
        this._forget();
      }, LINGER_MS);
      this._stopLinger = () => clearTimeout(timer);
    };
  }

  /** Together, once for each frame that is painted. */
  private _changed(): void {
    if (this._due) return;
    this._due = true;
    const show = (): void => {
      this._due = false;
      if (!this.source) return;
      this.shown = this.source.get();
      for (const watch of [...this._watchers]) watch();
    };
    const visible = typeof document === 'object' && document.visibilityState !== 'hidden' && typeof requestAnimationFrame === 'function';
    if (visible) requestAnimationFrame(show);
    else setTimeout(show, HIDDEN_MS);
  }
}

const registries = new WeakMap<Client, Map<string, Entry<unknown>>>();

/** What a component needs of a source, for `useSyncExternalStore`. Nothing is opened before `subscribe`. */
export function shared<Snapshot>(client: Client, key: string, open: Open<Snapshot>, idle: Snapshot) {
  const entries = registries.get(client) ?? new Map<string, Entry<unknown>>();
  registries.set(client, entries);
  const find = (): Entry<Snapshot> | undefined => entries.get(key) as Entry<Snapshot> | undefined;
  return {
    get: (): Snapshot => find()?.shown ?? idle,
    /** What stands behind it, while it is open. */
    source: (): Source<Snapshot> | undefined => find()?.source,
    subscribe: (watch: () => void): (() => void) => {
      let entry = find();
      if (!entry) {
        const forget = (): void => {
          if (entries.get(key) === made) entries.delete(key);
        };
        const made: Entry<Snapshot> = new Entry<Snapshot>((changed) => open(client, changed), idle, forget);
        entry = made;
        entries.set(key, made as Entry<unknown>);
      }
      return entry.subscribe(watch);
    },
  };
}
