/** The store in a real browser: over reloads, and when the browser takes it away. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, beforeEach, test } from 'node:test';
import type { Page } from 'playwright-core';
import type { Write } from '../src/keeping.ts';
import { Site } from './site.ts';
import { until } from './until.ts';
import { has, numbers, phase, range, type Scope, World } from './world.ts';

let world: World;
/** Each test has a user of its own, and so a store. */
let user = '';
let users = 0;

before(async () => (world = await World.start()));
after(() => world.stop());
beforeEach(() => {
  user = `user-${(users += 1)}`;
  world.link.heal();
});

const { rounds } = JSON.parse(readFileSync(new URL('../../../sdk-core/tests/store.json', import.meta.url), 'utf8')) as {
  rounds: { writes: Write[]; kept?: unknown }[];
};

const storage = (page: Page) => page.evaluate(() => (globalThis as unknown as Scope).client.storage.get());
const outbox = (page: Page) => page.evaluate(async () => (await (globalThis as unknown as Scope).client.outbox()).map(({ payload }) => payload));
const queue = (page: Page, topic: string, n: number) =>
  page.evaluate(async ([topic, n]) => void (await (globalThis as unknown as Scope).client.publish(topic, { n }, { queue: true })), [topic, n] as const);

/** What the log has on a topic, as another user sees it. */
async function published(topic: string): Promise<number[]> {
  const page = await world.tab();
  await world.begin(page, { user: `witness of ${topic}`, silent: true });
  await page.evaluate((topic) => {
    const scope = globalThis as unknown as Scope;
    scope.client.on<{ n: number }>(topic, (event) => scope.seen.push([event.type, event.type === 'message' ? event.payload.n : -1]), { from: 'earliest' });
  }, topic);
  await until('the witness is live', 20_000, async () => (await page.evaluate(() => (globalThis as unknown as Scope).seen.some(([type]) => type === 'live'))));
  const all = await numbers(page, 'message');
  await page.close();
  return all;
}

/** In the page: a keeper for this owner, without a client. */
function inPage(): void {
  const scope = globalThis as unknown as Scope & { keeper(owner: string): unknown; told(kept: unknown): unknown };
  scope.keeper = (owner) =>
    scope.lib.indexedDb()({
      owner,
      alone: true,
      wall: () => Date.now(),
      setTimer: (run, ms) => {
        const timer = setTimeout(run, ms);
        return () => clearTimeout(timer);
      },
      changed: () => {},
    });
}

interface PageKeeper {
  load(): Promise<{
    publishes: { messageId: string; envelope: string; expires: number | null; wedged: unknown }[];
    messages: { topic: string; position: string; envelope: string; flags: number }[];
    places: { name: string; filter: string; cursor: string }[];
  }>;
  write(write: unknown): void;
  flush(): Promise<string | null>;
  hurry(): void;
  close(): void;
}

test('keeps what every store keeps, and all of a batch or nothing', async () => {
  const page = await world.tab();
  await page.evaluate(inPage);
  const failures = await page.evaluate(
    async ({ rounds, owner }) => {
      const scope = globalThis as unknown as { keeper(owner: string): PageKeeper };
      const told = ({ publishes, messages, places }: Awaited<ReturnType<PageKeeper['load']>>) => ({
        messages: messages.map(({ topic, position, envelope, flags }) => ['message', topic, position, envelope, ...(flags > 0 ? [flags] : [])]),
        places: places.sort((a, b) => (a.name < b.name ? -1 : 1)).map(({ name, filter, cursor }) => ['cursor', name, filter, cursor]),
        publishes: publishes.map(({ messageId, envelope, expires, wedged }) => [messageId, envelope, expires, wedged]),
      });
      const failures: string[] = [];
      const same = (what: string, a: unknown, b: unknown): void => {
        if (JSON.stringify(a) !== JSON.stringify(b)) failures.push(`${what}: ${JSON.stringify(a)} is not ${JSON.stringify(b)}`);
      };
      const { put, add, delete: remove } = IDBObjectStore.prototype;
      let left = Number.POSITIVE_INFINITY;
      const counted = <F extends (...args: never[]) => unknown>(run: F) =>
        function (this: IDBObjectStore, ...args: Parameters<F>): unknown {
          // As a page that ends here: nothing more is asked of the database, and the transaction never ends well.
          if (left-- <= 0) throw new DOMException('the page has ended', 'AbortError');
          return run.apply(this, args);
        };
      Object.assign(IDBObjectStore.prototype, { put: counted(put), add: counted(add), delete: counted(remove) });
      let crashes = 0;
      for (const [round, { writes, kept }] of rounds.entries()) {
        // A crash before each request of the batch: what was there is there.
        const whole = scope.keeper(owner);
        const before = told(await whole.load());
        whole.close();
        for (let at = 0; round < 25 && at < writes.length + 2; at += 1) {
          const keeper = scope.keeper(owner);
          await keeper.load();
          for (const write of writes) keeper.write(write);
          left = at;
          const reason = await keeper.flush();
          left = Number.POSITIVE_INFINITY;
          if (reason === null) break; // The batch asks for fewer than it says.
          crashes += 1;
          keeper.close();
          const next = scope.keeper(owner);
          same(`round ${round}, a crash at ${at}`, told(await next.load()), before);
          next.close();
        }
        const keeper = scope.keeper(owner);
        const found = told(await keeper.load());
        if (JSON.stringify(found) === JSON.stringify(before)) {
          for (const write of writes) keeper.write(write);
          same(`round ${round}`, await keeper.flush(), null);
        }
        if (kept) same(`what is kept after round ${round}`, told(await keeper.load()), kept);
        keeper.close();
      }
      if (crashes < 20) failures.push(`only ${crashes} crashes`);
      return failures;
    },
    { rounds, owner: user },
  );
  assert.deepEqual(failures.slice(0, 3), []);
  await page.close();
});

