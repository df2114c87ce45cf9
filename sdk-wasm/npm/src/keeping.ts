/**
 * What outlives the page, in the words of `sdk-core/src/store.rs`: the core decides what is kept, a store writes it down. Envelopes are JSON text.
 */
export type Write =
  /** A publish, behind all others that wait; `expires` in Unix milliseconds. */
  | readonly [what: 'enqueue', messageId: string, envelope: string, expires: number | null]
  /** Why it is wedged, or that it no longer is. Nothing if it is not there. */
  | readonly [what: 'wedge', messageId: string, code?: number, message?: string]
  /** It waits no longer. */
  | readonly [what: 'settle', messageId: string]
  /** A message, behind all others. */
  | readonly [what: 'message', topic: string, position: string, envelope: string, flags?: number]
  /** Only the newest so many messages of this topic stay. */
  | readonly [what: 'trim', topic: string, keep: number]
  /** How far the app has come with what it keeps under this name; without a cursor: there is no such thing any more. */
  | readonly [what: 'cursor', name: string, filter?: string, cursor?: string];

export interface KeptPublish {
  readonly messageId: string;
  readonly envelope: string;
  readonly expires: number | null;
  readonly wedged: readonly [code: number, message: string] | null;
}

export interface KeptMessage {
  readonly topic: string;
  readonly position: string;
  readonly envelope: string;
  readonly flags: number;
}

export interface Place {
  readonly name: string;
  readonly filter: string;
  readonly cursor: string;
}

/** All that a store holds. */
export interface Kept {
  /** In the order in which they were enqueued. */
  readonly publishes: readonly KeptPublish[];
  /** In the order in which they were written. */
  readonly messages: readonly KeptMessage[];
  /** By name, in no order. */
  readonly places: readonly Place[];
}

/** Where a client writes what must outlive its page. One call at a time, in order; but a page that ends, perhaps, commits while earlier commits are under way. */
export interface Store {
  /** Everything that was committed. */
  load(): Promise<Kept>;
  /**
   * Writes all of these, in their order, or none, and none if an earlier commit fails. What it takes is asked for at once: the page may end, or hang, before
   * it sees how it went.
   */
  commit(writes: readonly Write[]): Promise<void>;
  /** Forgets everything, for good. */
  wipe(): Promise<void>;
  close(): void;
}

/** Where things are kept. */
export type Storage =
  /** Nowhere, or not any more: all ends with the page. `reason` if there should be a store. */
  | { readonly kind: 'memory'; readonly reason: string | null }
  | { readonly kind: 'durable' };

/** The way to a store: batches what is to be written, and says when it is. Nothing here rejects: what fails is said by `Storage`. */
export interface Keeper {
  /** Opens the store, where it is not open, and reads all that it holds. */
  load(): Promise<Kept>;
  write(write: Write): void;
  /** When all that was given so far is written: null; or why it is not, and never will be. */
  flush(): Promise<string | null>;
  /** The page ends, perhaps: writes what there is without waiting for anything. */
  hurry(): void;
  wipe(): Promise<void>;
  close(): void;
}

/** What a keeper needs to know. */
export interface KeeperNeeds {
  /** Whose things they are: the gateway and the user. */
  readonly owner: string;
  /** Whether the client sees to it that no other page has this owner's store. */
  readonly alone: boolean;
  readonly wall: () => number;
  readonly setTimer: (run: () => void, ms: number) => () => void;
  changed(storage: Storage): void;
}

/** Makes the way to a store, for `createClient`. `indexedDb()` of `@anabranch/client/store` gives one. */
export type Keeping = (needs: KeeperNeeds) => Keeper;

export const IN_MEMORY: Storage = Object.freeze({ kind: 'memory', reason: null });
