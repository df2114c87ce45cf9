/** `@anabranch/client/store`: what outlives the page. Loaded by those who import it, and by nobody else. */
import type { Keeping, KeeperNeeds, Store } from '../keeping.ts';
import { IndexedDbStore } from './indexed-db.ts';
import { Batches } from './keeper.ts';

export type { Keeper, KeeperNeeds, Keeping, Kept, KeptMessage, KeptPublish, Place, Storage, Store, Write } from '../keeping.ts';

export interface IndexedDbOptions {
  /** Cached messages older than this are forgotten when a page starts; 30 days unless told. Publishes that wait and cursors have no age. */
  readonly maxAgeMs?: number;
}

const MAX_AGE_MS = 30 * 24 * 3_600_000;
/** How long another page's store is waited for, in milliseconds: the page before a reload lets go as it ends. */
const LOCK_MS = 2_000;

/** Keeps things in IndexedDB: a database for each gateway and user. One page has it at a time; others keep theirs in memory, and say so. */
export function indexedDb({ maxAgeMs = MAX_AGE_MS }: IndexedDbOptions = {}): Keeping {
  return keepIn((needs) => {
    if (typeof indexedDB === 'undefined') throw new Error('there is no IndexedDB here');
    const name = `anabranch ${needs.owner}`;
    return new IndexedDbStore(indexedDB, name, maxAgeMs, needs.wall, needs.setTimer);
  });
}

/** Keeps things in a store of the app's own. */
export function keepIn(make: (needs: KeeperNeeds) => Store): Keeping {
  return (needs) => {
    let letGo: (() => void) | undefined;
    const open = async (): Promise<Store> => {
      const store = make(needs);
      if (!needs.alone) letGo ??= await lock(`anabranch store ${needs.owner}`);
      return store;
    };
    const keeper = new Batches({ ...needs, changed: (storage) => {
      if (storage.kind === 'memory') letGo?.();
      needs.changed(storage);
    } }, open);
    return {
      load: () => keeper.load(),
      write: (write) => keeper.write(write),
      flush: () => keeper.flush(),
      hurry: () => keeper.hurry(),
      wipe: () => keeper.wipe(),
      close: () => {
        keeper.close();
        void keeper.flush().then(() => letGo?.());
      },
    };
  };
}

/** Takes a lock of this origin, for as long as the page lives, or until what it returns is called. */
async function lock(name: string): Promise<() => void> {
  const locks = typeof navigator === 'undefined' ? undefined : navigator.locks;
  if (!locks) throw new Error('this browser cannot tell whether another page uses it');
  return new Promise((resolve, reject) => {
    const late = new Error('another page has it');
    locks
      .request(name, { signal: AbortSignal.timeout(LOCK_MS) }, () => new Promise<void>((letGo) => resolve(letGo)))
      .catch(() => reject(late));
  });
}
