/** What outlives a page, with a store in memory that outlives it: cached values, cursors, and what was queued. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { AnabranchError } from '../src/errors.ts';
import type { Keeping, Storage, Store, Write } from '../src/keeping.ts';
import type { ClientOptions } from '../src/options.ts';
import { condense } from '../src/store/condense.ts';
import { Batches } from '../src/store/keeper.ts';
import { MemoryStore, told } from './memory-store.ts';
import { trapping } from './trapping.ts';
import { cursor, type FakeSocket, type Frame, message, Stage } from './stage.ts';

const keeping = (store: MemoryStore): Keeping => (needs) => new Batches(needs, () => Promise.resolve(store));
const kept = (store: MemoryStore, options: Partial<ClientOptions> = {}): Partial<ClientOptions> => ({ store: keeping(store), user: 'u', ...options });
const published = (socket: FakeSocket): string[] =>
  socket.of('publish').map((frame) => (frame['envelope'] as { metadata: { messageId: string } }).metadata.messageId);
const confirm = (socket: FakeSocket, messageId: string, more: Partial<Frame> = {}): void =>
  socket.receive({ type: 'published', messageId, position: '0:99:00000063', ...more });
const refuse = (socket: FakeSocket, messageId: string): void =>
  socket.receive({ type: 'refused', code: 4400, remedy: 'drop_item', message: 'not granted', messageId });

test('vectors: what every store keeps', async () => {
  const file = new URL('../../../sdk-core/tests/store.json', import.meta.url);
  const { rounds } = JSON.parse(readFileSync(file, 'utf8')) as { rounds: { writes: Write[]; kept?: unknown }[] };
  const store = new MemoryStore();
  for (const { writes, kept } of rounds) {
    await store.commit(writes);
    if (kept) assert.deepEqual(told(await store.load()), kept);
  }
  assert.ok(rounds.filter(({ kept }) => kept).length > 3);
});

test('vectors: batches mean the same when they are condensed', async () => {
  const file = new URL('../../../sdk-core/tests/store.json', import.meta.url);
  const { rounds } = JSON.parse(readFileSync(file, 'utf8')) as { rounds: { writes: Write[] }[] };
  const all = rounds.flatMap(({ writes }) => writes);
  for (const size of [1, 3, 10, 40, all.length]) {
    const [plain, dense] = [new MemoryStore(), new MemoryStore()];
    let many = 0;
    for (let at = 0; at < all.length; at += size) {
      const batch = all.slice(at, at + size);
      const condensed = condense(batch);
      many += condensed.length;
      await plain.commit(batch);
      await dense.commit(condensed);
      assert.deepEqual(told(await dense.load()), told(await plain.load()), `by ${size}, at ${at}`);
    }
    assert.ok(many <= all.length);
  }
});

/** A page that sees `a/#`: what it was given, by type and number. */
function watching(stage: Stage, store: MemoryStore, options: { keepAs?: string } = {}): string[] {
  const seen: string[] = [];
  stage.client(kept(store)).on<{ n: number }>('a/#', (event) => {
    if (event.type === 'message' || event.type === 'cached') seen.push(`${event.type} ${event.payload.n}`);
  }, options);
  return seen;
}

test('a reload begins with what was cached, and goes on where the app was', async () => {
  const store = new MemoryStore();
  const before = new Stage();
  const first = watching(before, store);
  const socket = await before.live();
  for (const offset of [11, 12, 13]) socket.receive(message(offset, 'a/b'));
  assert.deepEqual(first, ['message 11', 'message 12', 'message 13']);
  assert.equal(store.messages.length, 0, 'not each by itself');
  before.page?.flush();
  await before.pass(0);
  assert.equal(store.commits, 1);

  const after = new Stage();
  const second = watching(after, store);
  const next = await after.accept();
  assert.deepEqual(second, ['cached 11', 'cached 12', 'cached 13'], 'before the gateway says anything');
  const [wanted] = next.of('hello')[0]?.['subscriptions'] as { cursor: string; snapshot: string }[];
  assert.deepEqual([wanted?.cursor, wanted?.snapshot], [cursor(13), 'always']);
});

