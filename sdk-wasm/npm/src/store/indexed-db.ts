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
  // One row at most. Its key names the page that owns the database and that page's last transaction: who puts a row there beside another fails, and all
  // that it writes with it.
  (db) => void db.createObjectStore('owner').createIndex('only', 'only', { unique: true }),
];
const SCHEMA = MIGRATIONS.length;
const STORES = ['outbox', 'message', 'place', 'meta', 'owner'];

/** The transactions of all pages. */
const ANY = (): IDBKeyRange => IDBKeyRange.lowerBound(0);

/** How long an open may take, and how long when it is known that another page holds an older version: that one may never let go. */
const OPEN_MS = 5_000;
const BLOCKED_MS = 2_000;

/** A publish; `seq` rises in the order in which they were enqueued. */
interface Row extends KeptPublish {
  readonly seq: number;
}

/** Asks for one change of the database. */
type Step = (of: (store: string) => IDBObjectStore) => void;

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
 * A store in IndexedDB. Every request of a transaction is made at once, none of them waits for what another has read, and then it is committed: so the
 * browser ends it without the page. Else one that hangs in the middle would keep all others from the database for as long as it hangs. Each one fails
 * unless this page still owns the database, which the last to load it does, and the one before it is committed: so it need not be waited for.
 *
 * Upon a failure the connection is opened anew, and all that is not known to be committed written again, once, in order. It does no harm if it was. If
 * somebody has deleted the database meanwhile, publishes and places are written again, and the cache begins anew: as if its older messages had been
 * trimmed.
 */
export class IndexedDbStore implements Store {
  private _db: IDBDatabase | undefined;
  /** What the database holds beside messages, once all that it was given is committed. */
  private _outbox = new Map<string, Row>();
  private _places = new Map<string, Place>();
  private _seq = 0;
  /** The keys of the messages by topic, oldest first, and the newest key of all. Once the cache was dropped the oldest are of no messages: that does no harm. */
  private _keys = new Map<string, number[]>();
  private _key = 0;
  /** The database is empty, and should not be. */
  private _anew = false;
  private readonly _mark = `${Math.random()}`;
  private _transactions = 0;
  /** What is not known to be committed, a batch for each commit; and the second try, for all of them. What fails again stays so until the next load. */
  private readonly _uncommitted = new Set<readonly Step[]>();
  private _again: Promise<void> | undefined;

  constructor(
    private readonly _factory: IDBFactory,
    private readonly _name: string,
    private readonly _maxAgeMs: number,
    private readonly _wall: () => number,
    private readonly _setTimer: (run: () => void, ms: number) => () => void,
  ) {}

  async load(): Promise<Kept> {
    return this._twice(async () => {
      const db = (this._db ??= await this._open(true));
      const oldest = this._wall() - this._maxAgeMs;
      const all = <T>(of: (store: string) => IDBObjectStore, store: string): IDBRequest<T[]> => of(store).getAll();
      let asked!: [IDBRequest<number | undefined>, IDBRequest<Row[]>, IDBRequest<Place[]>, IDBRequest<MessageRow[]>, IDBRequest<IDBValidKey[]>];
      const read = (of: (store: string) => IDBObjectStore): void =>
        void (asked = [of('meta').get('schema'), all(of, 'outbox'), all(of, 'place'), all(of, 'message'), of('message').getAllKeys()]);
      await this._run(db, 'relaxed', read, ANY());
      const [schema, outbox, { result: places }, { result: messages }, { result: keys }] = asked;
      // What is only cached comes again; what the user said does not.
      const newer = (schema.result ?? 0) > SCHEMA;
      const stays = ({ at }: MessageRow): boolean => !newer && at >= oldest;
      if (newer) places.length = 0;
      if (schema.result !== SCHEMA || !messages.every(stays)) {
        await this._run(db, 'relaxed', (of) => {
          of('meta').put(SCHEMA, 'schema');
          if (newer) of('place').clear();
          messages.forEach((row, index) => stays(row) || of('message').delete(keys[index] as IDBValidKey));
        });
      }
      this._key = Number(keys.at(-1) ?? 0);
      this._keys.clear();
      messages.forEach((row, index) => stays(row) && this._keysOf(row.topic).push(keys[index] as number));
      const rows = outbox.result.filter((row) => typeof row.messageId === 'string' && typeof row.envelope === 'string');
      rows.sort((a, b) => a.seq - b.seq);
      this._outbox = new Map(rows.map((row) => [row.messageId, row]));
      this._places = new Map(places.map((place) => [place.name, place]));
      this._seq = rows.at(-1)?.seq ?? 0;
      this._forget();
      return { publishes: rows, messages: messages.filter(stays), places };
    });
  }