test('a reload paints from the store, and goes on without a gap or a double', async () => {
  const page = await world.app({ user });
  await world.live(page);
  await world.count(1, 30);
  await has(page, 30);
  world.link.cut();
  await world.reload(page, { user });
  await until('painted', 10_000, async () => (await numbers(page, 'cached')).length > 0);
  assert.notEqual(await phase(page), 'live', 'without a connection');
  const painted = await numbers(page, 'cached', 'message');
  assert.deepEqual(painted, range(1, painted.at(-1) ?? 0));
  await world.count(31, 60);
  world.link.heal();
  await has(page, 60);
  assert.deepEqual(await numbers(page, 'cached', 'message'), range(1, 60));
  assert.deepEqual(await numbers(page, 'gap'), []);
  assert.deepEqual(await storage(page), { kind: 'durable' });
  await page.close();
});

test('a reload paints soon, from a full store', async (t) => {
  const page = await world.app({ user });
  await world.live(page);
  await world.count(1, 500);
  await has(page, 500);
  await world.reload(page, { user });
  await until('painted', 10_000, async () => (await numbers(page, 'cached')).length > 0);
  const ms = await page.evaluate(() => (globalThis as unknown as Scope).painted - (globalThis as unknown as Scope).begun);
  t.diagnostic(`${(await numbers(page, 'cached')).length} cached values, the first ${Math.round(ms)} ms after createClient`);
  assert.equal((await numbers(page, 'cached')).length, 128);
  await page.close();
});

test('what was queued is published once by the next page, whatever ended this one', async () => {
  world.link.cut();
  const topic = `queue/${user}`;
  let page = await world.app({ user, silent: true });
  await queue(page, topic, 1);
  await page.reload();
  await world.loaded(page);
  await world.begin(page, { user, silent: true });
  assert.deepEqual(await outbox(page), [{ n: 1 }]);
  await queue(page, topic, 2);
  await page.close();
  page = await world.app({ user, silent: true });
  assert.deepEqual(await outbox(page), [{ n: 1 }, { n: 2 }]);
  world.link.heal();
  await page.evaluate(() => (globalThis as unknown as Scope).client.connect());
  await until('an empty outbox', 20_000, async () => (await outbox(page)).length === 0);
  assert.deepEqual(await published(topic), [1, 2]);
  await page.close();
});

test('a thousand are queued, and then there is a connection', async () => {
  world.link.cut();
  const topic = `queue/${user}`;
  const page = await world.app({ user, silent: true });
  await page.evaluate(async (topic) => {
    const { client } = globalThis as unknown as Scope;
    await Promise.all(Array.from({ length: 1_000 }, (_, i) => client.publish(topic, { n: i + 1 }, { queue: true })));
  }, topic);
  await page.reload();
  await world.loaded(page);
  world.link.heal();
  await world.begin(page, { user, silent: true });
  await until('an empty outbox', 30_000, async () => (await outbox(page)).length === 0);
  assert.deepEqual(await published(topic), range(1, 1_000));
  await page.close();
});

test('the database is deleted under us: what matters is written again', async () => {
  world.link.cut();
  const topic = `queue/${user}`;
  const page = await world.app({ user });
  await queue(page, topic, 1);
  const session = await page.context().newCDPSession(page);
  await session.send('Storage.clearDataForOrigin', { origin: new URL(world.site.url).origin, storageTypes: 'indexeddb' });
  await queue(page, topic, 2);
  assert.deepEqual(await storage(page), { kind: 'durable' });
  await world.reload(page, { user });
  assert.deepEqual(await outbox(page), [{ n: 1 }, { n: 2 }]);
  await page.close();
});

