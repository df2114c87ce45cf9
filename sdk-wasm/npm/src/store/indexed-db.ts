import type { Kept, KeptPublish, Place, Store, Write } from '../keeping.ts';

/**
 * Makes the object stores, one step for each version. A later version adds to them and never renames: this one opens a newer database too, takes
 * the outbox over and drops the cache.
 */
const MIGRATIONS: readonly ((db: IDBDatabase) => void)[] = [
  (db) => {
    db.createObjectStore('outbox', { keyPath: 'messageId' });
    db.createObjectStore('message', { autoIncrement: true }).createIndex('topic', 'topic');
    db.createObjectStore('place', { keyPath: 'name' });
    db.createObjectStore('meta');
  },
];
const SCHEMA = MIGRATIONS.length;
const STORES = ['outbox', 'message', 'place', 'meta'];

/** How long an open may take, and how long when it is known that another page holds an older version: that one may never let go. */
const OPEN_MS = 5_000;
const BLOCKED_MS = 2_000;

/** A publish; `seq` rises in the order in which they were enqueued. */
interface Row extends KeptPublish {
  readonly seq: number;
}

interface MessageRow {
  readonly topic: string;
  readonly position: string;
  readonly envelope: string;
  readonly flags: number;
  /** Unix milliseconds at which it was written. */
  readonly at: number;
}

/** Another page has opened the store since: what this one has in memory is not the truth any more. */
class Taken extends Error {
  override readonly message = 'another page has taken the store over';
}

/** It cannot be opened, and whoever waits longer waits for ever, perhaps. */
class Held extends Error {
  override readonly message = 'another page holds it, and does not let go';
}

/**
 * A store in IndexedDB. Every request of a transaction is made at once, and nothing is awaited but its end: a browser commits a transaction that
 * is left alone. Each one looks whether this page still owns the database, which the last to open it does; but for that of a page that ends.
 *
 * A connection that fails is opened anew, and the transaction tried again, once. If somebody has deleted the database meanwhile, publishes and
 * places are written again, and the cache begins anew: as if its older messages had been trimmed.
 */
export class IndexedDbStore implements Store {
  private db: IDBDatabase | undefined;
  /** What the database holds beside messages. */
  private outbox = new Map<string, Row>();
  private places = new Map<string, Place>();
  private seq = 0;
  /** The database is empty, and should not be. */
  private anew = false;
  private readonly mark = `${Math.random()}`;

  constructor(
    private readonly factory: IDBFactory,
    private readonly name: string,
    private readonly maxAgeMs: number,
    private readonly wall: () => number,
    private readonly setTimer: (run: () => void, ms: number) => () => void,
  ) {}

  async load(): Promise<Kept> {
    return this.twice(async () => {
      const db = (this.db ??= await this.open(true));
      const oldest = this.wall() - this.maxAgeMs;
      let rows: Row[] = [];
      let messages: MessageRow[] = [];
      let places: Place[] = [];
      await this.run(db, 'relaxed', (of) => {
        const meta = of('meta');
        const schema = meta.get('schema');
        schema.onsuccess = () => {
          // What is only cached comes again; what the user said does not.
          if (schema.result > SCHEMA) for (const store of ['message', 'place']) of(store).clear();
          meta.put(SCHEMA, 'schema');
          of('outbox').getAll().onsuccess = ({ target }) => (rows = (target as IDBRequest<Row[]>).result);
          of('place').getAll().onsuccess = ({ target }) => (places = (target as IDBRequest<Place[]>).result);
          const keys = of('message').getAllKeys();
          of('message').getAll().onsuccess = ({ target }) => {
            const all = (target as IDBRequest<MessageRow[]>).result;
            messages = all.filter(({ at }) => at >= oldest);
            all.forEach(({ at }, index) => at < oldest && of('message').delete(keys.result[index] as IDBValidKey));
          };
        };
        meta.put(this.mark, 'owner');
      });
      rows = rows.filter((row) => typeof row.messageId === 'string' && typeof row.envelope === 'string');
      rows.sort((a, b) => a.seq - b.seq);
      this.outbox = new Map(rows.map((row) => [row.messageId, row]));
      this.places = new Map(places.map((place) => [place.name, place]));
      this.seq = rows.at(-1)?.seq ?? 0;
      return { publishes: rows, messages, places };
    });
  }

  async commit(writes: readonly Write[], ending = false): Promise<void> {
    const outbox = new Map(this.outbox);
    const places = new Map(this.places);
    const before = this.seq;
    await this.twice(async (full) => {
      const db = (this.db ??= await this.open(false));
      outbox.clear();
      places.clear();
      for (const [id, row] of this.outbox) outbox.set(id, row);
      for (const [name, place] of this.places) places.set(name, place);
      this.seq = before;
      const strict = this.anew || writes.some(([what]) => what === 'enqueue');
      await this.run(db, strict ? 'strict' : 'relaxed', (of, abort) => {
        if (!ending) {
          const owner = of('meta').get('owner');
          owner.onsuccess = () => owner.result !== this.mark && abort(new Taken());
        }
        if (this.anew) {
          for (const row of outbox.values()) of('outbox').put(row);
          for (const place of places.values()) of('place').put(place);
        }
        if (full) of('message').clear();
        // A trim has to read first, for which there is no time at the end; the next one of the topic makes up for it.
        for (const write of writes) if (!(ending && write[0] === 'trim')) this.apply(write, of, outbox, places);
      }, ending);
      this.anew = false;
    });
    this.outbox = outbox;
    this.places = places;
  }

