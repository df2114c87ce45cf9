/** Tabs that share one connection, in a real browser: one socket, and somebody who takes over, whatever ends the leader. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test, type TestContext } from 'node:test';
import type { Page } from 'playwright-core';
import { token } from './gateway.ts';
import { until } from './until.ts';
import { errors, has, is, numbers, phase, range, type Scope, World } from './world.ts';

let world: World;
let user = '';
let topic = '';
let users = 0;
let pages: Page[] = [];

before(async () => (world = await World.start()));
after(() => world.stop());
beforeEach(() => {
  user = `user-${(users += 1)}`;
  topic = `log/${user}`;
  world.link.total = 0;
  world.link.heal();
});
afterEach(async () => {
  await Promise.all(pages.map((page) => page.close().catch(() => {})));
  pages = [];
  await until('no connection is left', 20_000, () => world.link.connections.size === 0);
});

async function open(): Promise<Page> {
  const page = await world.app({ user, filter: topic, shared: true });
  pages.push(page);
  return page;
}

const role = (page: Page): Promise<string> => page.evaluate(() => (globalThis as unknown as Scope).client.role);

/** Some tabs, all live; the first one leads, the last one is in front. */
async function group(many: number): Promise<Page[]> {
  const first = await open();
  await world.live(first);
  const others: Page[] = [];
  for (let i = 1; i < many; i += 1) others.push(await open());
  for (const page of others) {
    await world.live(page);
    await until('it follows', 10_000, async () => (await role(page)) === 'follower');
  }
  assert.equal(await role(first), 'leader');
  assert.equal(world.link.connections.size, 1);
  return [first, ...others];
}

/** Publishes one number after the other until it is stopped; says how many there were. */
function stream(from: number): { stop(): Promise<number> } {
  let over = false;
  const done = (async () => {
    let n = from;
    for (; !over; n += 1) await world.gateway.publish(topic, { n });
    return n - 1;
  })();
  return { stop: () => ((over = true), done) };
}

/** What a page was given after the connection that it had at this moment had gone: when the first message came again, and when it was live again. */
function back(page: Page, since: number): Promise<{ message: number; live: number } | undefined> {
  return page.evaluate((since) => {
    const { phases, seen, given } = globalThis as unknown as Scope;
    const left = phases.find(([phase, at]) => phase !== 'live' && at >= since)?.[1] ?? Number.POSITIVE_INFINITY;
    const first = (what: string): number => given[seen.findIndex(([type], index) => type === what && (given[index] ?? 0) >= left)] ?? 0;
    const [message, live] = [first('message'), first('live')];
    return message > 0 && live > 0 ? { message: message - since, live: live - since } : undefined;
  }, since);
}

/**
 * Ends the leader while messages come, and waits until one of the others leads and all have everything, once and in order. How long it took is as the
 * pages saw it: asking them, while all of this goes on beside them, is slow. `end` may resolve with when it was.
 */
async function handOver(t: TestContext, rest: Page[], end: () => Promise<unknown>): Promise<void> {
  const messages = stream(1);
  for (const page of rest) await has(page, 5);
  const begun = Date.now();
  const ended = end();
  await until('another leads', 15_000, async () => {
    for (const page of rest) if ((await role(page)) === 'leader') return true;
    return false;
  });
  for (const page of rest) await until('messages come again', 15_000, () => back(page, begun));
  const last = await messages.stop();
  for (const page of rest) {
    await has(page, last);
    assert.deepEqual(await numbers(page, 'message'), range(1, last), 'once, in order, all');
    assert.deepEqual(await numbers(page, 'gap'), []);
  }
  const end_ = await ended;
  const since = typeof end_ === 'number' ? end_ : begun;
  for (const page of rest) {
    const { message, live } = (await back(page, since)) ?? { message: Infinity, live: Infinity };
    t.diagnostic(`a message after ${message} ms, live after ${live} ms`);
    assert.ok(live <= 3_000, `live again after ${live} ms`);
  }
}

/** Keeps a page from doing anything, as a loop without an end does; resolves with when that began. */
const hang = (page: Page, ms: number): Promise<number> =>
  page.evaluate((ms) => {
    const [begun, until] = [Date.now(), performance.now() + ms];
    while (performance.now() < until);
    return begun;
  }, ms);