  async commit(writes: readonly Write[]): Promise<void> {
    const batch = writes.map((write) => this._apply(write));
    this._uncommitted.add(batch);
    const strict = writes.some(([what]) => what === 'enqueue');
    let cause: unknown;
    try {
      // Without a connection one is being opened, perhaps: then this goes with what waits for it.
      if (this._db) {
        await this._run(this._db, strict ? 'strict' : 'relaxed', (of) => batch.forEach((step) => step(of)));
        this._uncommitted.delete(batch);
      }
    } catch (error) {
      cause = error;
    }
    while (this._uncommitted.has(batch)) await (this._again ??= this._rewrite(cause));
  }

  async wipe(): Promise<void> {
    const db = (this._db ??= await this._open(true));
    // Whatever still writes for this owner finds that it has lost the database; this page goes on with an empty one.
    await this._run(db, 'strict', (of) => ['outbox', 'message', 'place'].forEach((store) => of(store).clear()), ANY());
    for (const all of [this._outbox, this._places, this._keys]) all.clear();
    this._anew = false;
    this._forget();
  }

  close(): void {
    this._db?.close();
    this._db = undefined;
  }

  /** As `Kept::apply` says: in memory at once, and how to do it in the database, again and again if need be. Nothing is read for it. */
  private _apply(write: Write): Step {
    switch (write[0]) {
      case 'enqueue': {
        const [, messageId, envelope, expires] = write;
        const row = { messageId, envelope, expires, wedged: null, seq: (this._seq += 1) };
        this._outbox.delete(messageId);
        this._outbox.set(messageId, row);
        return (of) => of('outbox').put(row);
      }
      case 'wedge': {
        const [, messageId, code, message = ''] = write;
        const row = this._outbox.get(messageId);
        if (!row) return () => {};
        const next: Row = { ...row, wedged: code === undefined ? null : [code, message] };
        this._outbox.set(messageId, next);
        return (of) => of('outbox').put(next);
      }
      case 'settle':
        this._outbox.delete(write[1]);
        return (of) => of('outbox').delete(write[1]);
      case 'message': {
        const [, topic, position, envelope, flags = 0] = write;
        const key = (this._key += 1);
        this._keysOf(topic).push(key);
        const row: MessageRow = { topic, position, envelope, flags, at: this._wall() };
        return (of) => of('message').put(row, key);
      }
      case 'trim': {
        const all = this._keysOf(write[1]);
        const beyond = all.splice(0, Math.max(0, all.length - write[2]));
        return (of) => beyond.forEach((key) => of('message').delete(key));
      }
      case 'cursor': {
        const [, name, filter, cursor] = write;
        if (filter === undefined || cursor === undefined) {
          this._places.delete(name);
          return (of) => of('place').delete(name);
        }
        const place = { name, filter, cursor };
        this._places.set(name, place);
        return (of) => of('place').put(place);
      }
    }
  }

  private _keysOf(topic: string): number[] {
    const all = this._keys.get(topic) ?? [];
    this._keys.set(topic, all);
    return all;
  }