test('what the app had not come to comes again, and is not cached', async () => {
  const store = new MemoryStore();
  const before = new Stage();
  const loop = before.client(kept(store)).subscribe('a/#');
  const socket = await before.live();
  for (const offset of [11, 12]) socket.receive(message(offset, 'a/b'));
  for (const type of ['subscribed', 'live', 'message']) assert.equal((await loop.next()).value.type, type);
  await before.pass(300);

  const after = new Stage();
  const seen = watching(after, store);
  const next = await after.accept();
  const [wanted] = next.of('hello')[0]?.['subscriptions'] as { cursor: string }[];
  assert.deepEqual([seen, wanted?.cursor], [[], cursor(10)], 'the message in hand comes again too');
});

test('writes are few, and in the order in which things happened', async () => {
  const store = new MemoryStore();
  const stage = new Stage();
  watching(stage, store, { keepAs: 'mine' });
  const socket = await stage.live();
  await stage.pass(300);
  const before = store.commits;
  for (let second = 0; second < 40; second += 1) {
    socket.receive(message(11 + second, 'a/b'));
    await stage.pass(25);
  }
  await stage.pass(300);
  assert.ok(store.commits - before <= 5, `${store.commits - before} commits in a second`);
  assert.equal(store.places.get('mine')?.cursor, cursor(50));
  assert.equal(store.messages.length, 40);
});

test('a queued publish is stored before it is said to be, and sent by the next page', async () => {
  const store = new MemoryStore();
  let open = (): void => {};
  store.gate = new Promise((resolve) => (open = resolve));
  const before = new Stage();
  const client = before.client(kept(store));
  let queued = false;
  const promise = client.publish('a', 1, { queue: true, messageId: 'm-1' }).then((how) => ((queued = true), how));
  void client.publish('a', 2, { queue: true, messageId: 'm-2' });
  await before.pass(0);
  assert.equal(queued, false, 'the store has not said so');
  open();
  assert.equal((await promise).messageId, 'm-1');
  assert.deepEqual(store.publishes.map(({ messageId }) => messageId), ['m-1', 'm-2']);

  const after = new Stage();
  const next = after.client(kept(store));
  assert.deepEqual((await next.outbox()).map(({ messageId, payload, kept }) => [messageId, payload, kept]), [['m-1', 1, true], ['m-2', 2, true]]);
  const socket = await after.live();
  assert.deepEqual(published(socket), ['m-1', 'm-2'], 'without anybody asking for a connection');
  confirm(socket, 'm-1', { duplicate: true });
  confirm(socket, 'm-2');
  await after.pass(300);
  assert.deepEqual(store.publishes, []);
  await after.pass(2_000);
  assert.equal(next.state.get().phase, 'idle', 'nobody needs the connection any more');
});

test('what is written in a hurry is said to be stored when it is, and not when it cannot be', async () => {
  const store = new MemoryStore();
  const stage = new Stage();
  const client = stage.client(kept(store));
  await client.publish('a', 1, { queue: true, messageId: 'm-1' });
  const told: string[] = [];
  const hurried = (messageId: string): (() => void) => {
    let open = (): void => {};
    store.gate = new Promise((resolve) => (open = resolve));
    const tell = (how: string) => () => void told.push(`${messageId} ${how}`);
    client.publish('a', 1, { queue: true, messageId }).then(tell('is stored'), tell('is not'));
    stage.page?.flush();
    client.flush().then(tell('flushed'), tell('not flushed'));
    return open;
  };
  const open = hurried('m-2');
  await stage.pass(1_000);
  assert.deepEqual([told, store.publishes.length], [[], 1], 'its commit is under way');
  open();
  await stage.pass(0);
  assert.deepEqual([told.splice(0), store.publishes.length], [['m-2 is stored', 'm-2 flushed'], 2]);

  const fail = hurried('m-3');
  store.broken = new Error('no room');
  await stage.pass(1_000);
  assert.deepEqual(told, []);
  fail();
  await stage.pass(0);
  assert.deepEqual(told, ['m-3 is not', 'm-3 not flushed']);
  assert.deepEqual(client.storage.get(), { kind: 'memory', reason: 'no room' });
});