/** What follows when a leader that hung is back. */
async function comesBack(leader: Page, other: Page): Promise<void> {
  const last = (await numbers(other, 'message')).at(-1) ?? 0;
  await has(leader, last);
  assert.deepEqual(await numbers(leader, 'message'), range(1, last));
  await until('it follows', 10_000, async () => (await role(leader)) === 'follower');
  await until('one connection', 10_000, () => world.link.connections.size === 1);
  assert.deepEqual(await errors(leader), []);
  for (const page of [leader, other]) assert.deepEqual(await page.evaluate(() => (globalThis as unknown as Scope).client.storage.get()), { kind: 'durable' });
}

test('ten tabs at once have one connection, and all of them everything', async () => {
  const all = await Promise.all(Array.from({ length: 10 }, open));
  for (const page of all) await world.live(page);
  await world.count(1, 20, topic);
  for (const page of all) await has(page, 20);
  for (const page of all) assert.deepEqual(await numbers(page, 'message'), range(1, 20));
  assert.deepEqual([world.link.connections.size, world.link.total], [1, 1]);
  const roles = await Promise.all(all.map(role));
  assert.equal(roles.filter((role) => role === 'leader').length, 1);
  assert.equal(roles.filter((role) => role === 'follower').length, 9);
});

test('a tab that comes later begins with what the leader has, and goes on from there', async () => {
  const [leader] = (await group(1)) as [Page];
  await world.count(1, 10, topic);
  await has(leader, 10);
  const late = await open();
  await has(late, 10);
  await world.count(11, 15, topic);
  await has(late, 15);
  const all = await numbers(late, 'cached', 'message');
  assert.deepEqual(all, range(all[0] ?? 0, 15));
  assert.ok((await numbers(late, 'cached')).length > 0);
  assert.equal(world.link.total, 1);
});

test('the leader is closed', async (t) => {
  const [leader, ...rest] = (await group(3)) as [Page, ...Page[]];
  await handOver(t, rest, () => leader.close());
  await until('one connection', 10_000, () => world.link.connections.size === 1);
});

test('the leader crashes', async (t) => {
  const [leader, ...rest] = (await group(3)) as [Page, ...Page[]];
  const session = await leader.context().newCDPSession(leader);
  await handOver(t, rest, async () => void session.send('Page.crash').catch(() => {}));
  await until('one connection', 10_000, () => world.link.connections.size === 1);
});

test('the leader is frozen', async (t) => {
  const [leader, ...rest] = (await group(2)) as [Page, Page];
  assert.equal(await leader.evaluate(() => document.visibilityState), 'hidden');
  const session = await leader.context().newCDPSession(leader);
  await handOver(t, rest, () => session.send('Page.setWebLifecycleState', { state: 'frozen' }));
  await session.send('Page.setWebLifecycleState', { state: 'active' });
  const last = (await numbers(rest[0] as Page, 'message')).at(-1) ?? 0;
  await has(leader, last);
  assert.deepEqual(await numbers(leader, 'message'), range(1, last), 'it follows now, and has missed nothing');
  assert.equal(await role(leader), 'follower');
});

test('the leader hangs, and comes back', async (t) => {
  const [leader, other] = (await group(2)) as [Page, Page];
  await handOver(t, [other], () => hang(leader, 12_000));
  await comesBack(leader, other);
});

test('the leader hangs while it writes to the store', async (t) => {
  const [leader, other] = (await group(2)) as [Page, Page];
  const midway = (): Promise<number> =>
    leader.evaluate(
      () =>
        new Promise<number>((resolve) => {
          const { transaction } = IDBDatabase.prototype;
          IDBDatabase.prototype.transaction = function (...args) {
            IDBDatabase.prototype.transaction = transaction;
            // All that is asked of it is asked in this turn; no answer is seen.
            queueMicrotask(() => {
              const [begun, until] = [Date.now(), performance.now() + 12_000];
              while (performance.now() < until);
              resolve(begun);
            });
            return transaction.apply(this, args);
          };
        }),
    );
  await handOver(t, [other], midway);
  await comesBack(leader, other);
});

