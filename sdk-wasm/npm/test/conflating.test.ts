import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settle, Stage, WELCOME } from './stage.ts';

const CALM = { limits: { ...WELCOME.limits, conflateMs: 60_000 } };
const conflations = (frames: unknown[]): unknown[] => (frames as { conflateMs?: number }[]).map(({ conflateMs }) => conflateMs);

test('how often is said with the subscription, and when it changes', async () => {
  const stage = new Stage();
  const client = stage.client();
  const slow = client.subscribe('s/#', { maxHz: 2 });
  client.subscribe('t');
  const socket = await stage.accept(CALM);
  assert.deepEqual(conflations(socket.of('hello')[0]?.['subscriptions'] as unknown[]), [500, undefined]);
  slow.setMaxHz(30);
  slow.setMaxHz(undefined);
  assert.deepEqual(conflations(socket.of('conflate')), [34, 0]);
  slow.setMaxHz(0.001);
  assert.deepEqual(conflations(socket.of('conflate')).at(-1), 60_000);
  slow.close();
  slow.setMaxHz(1);
  assert.equal(socket.of('conflate').length, 3);
});

test('a page that nobody sees says so, on each connection, and no more than that when it is seen again', async () => {
  const stage = new Stage();
  const client = stage.client();
  client.connect();
  await settle();
  stage.page?.hide(true);
  const first = await stage.accept(CALM);
  assert.deepEqual(first.of('hidden'), [{ type: 'hidden', hidden: true }]);
  first.drop();
  const second = await stage.accept(CALM);
  stage.page?.hide(false);
  stage.page?.hide(false);
  assert.deepEqual(second.of('hidden').map(({ hidden }) => hidden), [true, false]);
});

test('an app that wants it the same, and an older gateway, hear nothing of it', async () => {
  for (const [whenHidden, welcome] of [['same', CALM], ['gentle', {}]] as const) {
    const stage = new Stage();
    stage.client({ whenHidden }).connect();
    await settle();
    const socket = await stage.accept(welcome);
    stage.page?.hide(true);
    assert.deepEqual(socket.of('hidden'), []);
  }
});