/** A keeper, and its store's commits in the test's hands. */
function inHand(): { keeper: Batches; commits: { readonly ids: (string | undefined)[]; done(): void; fail(cause: Error): void }[]; calls: string[] } {
  const commits: ReturnType<typeof inHand>['commits'] = [];
  const calls: string[] = [];
  const store: Store = {
    load: () => (calls.push('load'), Promise.resolve({ publishes: [], messages: [], places: [] })),
    commit: (writes) => new Promise((done, fail) => commits.push({ ids: writes.map(([, id]) => id), done, fail })),
    wipe: () => (calls.push('wipe'), Promise.resolve()),
    close: () => void calls.push('close'),
  };
  const { wall, setTimer } = new Stage();
  const changed = ({ kind }: Storage): void => void calls.push(kind);
  return { keeper: new Batches({ owner: 'o', alone: true, wall, setTimer, changed }, () => Promise.resolve(store)), commits, calls };
}

const settled = async (): Promise<void> => {
  for (let i = 0; i < 50; i += 1) await Promise.resolve();
};

test('a commit that overlaps another is waited for, whichever ends first', async () => {
  const { keeper, commits, calls } = inHand();
  await keeper.load();
  const told: string[] = [];
  const flush = (name: string): void => void keeper.flush().then((reason) => told.push(`${name}: ${reason}`));
  keeper.write(['enqueue', 'a', '{}', null]);
  flush('a');
  await settled();
  keeper.write(['enqueue', 'b', '{}', null]);
  flush('b');
  keeper.hurry();
  flush('again');
  assert.deepEqual(commits.map(({ ids }) => ids), [['a'], ['b']], 'at once: the page may be about to end');
  commits[1]?.done();
  await settled();
  assert.deepEqual(told, []);
  commits[0]?.done();
  await settled();
  assert.deepEqual(told.splice(0), ['a: null', 'b: null', 'again: null']);

  // A page that ends, perhaps, and begins again: not before it is known how the last commits went.
  keeper.write(['settle', 'a']);
  keeper.hurry();
  keeper.write(['settle', 'b']);
  keeper.hurry();
  flush('c');
  keeper.close();
  void keeper.load();
  await settled();
  assert.deepEqual([told, calls], [[], ['load', 'durable']]);
  commits[2]?.fail(new Error('no room'));
  await settled();
  assert.deepEqual(calls.slice(2), ['close'], 'the second of them is under way');
  commits[3]?.fail(new Error('nor for this'));
  await settled();
  assert.deepEqual([told, calls.slice(3)], [['c: no room'], ['close', 'load', 'durable']]);
  assert.equal(await keeper.flush(), null);
});

test('a refusal wedges its topic until the app decides', async () => {
  const store = new MemoryStore();
  const stage = new Stage();
  const client = stage.client(kept(store));
  const queue = (topic: string, messageId: string) => client.publish(topic, 1, { queue: true, messageId });
  const [first] = [await queue('a', 'm-1'), await queue('a', 'm-2'), await queue('b', 'm-3')];
  const socket = await stage.live();
  refuse(socket, 'm-1');
  confirm(socket, 'm-3');
  await assert.rejects(first.confirmed(), (error: AnabranchError) => error.code === 4400);
  const [wedged] = await client.outbox();
  assert.deepEqual([wedged?.messageId, wedged?.wedged], ['m-1', { code: 4400, message: 'not granted' }]);
  await stage.pass(300);
  assert.deepEqual(store.publishes[0]?.wedged, [4400, 'not granted']);
  assert.deepEqual([await client.retry('m-2'), await client.retry('m-1')], [false, true]);
  assert.deepEqual(published(socket).slice(3), ['m-1']);
  refuse(socket, 'm-1');
  assert.deepEqual([await client.withdraw('m-1'), await client.withdraw('m-1')], [true, false]);
  await stage.pass(300);
  assert.ok(!store.publishes.some(({ messageId }) => messageId === 'm-1'));
});