test('no room: the page says that it keeps nothing any more, and goes on', async () => {
  // An origin that was not used before: Chromium remembers for a while how much room there was.
  const site = await Site.start();
  const page = await world.chromium.tab(site.url);
  await world.loaded(page);
  const session = await page.context().newCDPSession(page);
  const { origin } = new URL(site.url);
  await session.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 300_000 });
  await world.begin(page, { user });
  await world.live(page);
  assert.deepEqual(await storage(page), { kind: 'durable' });
  // Nothing that can be compressed.
  for (let n = 1; n <= 10; n += 1) await world.gateway.publish('log/large', { n, text: randomBytes(150_000).toString('base64') });
  await has(page, 10);
  await until('it says so', 20_000, async () => (await storage(page)).kind === 'memory');
  const { errors } = await page.evaluate(() => ({ errors: (globalThis as unknown as Scope).errors }));
  assert.ok(errors.some((error) => error.startsWith('storage: ')), errors.join());
  await world.count(11, 13, 'log/large');
  await has(page, 13);
  assert.deepEqual(await numbers(page, 'message'), range(1, 13));
  await page.close();
  site.stop();
});

test('a page that was overtaken writes nothing any more', async () => {
  const page = await world.tab();
  await page.evaluate(inPage);
  const [reason, kept] = await page.evaluate(async (owner) => {
    const scope = globalThis as unknown as { keeper(owner: string): PageKeeper };
    const [old, next] = [scope.keeper(owner), scope.keeper(owner)];
    await old.load();
    old.write(['enqueue', 'm-1', '{}', null]);
    await old.flush();
    await next.load();
    // Nor in a hurry, as a page does that ends, or is told that another leads.
    old.write(['settle', 'm-1']);
    old.hurry();
    const kept = (await next.load()).publishes.map(({ messageId }) => messageId);
    return [await old.flush(), kept];
  }, user);
  assert.match(String(reason), /taken/);
  assert.deepEqual(kept, ['m-1']);
  await page.close();
});

/** In the page: a commit of `a`, and while it is under way another of `b`, in a hurry; `broken` makes the first fail so often, long after both were asked for. */
async function overlap({ owner, broken = 0 }: { owner: string; broken?: number }): Promise<{ atOnce: number; told: (string | null)[] }> {
  const scope = globalThis as unknown as { keeper(owner: string): PageKeeper; kept: PageKeeper };
  const keeper = (scope.kept = scope.keeper(owner));
  await keeper.load();
  const { put } = IDBObjectStore.prototype;
  const { transaction } = IDBDatabase.prototype;
  let left = broken;
  let begun = 0;
  Object.assign(IDBObjectStore.prototype, {
    put(this: IDBObjectStore, row: { messageId?: string }, ...key: IDBValidKey[]) {
      const request = put.call(this, row, ...key);
      // There already, as the database finds when it comes to it.
      if (row.messageId === 'a' && left-- > 0) this.add(row);
      return request;
    },
  });
  Object.assign(IDBDatabase.prototype, {
    transaction(this: IDBDatabase, ...how: Parameters<typeof transaction>) {
      begun += 1;
      return transaction.apply(this, how);
    },
  });
  const message = (n: number): void => keeper.write(['message', 't', `0:${n}`, `{"n":${n}}`]);
  keeper.write(['enqueue', 'a', '{}', null]);
  message(1);
  keeper.write(['cursor', 'mine', 't', 'c/0:1']);
  const first = keeper.flush();
  while (begun === 0) await null;
  keeper.write(['enqueue', 'b', '{}', null]);
  message(2);
  message(3);
  keeper.write(['trim', 't', 2]);
  keeper.write(['cursor', 'mine', 't', 'c/0:3']);
  keeper.hurry();
  const atOnce = begun;
  const told = [await first, await keeper.flush()];
  Object.assign(IDBObjectStore.prototype, { put });
  Object.assign(IDBDatabase.prototype, { transaction });
  return { atOnce, told };
}

/** In the page: what the next page finds. */
async function next(owner: string): Promise<unknown> {
  const keeper = (globalThis as unknown as { keeper(owner: string): PageKeeper }).keeper(owner);
  const { publishes, messages, places } = await keeper.load();
  keeper.close();
  return [publishes.map(({ messageId, wedged }) => [messageId, wedged]), messages.map(({ position }) => position), places.map(({ cursor }) => cursor)];
}

