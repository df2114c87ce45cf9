/**
 * Where cursors outlive a page. Synchronous on purpose: a page that is being unloaded has no time for a promise. What a
 * store throws is reported as an error event and costs the resume, nothing else.
 */
export interface CursorStore {
  load(key: string): string | undefined;
  save(key: string, cursor: string): void;
  remove(key: string): void;
  /** Removes all that begin so. */
  clear?(prefix: string): void;
}

/** Cursors in the tab's `sessionStorage`: they survive a reload, and end with the tab. */
export class SessionStore implements CursorStore {
  constructor(private readonly _storage: Storage) {}

  load(key: string): string | undefined {
    return this._storage.getItem(key) ?? undefined;
  }

  save(key: string, cursor: string): void {
    this._storage.setItem(key, cursor);
  }

  remove(key: string): void {
    this._storage.removeItem(key);
  }

  clear(prefix: string): void {
    for (const key of Object.keys(this._storage)) if (key.startsWith(prefix)) this._storage.removeItem(key);
  }
}