test('what was never sent can be taken back, and a full outbox says so', async () => {
  const store = new MemoryStore();
  const stage = new Stage();
  const client = stage.client(kept(store));
  client.pause('offline');
  const queued = await client.publish('a', 1, { queue: true });
  assert.equal(await queued.withdraw(), true);
  await assert.rejects(queued.confirmed(), (error: AnabranchError) => error.code === 'withdrawn');
  const many = Array.from({ length: 1_024 }, (_, i) => client.publish('a', i, { queue: true }));
  await Promise.all(many);
  assert.equal(store.publishes.length, 1_024);
  await assert.rejects(client.publish('a', 1, { queue: true }), (error: AnabranchError) => error.retryable && /too many/.test(error.message));
});

test('a time to live goes on between pages, and its end is told', async () => {
  const store = new MemoryStore();
  const before = new Stage();
  const client = before.client(kept(store));
  client.pause('offline');
  const queued = await client.publish('a', 1, { queue: true, timeToLiveMs: 60_000 });
  await before.pass(61_000);
  await assert.rejects(queued.confirmed(), (error: AnabranchError) => error.code === 4403);
  await client.publish('a', 1, { queue: true, timeToLiveMs: 60_000, messageId: 'm-2' });

  const after = new Stage();
  await after.pass(130_000);
  const next = after.client(kept(store));
  assert.deepEqual(await next.outbox(), []);
});

test('a store that fails is said to, and everything goes on in memory', async () => {
  const store = new MemoryStore();
  const stage = new Stage();
  const client = stage.client(kept(store));
  await client.publish('a', 1, { queue: true, messageId: 'm-1' });
  assert.deepEqual(client.storage.get(), { kind: 'durable' });
  store.broken = new Error('no room');
  const late = client.publish('a', 2, { queue: true, messageId: 'm-2' });
  await assert.rejects(late, (error: AnabranchError) => error.code === 'not_kept' && /no room/.test(error.message));
  assert.deepEqual(client.storage.get(), { kind: 'memory', reason: 'no room' });
  assert.deepEqual(stage.errors.map(({ code }) => code), ['storage']);
  store.broken = undefined;
  const socket = await stage.live();
  assert.deepEqual(published(socket), ['m-1', 'm-2']);
  confirm(socket, 'm-1');
  await stage.pass(300);
  assert.equal(store.publishes.length, 1, 'nothing is written any more: it would be out of order');
});

test('after a logout nothing is left, and the client is closed', async () => {
  const store = new MemoryStore();
  const stage = new Stage();
  const client = stage.client(kept(store));
  const seen: string[] = [];
  client.on('a/#', (event) => seen.push(event.type));
  const socket = await stage.live();
  socket.receive(message(11, 'a/b'));
  const queued = await client.publish('a', 1, { queue: true });
  await client.flush();
  assert.ok(store.messages.length > 0 && store.places.size > 0);
  await client.logout();
  await assert.rejects(queued.confirmed(), (error: AnabranchError) => error.code === 'closed');
  assert.deepEqual([store.publishes, store.messages, store.places.size, seen.at(-1)], [[], [], 0, 'closed']);
  await assert.rejects(client.publish('a', 1), (error: AnabranchError) => error.code === 'closed');
});

test('a change of a shadow that waits shows in the next page, and is sent by it', async () => {
  const store = new MemoryStore();
  const before = new Stage();
  const client = before.client(kept(store));
  client.pause('offline');
  const change = client.shadow<{ rpm: number }>('d1').setDesired({ rpm: 7 }, { queue: true });
  await change.stored();
  assert.equal(store.publishes[0]?.messageId, change.messageId);

  const after = new Stage();
  const shadow = after.client(kept(store)).shadow<{ rpm: number }>('d1');
  await after.pass(0);
  assert.deepEqual([shadow.get().desired, shadow.get().pending], [{ rpm: 7 }, { '/rpm': { stage: 'queued' } }]);
  assert.deepEqual(published(await after.live()), [change.messageId]);
});

const bodies = (socket: FakeSocket): unknown[] => socket.of('publish').map((frame) => (frame['envelope'] as { payload: unknown }).payload);