  /** Writes with a new connection all that is not known to be committed. `cause`: why the first try has failed. */
  private async _rewrite(cause: unknown): Promise<void> {
    await this._twice(async (full) => {
      const db = (this._db ??= await this._open(false));
      const batches = [...this._uncommitted];
      const write: Step = (of) => {
        if (this._anew) {
          for (const row of this._outbox.values()) of('outbox').put(row);
          for (const place of this._places.values()) of('place').put(place);
        }
        if (full) of('message').clear();
        for (const step of batches.flat()) step(of);
      };
      // What is said to have failed may be committed: the last one may be any of this page's.
      await this._run(db, 'strict', write, IDBKeyRange.bound([this._mark], [this._mark, Number.POSITIVE_INFINITY]));
      this._anew = false;
      for (const batch of batches) this._uncommitted.delete(batch);
    }, cause);
    this._again = undefined;
  }

  /** What was not committed never will be. */
  private _forget(): void {
    this._uncommitted.clear();
    this._again = undefined;
  }

  /** Tries again with a new connection, once; if there was no room, without the cache. With a `cause` the first try is over. */
  private async _twice<T>(act: (full: boolean) => Promise<T>, cause?: unknown): Promise<T> {
    try {
      if (cause === undefined) return await act(false);
    } catch (error) {
      cause = error;
    }
    this.close();
    if (cause instanceof Taken || cause instanceof Held) throw cause;
    return act(cause instanceof DOMException && cause.name === 'QuotaExceededError');
  }

  /** One transaction; resolves when it is committed. It fails unless the last in the database is one of `over`: the one before it, if nothing is said. */
  private _run(db: IDBDatabase, durability: IDBTransactionDurability, act: Step, over: IDBKeyRange | IDBValidKey = [this._mark, this._transactions]): Promise<void> {
    return new Promise((resolve, reject) => {
      const transaction = db.transaction(STORES, 'readwrite', { durability });
      const of = (store: string): IDBObjectStore => transaction.objectStore(store);
      let why: unknown;
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(why ?? transaction.error ?? new Error('the browser gave up a transaction'));
      try {
        of('owner').delete(over);
        of('owner').put({ only: 1 }, [this._mark, (this._transactions += 1)]).onerror = () => (why = new Taken());
        act(of);
        transaction.commit();
      } catch (error) {
        why = error;
        transaction.abort();
      }
    });
  }

  /** `first`: this page is to own it from here on. Later it must still be this page's, or have been deleted. */
  private async _open(first: boolean): Promise<IDBDatabase> {
    let made = false;
    const upgrade = (db: IDBDatabase, from: number): void => {
      made = from === 0;
      MIGRATIONS.slice(from).forEach((step) => step(db));
    };
    let db: IDBDatabase;
    try {
      db = await this._request(SCHEMA, upgrade);
    } catch (cause) {
      if (!(cause instanceof DOMException && cause.name === 'VersionError')) throw cause;
      if (!first) throw new Taken();
      db = await this._request(undefined, upgrade);
      if (STORES.some((store) => !db.objectStoreNames.contains(store))) {
        db.close();
        throw new Error('it was written by a newer version, which this one cannot read');
      }
    }
    const gone = (): void => {
      db.close();
      if (this._db === db) this._db = undefined;
    };
    // A newer page wants to change it; or the browser has taken it away.
    db.onversionchange = gone;
    db.onclose = gone;
    if (made && !first) {
      this._anew = true;
      await this._run(db, 'relaxed', (of) => of('meta').put(SCHEMA, 'schema'), ANY());
    }
    return db;
  }

  private _request(version: number | undefined, upgrade: (db: IDBDatabase, from: number) => void): Promise<IDBDatabase> {
    return new Promise((resolve, reject) => {
      const request = this._factory.open(this._name, version);
      let late = false;
      const giveUp = (): void => {
        late = true;
        reject(new Held());
      };
      let stop = this._setTimer(giveUp, OPEN_MS);
      request.onblocked = () => {
        stop();
        stop = this._setTimer(giveUp, BLOCKED_MS);
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
