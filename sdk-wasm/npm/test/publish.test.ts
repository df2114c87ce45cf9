import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Frame } from './stage.ts';
import { Stage } from './stage.ts';

const envelope = (frame: Frame | undefined) => frame?.['envelope'] as { metadata: Record<string, unknown>; payload: unknown };

test('a publish resolves when it is stored', async () => {
  const stage = new Stage();
  const client = stage.client({ clientId: 'c-1' });
  const stored = client.publish('a/b', { n: 1 }, { correlationId: 'k', messageType: 'command' });
  const socket = await stage.live();
  const { metadata, payload } = envelope(socket.of('publish')[0]);
  assert.match(String(metadata['messageId']), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.deepEqual(
    { ...metadata, messageId: '', timestamp: '' },
    { messageId: '', timestamp: '', topic: 'a/b', source: 'c-1', correlationId: 'k', messageType: 'command', version: '1.0' },
  );
  assert.deepEqual(payload, { n: 1 });
  socket.receive({ type: 'published', messageId: metadata['messageId'], position: '0:11:0000000b' });
  assert.deepEqual(await stored, { position: '0:11:0000000b', duplicate: false });
});

test('what is not confirmed is sent again under the same id', async () => {
  const stage = new Stage();
  const client = stage.client();
  const stored = client.publish('a', 1, { messageId: 'm-1' });
  const again = client.publish('a', 1, { messageId: 'm-1' });
  const first = await stage.live();
  assert.equal(first.of('publish').length, 1);
  first.drop();
  const second = await stage.live();
  assert.deepEqual(envelope(second.of('publish')[0]), envelope(first.of('publish')[0]));
  second.receive({ type: 'published', messageId: 'm-1', position: '0:11:0000000b', duplicate: true });
  assert.deepEqual(await stored, { position: '0:11:0000000b', duplicate: true });
  assert.deepEqual(await again, await stored);
});

test('a refused publish rejects with what to do', async () => {
  const stage = new Stage();
  const client = stage.client();
  const stored = client.publish('a', 1, { messageId: 'm-1' });
  const socket = await stage.live();
  socket.receive({ type: 'refused', code: 4400, remedy: 'drop_item', message: 'not granted', messageId: 'm-1' });
  await assert.rejects(stored, { name: 'AnabranchError', code: 4400, retryable: false, hint: /grant/ });
});