test('changes of a shadow that wait become one message; commands never do', async () => {
  const store = new MemoryStore();
  const stage = new Stage();
  const client = stage.client(kept(store));
  client.pause('offline');
  const shadow = client.shadow<Record<string, unknown>>('d1');
  const change = (patch: Record<string, unknown>) => shadow.setDesired(patch, { queue: true });
  const first = change({ rpm: 1, on: true });
  await first.stored();
  const rest = [change({ rpm: 2 }), change({ mode: null }), change({ rpm: 3 })];
  const mode = change({ mode: { eco: true } });
  await Promise.all([...rest, mode].map((one) => one.stored()));
  assert.deepEqual(rest.map(({ messageId }) => messageId), rest.map(() => first.messageId));
  assert.notEqual(mode.messageId, first.messageId, 'no patch empties an object and fills it');
  assert.deepEqual(store.publishes.map(({ envelope }) => (JSON.parse(envelope) as { payload: unknown }).payload), [
    { rpm: 3, on: true, mode: null },
    { mode: { eco: true } },
  ]);
  assert.deepEqual(shadow.get().desired, { rpm: 3, on: true, mode: { eco: true } });
  const commands = client.commands('alice');
  await Promise.all([1, 2].map((n) => commands.send('d1', 'step', n, { queue: true }).stored()));
  change({ rpm: 4 });

  // Online, and told: each change by itself.
  client.resume('offline');
  const socket = await stage.live();
  assert.equal(bodies(socket).length, 5, 'a change behind a command stays behind it');
  const told = [first, ...rest].map((one) => one.settled());
  confirm(socket, first.messageId);
  await stage.pass(0);
  assert.deepEqual(shadow.get().pending['/on'], { stage: 'sent' });
  const answer = message(12, 'iotsphere/devices/d1/shadow/rejected', { code: 4413, message: 'too large', version: 0 });
  ((answer['envelope'] as { metadata: Record<string, unknown> }).metadata)['correlationId'] = first.messageId;
  socket.receive(answer);
  assert.deepEqual((await Promise.all(told)).map(({ outcome }) => outcome), ['rejected', 'rejected', 'rejected', 'rejected']);
  await stage.pass(300);
  assert.ok(!store.publishes.some(({ messageId }) => messageId === first.messageId));
});

test('a merged change is sent whole by the next page, and taken back whole', async () => {
  const store = new MemoryStore();
  const before = new Stage();
  const client = before.client(kept(store));
  client.pause('offline');
  const shadow = client.shadow<Record<string, number>>('d1');
  const [, second] = [1, 2].map((n) => shadow.setDesired({ [`n${n}`]: n }, { queue: true }));
  await second?.stored();

  const after = new Stage();
  const next = after.client(kept(store)).shadow<Record<string, number>>('d1');
  await after.pass(0);
  assert.deepEqual(next.get().desired, { n1: 1, n2: 2 });
  next.setDesired({ n2: 3 }, { queue: true });
  assert.deepEqual(bodies(await after.live()), [{ n1: 1, n2: 2 }, { n2: 3 }], 'the earlier page may have sent the first');

  const told = second?.settled();
  assert.equal(await client.withdraw(second?.messageId ?? ''), true);
  assert.equal((await told)?.outcome, 'rejected');
  assert.deepEqual(shadow.get().desired, {});
});

test('a core that traps is followed by one that is told of merged changes once', async () => {
  for (const queue of [false, true]) {
    const store = new MemoryStore();
    const stage = new Stage(() => trapping());
    const client = stage.client(queue ? kept(store) : {});
    const socket = await (client.connect(), stage.live());
    const shadow = client.shadow<Record<string, number>>('d1');
    socket.drop();
    const changes = [1, 2, 3].map((n) => shadow.setDesired({ rpm: n, [`n${n}`]: n }, { queue }));
    await stage.pass(0);
    assert.equal(new Set(changes.map(({ messageId }) => messageId)).size, 1);
    const second = await stage.accept();
    assert.deepEqual(bodies(second), [{ rpm: 3, n1: 1, n2: 2, n3: 3 }]);
    second.receive({ type: 'trap' });
    await stage.pass(0);
    const late = shadow.setDesired({ rpm: 4 }, { queue });
    await stage.pass(0);
    const third = await stage.accept();
    assert.deepEqual(bodies(third), [...bodies(second), { rpm: 4 }], 'the log may have the first, without what was said later');
    const [first] = changes;
    assert.notEqual(late.messageId, first?.messageId);
    const stored = changes.map((one) => one.stored());
    confirm(third, first?.messageId ?? '', { duplicate: true });
    await Promise.all(stored);
  }
});

