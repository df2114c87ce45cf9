import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SubscriptionEvent } from '../src/index.ts';
import { cursor, message, Stage, subscribed } from './stage.ts';

const offsets = (events: SubscriptionEvent[]): string[] =>
  events.map((event) => (event.type === 'message' ? (event.position.split(':')[1] ?? '') : event.type));

test('a loop takes events in its own time, and its cursor moves when it asks for the next', async () => {
  const stage = new Stage();
  const client = stage.client();
  const subscription = client.subscribe<{ n: number }>('a/#');
  const socket = await stage.live();
  socket.receive(message(11, 'a/b'));
  socket.receive(message(12, 'a/b'));
  const next = async () => (await subscription.next()).value as SubscriptionEvent<{ n: number }>;
  assert.equal((await next()).type, 'subscribed');
  assert.equal((await next()).type, 'live');
  const first = await next();
  assert.equal(first.type === 'message' && first.payload.n, 11);
  assert.equal(subscription.cursor, cursor(10));
  await next();
  assert.equal(subscription.cursor, cursor(11));
  const waiting = subscription.next();
  socket.receive({ type: 'mark', cursor: cursor(20), delivered: 2 });
  assert.equal(subscription.cursor, cursor(20));
  subscription.close();
  assert.equal((await waiting).done, true);
});

test('leaving the loop, or the signal, ends the subscription', async () => {
  const stage = new Stage();
  const client = stage.client();
  client.connect();
  const stop = new AbortController();
  const left = (async () => {
    for await (const event of client.subscribe('a')) if (event.type === 'live') break;
  })();
  const aborted = (async () => {
    for await (const _ of client.subscribe('b', { signal: stop.signal }));
  })();
  const socket = await stage.live();
  await left;
  stop.abort();
  await aborted;
  assert.equal(socket.of('unsubscribe').length, 2);
  assert.equal(client.subscribe('c', { signal: stop.signal }).closed, true);
});

test('a full buffer stops the stream on the wire, and it goes on from there once half is taken', async () => {
  const stage = new Stage();
  const client = stage.client();
  const subscription = client.subscribe('a', { bufferBytes: 2_000 });
  const socket = await stage.live();
  let offset = 10;
  while (socket.of('unsubscribe').length === 0) socket.receive(message((offset += 1), 'a'));
  assert.equal(subscription.stale, true);
  socket.receive(message(offset + 1, 'a'));
  const events: SubscriptionEvent[] = [];
  while (socket.of('subscribe').length === 0) events.push((await subscription.next()).value);
  const [again] = socket.of('subscribe');
  assert.equal(again?.['cursor'], cursor(offset));
  socket.receive(subscribed(again?.['id'] as number, offset, 'resumed'));
  socket.receive(message(offset + 1, 'a'));
  while (offsets(events).at(-1) !== String(offset + 1)) events.push((await subscription.next()).value);
  const expected = Array.from({ length: offset - 10 }, (_, i) => String(11 + i));
  const all = offsets(events);
  assert.deepEqual(all, ['subscribed', 'live', ...expected, 'lagging', 'subscribed', String(offset + 1)]);
});

test('a handler that throws is reported, and hurts nobody', async () => {
  const stage = new Stage();
  const client = stage.client();
  const seen: SubscriptionEvent[] = [];
  client.on('a', (event) => {
    if (event.type === 'message') throw new Error('from the app');
  });
  client.on('a', (event) => seen.push(event));
  const socket = await stage.live();
  socket.receive(message(11, 'a'));
  socket.receive(message(12, 'a'));
  assert.deepEqual(offsets(seen).slice(2), ['11', '12']);
  assert.deepEqual(stage.errors.map(({ code }) => code), ['handler_threw', 'handler_threw']);
});

test('fresh while live, stale from the moment that the link is lost', async () => {
  const stage = new Stage();
  const client = stage.client();
  const subscription = client.on('a', () => {});
  assert.deepEqual([subscription.stale, subscription.freshAsOf], [true, null]);
  const socket = await stage.live();
  await stage.pass(5_000);
  socket.receive({ type: 'mark', cursor: cursor(10), delivered: 0 });
  const heard = stage.wall();
  assert.deepEqual([subscription.stale, subscription.freshAsOf], [false, heard]);
  await stage.pass(2_000);
  socket.drop();
  assert.deepEqual([subscription.stale, subscription.freshAsOf], [true, heard]);
  assert.equal(client.state.get().phase, 'offline');
  await stage.live(12);
  assert.equal(subscription.stale, false);
});

