import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClient } from '../src/index.ts';
import { message, settle, Stage } from './stage.ts';

test('making a client opens nothing, and neither does a page that only renders', async () => {
  const stage = new Stage();
  stage.client();
  await stage.pass(10_000);
  assert.equal(stage.sockets.length, 0);

  // This process is such a place: there is no document.
  const client = createClient({ url: '/v1/ws', token: () => assert.fail('asked for a token') });
  const subscription = client.on('a/#', () => assert.fail('called'));
  await assert.rejects(client.publish('a', 1), { code: 'no_websocket', retryable: false });
  assert.equal(client.state.get().phase, 'idle');
  subscription.close();
  client.close();
});

test('the first subscriber connects, and the last one leaves a second before the connection does', async () => {
  const stage = new Stage();
  const client = stage.client({ clientId: 'c-1' });
  const subscription = client.on('a/#', () => {});
  const socket = await stage.live();
  assert.deepEqual([socket.url, socket.protocol], ['wss://gateway.test/v1/ws', 'anabranch.v1.json']);
  assert.deepEqual([socket.of('hello')[0]?.['token'], socket.of('hello')[0]?.['clientId']], ['token-1', 'c-1']);
  assert.equal(client.state.get().phase, 'live');
  subscription.close();
  await stage.pass(900);
  assert.equal(socket.closedWith, undefined);
  await stage.pass(200);
  assert.notEqual(socket.closedWith, undefined);
  assert.equal(client.state.get().phase, 'idle');
});

test('a component that is mounted twice at once sends nothing twice', async () => {
  const stage = new Stage();
  const client = stage.client();
  client.connect();
  const socket = await stage.accept();
  client.on('a/#', () => {}).close();
  client.on('a/#', () => {});
  await settle();
  assert.equal(socket.of('subscribe').length, 1);
  assert.equal(socket.of('unsubscribe').length, 0);
});

test('the state is one object until it changes, and its watchers cannot hurt', async () => {
  const stage = new Stage();
  const client = stage.client();
  const phases: string[] = [];
  client.state.subscribe(() => {
    throw new Error('from a watcher');
  });
  const stop = client.state.subscribe(({ phase }) => phases.push(phase));
  assert.equal(client.state.get(), client.state.get());
  client.on('a', () => {});
  await stage.live();
  stop();
  client.close();
  assert.deepEqual([...new Set(phases)], ['connecting', 'syncing', 'live']);
  assert.equal(stage.errors[0]?.code, 'handler_threw');
});

test('pause has reasons: the connection is back when the last one is taken back', async () => {
  const stage = new Stage();
  const client = stage.client();
  client.on('a', () => {});
  const socket = await stage.live();
  client.pause('one');
  client.pause('two');
  assert.notEqual(socket.closedWith, undefined);
  client.resume('one');
  stage.page?.wake();
  await stage.pass(60_000);
  assert.equal(stage.sockets.length, 1);
  client.resume('two');
  await stage.accept();
  assert.equal(stage.sockets.length, 2);
});

test('a token function that fails, hangs or answers nonsense is asked again', async () => {
  const stage = new Stage();
  const answers = [
    () => Promise.reject(new Error('down')),
    () => new Promise<string>(() => {}),
    () => Promise.resolve(''),
    () => Promise.resolve('token-4'),
  ];
  const client = stage.client({ token: () => (answers.shift() ?? assert.fail)() });
  client.on('a', () => {});
  const socket = await stage.accept();
  assert.equal(socket.of('hello')[0]?.['token'], 'token-4');
  assert.deepEqual(stage.errors.map(({ code }) => code), ['token', 'token', 'token']);
  assert.match(stage.errors[1]?.message ?? '', /10 seconds/);
});

test('close ends everything, for good', async () => {
  const stage = new Stage();
  const client = stage.client();
  const told: unknown[] = [];
  client.on('a', (event) => event.type === 'closed' && told.push(event.error.code));
  const socket = await stage.live();
  const publish = client.publish('a', 1);
  client.close();
  // It was on its way: perhaps the log has it.
  await assert.rejects(publish, { code: 4104 });
  assert.equal(socket.of('goodbye').length, 1);
  assert.deepEqual([client.state.get().phase, told], ['closed', ['closed']]);
  await assert.rejects(client.publish('a', 1), { code: 'closed' });
  await stage.pass(120_000);
  assert.equal(stage.sockets.length, 1);
});

test('closing the client inside a handler stops the delivery at once', async () => {
  const stage = new Stage();
  const client = stage.client();
  const seen: string[] = [];
  client.on('a/#', (event) => {
    seen.push(event.type);
    if (event.type === 'message') client.close();
  });
  const socket = await stage.live();
  socket.receive(message(11, 'a/b'));
  socket.receive(message(12, 'a/b'));
  assert.deepEqual(seen, ['subscribed', 'live', 'message', 'closed']);
  assert.equal(socket.of('goodbye').length, 1);
  assert.equal(client.state.get().phase, 'closed');
});