test('commits that overlap count in their order', async () => {
  const page = await world.tab();
  await page.evaluate(inPage);
  const result = await page.evaluate(overlap, { owner: user });
  assert.deepEqual(result, { atOnce: 2, told: [null, null] }, 'the second does not wait: the page may be about to end');
  const refused = await page.evaluate(async () => {
    const { kept } = globalThis as unknown as { kept: PageKeeper };
    for (const id of ['a', 'b']) kept.write(['wedge', id, 4400, 'no']);
    return kept.flush();
  });
  assert.equal(refused, null);
  const wedged = [['a', [4400, 'no']], ['b', [4400, 'no']]];
  assert.deepEqual(await page.evaluate(next, user), [wedged, ['0:2', '0:3'], ['c/0:3']]);
  await page.close();
});

test('a commit that fails takes those behind it along, and all are tried again in their order', async () => {
  const page = await world.tab();
  await page.evaluate(inPage);
  assert.deepEqual(await page.evaluate(overlap, { owner: user, broken: 1 }), { atOnce: 2, told: [null, null] });
  const all = [[['a', null], ['b', null]], ['0:2', '0:3'], ['c/0:3']];
  assert.deepEqual(await page.evaluate(next, user), all);

  // For good: what came later is not there without it.
  const { told } = await page.evaluate(overlap, { owner: `${user} again`, broken: 2 });
  assert.deepEqual(told.map((reason) => /already exists|constraint/i.test(String(reason))), [true, true], told.join());
  assert.deepEqual(await page.evaluate(next, `${user} again`), [[], [], []]);
  await page.close();
});

test('the database is deleted after commits that overlapped: what both said is written again', async () => {
  const page = await world.tab();
  await page.evaluate(inPage);
  await page.evaluate(overlap, { owner: user });
  const reason = await page.evaluate(async (owner) => {
    const { kept } = globalThis as unknown as { kept: PageKeeper };
    await new Promise((resolve) => (indexedDB.deleteDatabase(`anabranch ${owner}`).onsuccess = resolve));
    kept.write(['enqueue', 'c', '{}', null]);
    kept.write(['message', 't', '0:4', '{}']);
    kept.write(['trim', 't', 2]);
    // There is no connection: what comes while one is opened goes with it.
    const flushed = kept.flush();
    for (let i = 0; i < 5; i += 1) await null;
    kept.write(['enqueue', 'd', '{}', null]);
    kept.hurry();
    return [await flushed, await kept.flush()];
  }, user);
  assert.deepEqual(reason, [null, null]);
  assert.deepEqual(await page.evaluate(next, user), [['a', 'b', 'c', 'd'].map((id) => [id, null]), ['0:4'], ['c/0:3']]);
  await page.close();
});

test('a connection is lost again while what it is opened for is under way: nothing is said to be stored that is not', async () => {
  const page = await world.tab();
  await page.evaluate(inPage);
  const told = await page.evaluate(async (owner) => {
    const keeper = (globalThis as unknown as { keeper(owner: string): PageKeeper }).keeper(owner);
    await keeper.load();
    const { transaction } = IDBDatabase.prototype;
    let begun = 0;
    const told: Promise<string | null>[] = [];
    const give = (id: string): void => {
      keeper.write(['enqueue', id, '{}', null]);
      keeper.hurry();
      told.push(keeper.flush());
    };
    // `a` goes with the first connection; `b` opens the second; `c` comes before that has its transaction, and `d` right behind.
    const late = new Promise<void>((resolve) =>
      Object.assign(IDBDatabase.prototype, {
        transaction(this: IDBDatabase, ...how: Parameters<typeof transaction>) {
          const made = transaction.apply(this, how);
          begun += 1;
          // Its page is asked to let go of the connection, and does.
          this.dispatchEvent(new Event('versionchange'));
          if (begun === 2) queueMicrotask(() => resolve(give('d')));
          return made;
        },
      }),
    );
    for (const id of ['a', 'b', 'c']) give(id);
    await late;
    const outcomes = await Promise.all(told);
    Object.assign(IDBDatabase.prototype, { transaction });
    return [outcomes, begun];
  }, user);
  assert.deepEqual(told, [[null, null, null, null], 3]);
  assert.deepEqual(await page.evaluate(next, user), [['a', 'b', 'c', 'd'].map((id) => [id, null]), [], []]);
  await page.close();
});