test('a queued command is sent by the next page while there is time, and has expired after that', async () => {
  const store = new MemoryStore();
  const before = new Stage();
  const client = before.client(kept(store));
  client.pause('offline');
  const commands = client.commands('alice');
  const [short, long] = [5_000, 60_000].map((timeToLiveMs) => commands.send('d1', 'reboot', null, { queue: true, timeToLiveMs }));
  await Promise.all([short?.stored(), long?.stored()]);
  await before.pass(6_000);
  assert.deepEqual([short?.progress.get().stage, long?.progress.get().stage], ['expired', 'queued']);

  const after = new Stage();
  await after.pass(6_000);
  after.client(kept(store)).connect();
  assert.deepEqual(published(await after.live()), [long?.id]);
});

test('a core that traps goes on from the store', async () => {
  const store = new MemoryStore();
  const stage = new Stage(() => trapping());
  const client = stage.client(kept(store));
  const seen: string[] = [];
  client.on<{ n: number }>('a/#', (event) => {
    if (event.type === 'message' || event.type === 'cached') seen.push(`${event.type} ${event.payload.n}`);
  });
  const queued = await client.publish('b', 1, { queue: true, messageId: 'm-1' });
  const socket = await stage.live();
  socket.receive(message(11, 'a/b'));
  socket.receive({ type: 'trap' });
  assert.deepEqual(stage.errors.map(({ code }) => code), ['core_restarted']);
  const next = await stage.accept();
  const [wanted] = next.of('hello')[0]?.['subscriptions'] as { cursor: string }[];
  assert.equal(wanted?.cursor, cursor(11));
  assert.deepEqual([published(next), store.publishes.length], [['m-1'], 1], 'once, though page and store both know it');
  assert.deepEqual((await client.cached('a/#')).map(({ payload }) => payload), [{ n: 11 }]);
  confirm(next, 'm-1');
  assert.equal((await queued.confirmed()).duplicate, false);
  assert.deepEqual(seen, ['message 11']);
});

test('where the app has come to while there is no core is kept', async () => {
  const store = new MemoryStore();
  const stage = new Stage(() => trapping());
  const client = stage.client(kept(store));
  const loop = client.subscribe('a/#', { keepAs: 'mine' });
  const socket = await stage.live();
  for (const offset of [11, 12]) socket.receive(message(offset, 'a/b'));
  for (const type of ['subscribed', 'live', 'message', 'message']) assert.equal((await loop.next()).value.type, type);
  await client.flush();
  assert.equal(store.places.get('mine')?.cursor, cursor(11), 'the second is in hand');
  socket.receive({ type: 'trap' });
  // Until the next core has what the store has, there is none to tell.
  void loop.next();
  await stage.accept();
  await client.flush();
  assert.equal(store.places.get('mine')?.cursor, cursor(12));
  client.close();
});

test('a core that traps where nothing is kept any more leaves the places to the next', async () => {
  const store = new MemoryStore();
  const stage = new Stage(() => trapping());
  const client = stage.client(kept(store));
  const first = client.on('a/#', () => {}, { keepAs: 'mine' });
  store.broken = new Error('no room');
  const socket = await stage.live();
  socket.receive(message(11, 'a/b'));
  await stage.pass(300);
  assert.equal(client.storage.get().kind, 'memory');
  first.close();
  store.load = () => Promise.reject(new Error('no room'));
  socket.receive({ type: 'trap' });
  await stage.pass(0);
  client.on('a/#', () => {}, { keepAs: 'mine' });
  const next = await stage.accept();
  const [wanted] = next.of('hello')[0]?.['subscriptions'] as { cursor: string }[];
  assert.equal(wanted?.cursor, cursor(11));
  client.close();
});

test('a store needs a user', () => {
  const stage = new Stage();
  assert.throws(() => stage.client({ store: keeping(new MemoryStore()) }), (error: AnabranchError) => error.code === 'no_user');
});