test('a leader whose database does not open goes on in memory, undisturbed, and nobody says that there is a connection', async () => {
  const first = await open();
  await world.live(first);
  const rest: Page[] = [];
  for (let i = 0; i < 2; i += 1) {
    const page = await world.tab();
    pages.push(page);
    await page.evaluate(() => {
      // One that answers neither yes nor no.
      IDBFactory.prototype.open = function () {
        (globalThis as unknown as { opens: number }).opens = ((globalThis as unknown as { opens?: number }).opens ?? 0) + 1;
        return {} as IDBOpenDBRequest;
      };
    });
    await world.begin(page, { user, filter: topic, shared: true });
    await world.live(page);
    rest.push(page);
  }
  await first.close();
  const closed = Date.now();
  for (const page of rest) await until('it says so', 2_000, async () => (await phase(page)) === 'connecting');
  // The store gives up after five seconds.
  for (const page of rest) await world.live(page);
  const took = Date.now() - closed;
  assert.ok(took < 9_000, `${took} ms`);
  await world.count(1, 3, topic);
  for (const page of rest) {
    await has(page, 3);
    const storage = await page.evaluate(() => (globalThis as unknown as Scope).client.storage.get());
    assert.equal(storage.kind, 'memory');
  }
  const opens = await Promise.all(rest.map((page) => page.evaluate(() => (globalThis as unknown as { opens?: number }).opens ?? 0)));
  assert.deepEqual([opens.sort(), (await Promise.all(rest.map(role))).sort()], [[0, 1], ['follower', 'leader']]);
  assert.equal(world.link.connections.size, 1);
});

test('a tab that hangs keeps the others from a token for a moment only', async () => {
  world.site.desks.set(user, () => token(user));
  const all: Page[] = [];
  for (let i = 0; i < 3; i += 1) {
    const page = await world.tab();
    pages.push(page);
    all.push(page);
    await world.begin(page, { user, silent: true, shared: true, asks: true });
    await page.evaluate(async () => void (await (globalThis as unknown as Scope).client.outbox()));
  }
  const [leader, hangs, other] = all as [Page, Page, Page];
  assert.deepEqual(await Promise.all(all.map(role)), ['leader', 'follower', 'follower']);
  // The user has signed out in the page that leads.
  await leader.evaluate(() => void (globalThis.fetch = () => Promise.reject(new Error('signed out'))));
  // Of two that nobody sees, the one that came first is asked first.
  await leader.bringToFront();
  for (const page of [hangs, other]) await is(page, 'hidden');
  const hung = hang(hangs, 12_000);
  await other.evaluate(() => (globalThis as unknown as Scope).client.connect());
  await until('live', 8_000, async () => (await phase(other)) === 'live');
  await hung;
});

test('a leader that is busy for a moment keeps the lead', async () => {
  const [leader, other] = (await group(2)) as [Page, Page];
  const messages = stream(1);
  await has(other, 5);
  for (let i = 0; i < 5; i += 1) await hang(leader, 700);
  const last = await messages.stop();
  for (const page of [leader, other]) {
    await has(page, last);
    assert.deepEqual(await numbers(page, 'message'), range(1, last));
  }
  assert.deepEqual([await role(leader), await role(other)], ['leader', 'follower']);
  assert.equal(world.link.total, 1);
});

test('a hidden leader, whose timers are slow, keeps the lead', async () => {
  const [leader, other] = (await group(2)) as [Page, Page];
  await is(leader, 'hidden');
  // The timers of a page that nobody sees run once a second.
  await leader.evaluate(() => {
    const { setTimeout } = globalThis;
    const slow = (run: () => void, ms = 0): unknown => setTimeout(run, Math.max(ms, 3_000));
    Object.assign(globalThis, { setTimeout: slow });
  });
  const begun = Date.now();
  await until('a while without a message', 10_000, () => Date.now() - begun > 5_000);
  await world.count(1, 3, topic);
  for (const page of [leader, other]) {
    await has(page, 3);
    assert.deepEqual(await numbers(page, 'message'), [1, 2, 3]);
  }
  assert.deepEqual([await role(leader), await role(other)], ['leader', 'follower']);
  assert.equal(world.link.total, 1);
});

