/** What a page survives: a reload, and a core that traps. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cursor, message, Stage } from './stage.ts';
import { trapping } from './trapping.ts';

const startsOf = (stage: Stage): unknown => stage.last.of('hello')[0]?.['subscriptions'];

test('a reload goes on where the app was', async () => {
  const before = new Stage();
  const first = before.client({ clientId: 'c' });
  first.on('a', () => {});
  first.on('a', () => {});
  first.on('a', () => {}, { from: 'earliest' });
  first.on('gone', () => {}).close();
  const socket = await before.live();
  socket.receive(message(11, 'a'));
  before.page?.flush();
  socket.receive(message(12, 'a'));
  await before.pass(300);
  assert.equal(before.kept.size, 2);

  const after = new Stage();
  before.kept.forEach((value, key) => after.kept.set(key, value));
  const second = after.client({ clientId: 'c' });
  second.on('a', () => {});
  second.on('b', () => {});
  second.on('a', () => {}, { from: 'earliest' });
  await after.accept();
  assert.deepEqual(startsOf(after), [
    { id: 0, filter: 'a', cursor: cursor(12), snapshot: 'always' },
    { id: 1, filter: 'b', from: 'now', snapshot: 'if_new' },
    { id: 2, filter: 'a', from: 'earliest' },
  ]);
});

test('another client, another gateway, or resume: off starts from now', async () => {
  const before = new Stage();
  before.client({ clientId: 'c' }).on('a', () => {});
  await before.live();
  before.page?.flush();
  for (const options of [{ clientId: 'd' }, { clientId: 'c', url: 'wss://other/v1/ws' }, { clientId: 'c', resume: 'off' as const }]) {
    const after = new Stage();
    before.kept.forEach((value, key) => after.kept.set(key, value));
    after.client(options).on('a', () => {});
    await after.accept();
    assert.deepEqual(startsOf(after), [{ id: 0, filter: 'a', from: 'now', snapshot: 'if_new' }]);
  }
});

test('a store that throws costs the resume and nothing else', async () => {
  const stage = new Stage();
  const fail = (): never => {
    throw new Error('quota');
  };
  const client = stage.client({ cursors: { load: fail, save: fail, remove: fail } });
  const seen: string[] = [];
  client.on('a', (event) => seen.push(event.type));
  const socket = await stage.live();
  socket.receive(message(11, 'a'));
  await stage.pass(1_000);
  assert.deepEqual(seen, ['subscribed', 'live', 'message']);
  assert.ok(stage.errors.length > 0 && stage.errors.every(({ code }) => code === 'storage'));
});

test('a core that traps is replaced, and everything goes on from the cursors', async () => {
  const stage = new Stage(() => trapping());
  const client = stage.client();
  const seen: string[] = [];
  client.on('a', (event) => event.type === 'message' && seen.push(event.position));
  const stored = client.publish('a', 1, { messageId: 'm-1' });
  const socket = await stage.live();
  socket.receive(message(11, 'a'));
  socket.receive({ type: 'trap' });
  assert.deepEqual(stage.errors.map(({ code }) => code), ['core_restarted']);
  assert.notEqual(socket.closedWith, undefined);
  const next = await stage.accept();
  assert.deepEqual((startsOf(stage) as { cursor: string }[])[0]?.cursor, cursor(11));
  assert.equal(next.of('publish').length, 1);
  next.receive({ type: 'published', messageId: 'm-1', position: '0:12:0000000c' });
  assert.equal((await stored).position, '0:12:0000000c');
  assert.deepEqual(seen, ['0:11:0000000b']);
});

test('three traps within a minute end the client', async () => {
  const stage = new Stage(() => trapping());
  const client = stage.client();
  const ends: unknown[] = [];
  client.on('a', (event) => event.type === 'closed' && ends.push(event.error.code));
  for (let i = 0; i < 3; i += 1) (await stage.accept()).receive({ type: 'trap' });
  assert.deepEqual([client.state.get().phase, client.state.get().code], ['closed', 'core_failed']);
  assert.deepEqual(ends, ['core_failed']);
  await stage.pass(120_000);
  assert.equal(stage.sockets.length, 3);
});

test('a core that cannot be fetched is fetched again', async () => {
  const stage = new Stage();
  const load = stage.load;
  let failures = 2;
  stage.load = () => (failures-- > 0 ? Promise.reject(new TypeError('fetch failed')) : load());
  const client = stage.client();
  client.on('a', () => {});
  await stage.pass(0);
  assert.equal(client.state.get().phase, 'offline');
  stage.page?.wake();
  await stage.live();
  assert.equal(client.state.get().phase, 'live');
  assert.deepEqual(stage.errors.map(({ code }) => code), ['core_unavailable', 'core_unavailable']);
});