test('a page whose policy forbids wasm is told what it lacks', async () => {
  const page = await world.chromium.tab(`${world.site.url}strict`);
  await world.loaded(page);
  await world.begin(page, { user });
  await until('closed', 20_000, async () => (await phase(page)) === 'closed');
  const { errors, hint } = await page.evaluate(async () => {
    const scope = globalThis as unknown as Scope;
    const { code } = scope.client.state.get();
    return { errors: scope.errors, hint: code };
  });
  assert.equal(hint, 'core_failed');
  assert.ok(errors.some((error) => /^core_failed: .*(CSP|Content Security Policy|wasm)/i.test(error)), errors.join());
  await page.close();
});

test('another page does not let go of the database: this one says so, and works', async () => {
  const old = await world.tab();
  const owner = `${world.gateway.url} ${user}`;
  await old.evaluate(async (name) => {
    await new Promise((resolve) => (indexedDB.open(name, 1).onsuccess = resolve));
    indexedDB.deleteDatabase(name);
  }, `anabranch ${owner}`);
  const page = await world.app({ user });
  await world.live(page);
  const { kind, reason } = { reason: null, ...(await storage(page)) } as { kind: string; reason: string | null };
  assert.equal(kind, 'memory');
  assert.match(String(reason), /another page/);
  await world.count(1, 2, 'log/b');
  await until('messages', 20_000, async () => (await numbers(page, 'message')).length === 2);
  await page.close();
  await old.close();
});

test('of a newer version the outbox is taken over, and the cache dropped', async () => {
  world.link.cut();
  const page = await world.app({ user });
  await queue(page, 'queue/x', 1);
  await page.evaluate(() => (globalThis as unknown as Scope).client.close());
  const name = `anabranch ${world.gateway.url} ${user}`;
  await page.reload();
  await world.loaded(page);
  await page.evaluate(
    (name) =>
      new Promise<void>((resolve) => {
        const request = indexedDB.open(name, 9);
        request.onupgradeneeded = () => {
          const of = (store: string) => (request.transaction as IDBTransaction).objectStore(store);
          request.result.createObjectStore('more');
          of('meta').put(9, 'schema');
          of('message').add({ topic: 'log/a', position: '0:1', envelope: '{}', flags: 0, at: Date.now() });
          of('place').put({ name: 'log/# 0', filter: 'log/#', cursor: '7f3a9c21d0e1b2c4/0:1' });
        };
        request.onsuccess = () => {
          request.result.close();
          resolve();
        };
      }),
    name,
  );
  await world.begin(page, { user });
  assert.deepEqual(await outbox(page), [{ n: 1 }]);
  assert.deepEqual(await storage(page), { kind: 'durable' });
  assert.deepEqual(await numbers(page, 'cached'), []);
  await page.close();
});

test('of an older version everything is taken over', async () => {
  world.link.cut();
  const page = await world.tab();
  const metadata = { messageId: 'm-1', timestamp: '2026-11-21T05:20:00Z', topic: 'queue/x', source: 's', version: '1.0' };
  await page.evaluate(
    ([name, queued, cached]) =>
      new Promise<void>((resolve) => {
        // The first version, which had no row for the page that owns it.
        const request = indexedDB.open(name, 1);
        request.onupgradeneeded = () => {
          const db = request.result;
          db.createObjectStore('outbox', { keyPath: 'messageId' }).put({ messageId: 'm-1', envelope: queued, expires: null, wedged: null, seq: 1 });
          const messages = db.createObjectStore('message', { autoIncrement: true });
          messages.createIndex('topic', 'topic');
          messages.add({ topic: 'log/a', position: '0:1:00000001', envelope: cached, flags: 0, at: Date.now() });
          db.createObjectStore('place', { keyPath: 'name' }).put({ name: 'log/# 0', filter: 'log/#', cursor: '7f3a9c21d0e1b2c4/0:1:00000001' });
          const meta = db.createObjectStore('meta');
          meta.put(1, 'schema');
          meta.put('a page that is gone', 'owner');
        };
        request.onsuccess = () => {
          request.result.close();
          resolve();
        };
      }),
    [`anabranch ${world.gateway.url} ${user}`, JSON.stringify({ metadata, payload: { n: 1 } }), JSON.stringify({ metadata: { ...metadata, topic: 'log/a' }, payload: { n: 7 } })] as const,
  );
  await world.begin(page, { user });
  assert.deepEqual(await outbox(page), [{ n: 1 }]);
  await has(page, 7);
  await queue(page, 'queue/x', 2);
  await world.reload(page, { user });
  assert.deepEqual(await outbox(page), [{ n: 1 }, { n: 2 }]);
  assert.deepEqual([await numbers(page, 'cached'), await storage(page)], [[7], { kind: 'durable' }]);
  await page.close();
});