test('a leader that comes back does not send what it still had in hand', async () => {
  const [leader, other] = (await group(2)) as [Page, Page];
  const sent = (page: Page): Promise<string[]> => page.evaluate(() => (globalThis as unknown as { sent: string[] }).sent);
  // The second of two publishes is in its hands when it hangs.
  const hung = leader.evaluate((topic) => {
    const scope = globalThis as unknown as Scope & { sent: string[] };
    scope.sent = [];
    const { send } = WebSocket.prototype;
    WebSocket.prototype.send = function (text) {
      scope.sent.push(String(text));
      send.call(this, text);
      if (scope.sent.length > 1) return;
      const until = performance.now() + 6_000;
      while (performance.now() < until);
    };
    for (let n = 1; n <= 2; n += 1) void scope.client.publish(topic, { n }, { queue: true });
  }, topic);
  await until('another leads', 5_000, async () => (await role(other)) === 'leader');
  await hung;
  await has(other, 2);
  await until('it follows', 10_000, async () => (await role(leader)) === 'follower');
  await has(leader, 2);
  for (const page of [leader, other]) assert.deepEqual(await numbers(page, 'message'), [1, 2]);
  assert.deepEqual((await sent(leader)).length, 1, String(await sent(leader)));
});

test('the leader goes to another page', async (t) => {
  const [leader, ...rest] = (await group(2)) as [Page, Page];
  await handOver(t, rest, () => leader.goto('about:blank'));
});

test('what a follower queues is kept by the leader, and outlives it', async () => {
  const [leader, follower] = (await group(2)) as [Page, Page];
  world.link.cut();
  await follower.evaluate(async (topic) => {
    const { client } = globalThis as unknown as Scope;
    for (let n = 1; n <= 5; n += 1) void (await client.publish(topic, { n }, { queue: true })).confirmed().then(() => document.title += n);
    // What is not queued waits in its own tab too.
    void client.publish(topic, { n: 6 }).then(() => document.title += 6);
  }, topic);
  const waiting = () => follower.evaluate(async () => (await (globalThis as unknown as Scope).client.outbox()).map(({ payload }) => (payload as { n: number }).n));
  assert.deepEqual(await waiting(), range(1, 6));
  await leader.close();
  await until('it leads', 10_000, async () => (await role(follower)) === 'leader');
  await until('it has all', 10_000, async () => (await waiting()).length === 6);
  world.link.heal();
  await has(follower, 6);
  assert.deepEqual(await numbers(follower, 'message'), range(1, 6));
  await until('it is told of each', 10_000, async () => (await follower.title()).endsWith('123456'));
  assert.deepEqual(await waiting(), []);
});

test('a logout in one tab ends all, and nothing is left', async () => {
  const [leader, follower] = (await group(2)) as [Page, Page];
  await world.count(1, 3, topic);
  await has(follower, 3);
  await follower.evaluate(() => (globalThis as unknown as Scope).client.logout());
  for (const page of [leader, follower]) {
    assert.equal(await phase(page), 'closed');
    assert.deepEqual((await numbers(page, 'closed')).length, 1);
  }
  const rows = await leader.evaluate(async (name) => {
    const db = await new Promise<IDBDatabase>((resolve) => {
      const request = indexedDB.open(name);
      request.onsuccess = () => resolve(request.result);
    });
    const transaction = db.transaction(['outbox', 'message', 'place']);
    const counts = ['outbox', 'message', 'place'].map((store) => transaction.objectStore(store).count());
    await new Promise((resolve) => (transaction.oncomplete = resolve));
    return counts.map(({ result }) => result);
  }, `anabranch ${world.gateway.url} ${user}`);
  assert.deepEqual(rows, [0, 0, 0]);
});

test('without locks each tab has a connection of its own', async () => {
  const both: Page[] = [];
  for (let i = 0; i < 2; i += 1) {
    const page = await world.tab();
    pages.push(page);
    await page.evaluate(() => Object.defineProperty(navigator, 'locks', { value: undefined }));
    await world.begin(page, { user, filter: topic, shared: true });
    await world.live(page);
    both.push(page);
  }
  assert.deepEqual(await Promise.all(both.map(role)), ['alone', 'alone']);
  assert.equal(world.link.connections.size, 2);
  await world.count(1, 5, topic);
  for (const page of both) await has(page, 5);
});