  async wipe(): Promise<void> {
    const db = (this.db ??= await this.open(true));
    await this.run(db, 'strict', (of) => STORES.forEach((store) => of(store).clear()));
    this.outbox.clear();
    this.places.clear();
    this.anew = false;
    // Whatever still writes for this owner finds that it has lost the database; this page goes on with an empty one.
    await this.run(db, 'strict', (of) => void of('meta').put(this.mark, 'owner'));
  }

  close(): void {
    this.db?.close();
    this.db = undefined;
  }

  /** As `Kept::apply` says. What is read from the database would come too late for the next write, so the outbox is written from memory. */
  private apply(write: Write, of: (store: string) => IDBObjectStore, outbox: Map<string, Row>, places: Map<string, Place>): void {
    switch (write[0]) {
      case 'enqueue': {
        const [, messageId, envelope, expires] = write;
        const row = { messageId, envelope, expires, wedged: null, seq: (this.seq += 1) };
        outbox.delete(messageId);
        outbox.set(messageId, row);
        return void of('outbox').put(row);
      }
      case 'wedge': {
        const [, messageId, code, message = ''] = write;
        const row = outbox.get(messageId);
        if (!row) return;
        const next: Row = { ...row, wedged: code === undefined ? null : [code, message] };
        outbox.set(messageId, next);
        return void of('outbox').put(next);
      }
      case 'settle':
        outbox.delete(write[1]);
        return void of('outbox').delete(write[1]);
      case 'message': {
        const [, topic, position, envelope, flags = 0] = write;
        return void of('message').add({ topic, position, envelope, flags, at: this.wall() } satisfies MessageRow);
      }
      case 'trim': {
        const [, topic, keep] = write;
        // The keys as of here: what is added behind is not among them.
        const keys = of('message').index('topic').getAllKeys(IDBKeyRange.only(topic));
        keys.onsuccess = () => keys.result.slice(0, Math.max(0, keys.result.length - keep)).forEach((key) => of('message').delete(key));
        return;
      }
      case 'cursor': {
        const [, name, filter, cursor] = write;
        if (filter === undefined || cursor === undefined) {
          places.delete(name);
          return void of('place').delete(name);
        }
        const place = { name, filter, cursor };
        places.set(name, place);
        return void of('place').put(place);
      }
    }
  }

  /** Tries again with a new connection, once; if there was no room, without the cache. */
  private async twice<T>(act: (full: boolean) => Promise<T>): Promise<T> {
    try {
      return await act(false);
    } catch (cause) {
      this.close();
      if (cause instanceof Taken || cause instanceof Held) throw cause;
      return act(cause instanceof DOMException && cause.name === 'QuotaExceededError');
    }
  }

  /** One transaction; resolves when it is committed. */
  private run(db: IDBDatabase, durability: IDBTransactionDurability, act: (of: (store: string) => IDBObjectStore, abort: (why: Error) => void) => void, ending = false): Promise<void> {
    return new Promise((resolve, reject) => {
      const transaction = db.transaction(STORES, 'readwrite', { durability });
      let why: Error | undefined;
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(why ?? transaction.error ?? new Error('the browser gave up a transaction'));
      const abort = (error: Error): void => {
        why = error;
        transaction.abort();
      };
      try {
        act((store) => transaction.objectStore(store), abort);
        // Else it would be given up with the page.
        if (ending) transaction.commit();
      } catch (error) {
        abort(error as Error);
      }
    });
  }

  /** `first`: this page is to own it from here on. Later it must still be this page's, or have been deleted. */
  private async open(first: boolean): Promise<IDBDatabase> {
    let made = false;
    const upgrade = (db: IDBDatabase, from: number): void => {
      made = from === 0;
      MIGRATIONS.slice(from).forEach((step) => step(db));
    };
    let db: IDBDatabase;
    try {
      db = await this.request(SCHEMA, upgrade);
    } catch (cause) {
      if (!(cause instanceof DOMException && cause.name === 'VersionError')) throw cause;
      if (!first) throw new Taken();
      db = await this.request(undefined, upgrade);
      if (STORES.some((store) => !db.objectStoreNames.contains(store))) {
        db.close();
        throw new Error('it was written by a newer version, which this one cannot read');
      }
    }
    const gone = (): void => {
      db.close();
      if (this.db === db) this.db = undefined;
    };
    // A newer page wants to change it; or the browser has taken it away.
    db.onversionchange = gone;
    db.onclose = gone;
    if (made && !first) {
      this.anew = true;
      await this.run(db, 'relaxed', (of) => {
        of('meta').put(SCHEMA, 'schema');
        of('meta').put(this.mark, 'owner');
      });
    }
    return db;
  }

  private request(version: number | undefined, upgrade: (db: IDBDatabase, from: number) => void): Promise<IDBDatabase> {
    return new Promise((resolve, reject) => {
      const request = this.factory.open(this.name, version);
      let late = false;
      const giveUp = (): void => {
        late = true;
        reject(new Held());
      };
      let stop = this.setTimer(giveUp, OPEN_MS);
      request.onblocked = () => {
        stop();
        stop = this.setTimer(giveUp, BLOCKED_MS);
      };
      request.onupgradeneeded = ({ oldVersion }) => {
        if (late) request.transaction?.abort();
        else upgrade(request.result, oldVersion);
      };
      request.onerror = () => (stop(), reject(request.error ?? new Error('it cannot be opened')));
      request.onsuccess = () => {
        stop();
        if (late) request.result.close();
        else resolve(request.result);
      };
    });
  }
}