test('a refused or revoked subscription ends with the reason', async () => {
  const stage = new Stage();
  const client = stage.client();
  const codes: unknown[] = [];
  const first = client.on('a', (event) => event.type === 'closed' && codes.push(event.error.code));
  client.on('b', (event) => event.type === 'closed' && codes.push(event.error.code));
  const socket = await stage.accept();
  socket.receive({ type: 'refused', code: 4400, remedy: 'drop_item', message: 'no', subscription: 0 });
  socket.receive(subscribed(1, 10));
  socket.receive({ type: 'revoked', subscription: 1, cursor: cursor(10), code: 4400 });
  assert.deepEqual([codes, first.closed], [[4400, 4400], true]);
});

test('what the core remembers can be read at once', async () => {
  const stage = new Stage();
  const client = stage.client();
  assert.deepEqual(await client.cached('#'), []);
  client.on('a/#', () => {});
  const socket = await stage.live();
  for (const offset of [11, 12, 13]) socket.receive(message(offset, 'a/b'));
  assert.deepEqual((await client.cached('a/+', { limit: 2 })).map(({ payload }) => payload), [{ n: 12 }, { n: 13 }]);
});

test('what no log keeps has no position, moves no cursor, and is missed by an app that does not keep up', async () => {
  const stage = new Stage();
  const client = stage.client();
  const subscription = client.subscribe<{ here: boolean }>('a/#', { bufferBytes: 2_000 });
  const socket = await stage.live();
  const transient = (topic: string) =>
    socket.receive({ type: 'transient', envelope: { metadata: { topic }, payload: { here: true } } });
  transient('a/b');
  transient('b');
  let offset = 10;
  while (socket.of('unsubscribe').length === 0) socket.receive(message((offset += 1), 'a/c'));
  transient('a/late');
  const events: SubscriptionEvent<{ here: boolean }>[] = [];
  while (socket.of('subscribe').length === 0) events.push((await subscription.next()).value);
  const passing = events.filter((event) => event.type === 'transient');
  assert.deepEqual(
    passing.map((event) => [event.topic, event.payload.here]),
    [['a/b', true]],
  );
  subscription.close();
});

test('a snapshot begins, brings what the topics have, and ends; until then the cursor waits', async () => {
  const stage = new Stage();
  const client = stage.client();
  const seen: string[] = [];
  const subscription = client.on('a/#', (event) => {
    if (event.type !== 'message') return seen.push(event.type);
    const marks = [event.snapshot && 'value', event.stale && 'stale', event.patch && 'patch'].filter(Boolean);
    return seen.push([event.topic, event.payload, ...marks].join(' '));
  });
  const socket = await stage.accept();
  assert.equal(socket.of('hello').length, 1);
  socket.receive({ ...subscribed(0, 10), snapshot: 'whole', state: cursor(0) });
  socket.receive({ ...message(3, 'a/x', 3), snapshot: true });
  socket.receive({ ...message(7, 'a/y', null), snapshot: true, stale: true });
  assert.equal(subscription.cursor, undefined);
  socket.receive({ ...message(11, 'a/z', {}), patch: true });
  socket.receive({ type: 'caught_up', cursor: cursor(12) });
  assert.deepEqual(seen, [
    'subscribed',
    'snapshot_begins',
    'a/x 3 value',
    'a/y  value stale',
    'a/z [object Object] patch',
    'snapshot_ends',
    'live',
  ]);
  assert.equal(subscription.cursor, cursor(12));
  assert.deepEqual((await client.cached('a/#')).map(({ snapshot, stale, patch }) => [snapshot, stale, patch]), [
    [true, false, false],
    [true, true, false],
    [false, false, true],
  ]);
});

test('a full buffer in the middle of a snapshot does not begin it anew', async () => {
  const stage = new Stage();
  const client = stage.client();
  const subscription = client.subscribe('a/#', { bufferBytes: 2_000 });
  const socket = await stage.accept();
  socket.receive({ ...subscribed(0, 1_000), snapshot: 'whole', state: cursor(0) });
  let offset = 0;
  while (socket.of('unsubscribe').length === 0) socket.receive({ ...message((offset += 1), `a/${offset}`), snapshot: true });
  while (socket.of('subscribe').length === 0) await subscription.next();
  const [again] = socket.of('subscribe');
  assert.deepEqual([again?.['cursor'], again?.['state']], [cursor(1_000), cursor(offset)]);
});
