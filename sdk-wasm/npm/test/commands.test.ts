import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AnabranchError } from '../src/errors.ts';
import type { Job } from '../src/commands.ts';
import { cursor, type FakeSocket, message, settle, Stage } from './stage.ts';

interface Request {
  metadata: { messageId: string; correlationId: string; topic: string; messageType: string };
  payload: { name: string; expires: number; arguments: unknown };
}

const requests = (socket: FakeSocket): Request[] => socket.of('publish').map((frame) => frame['envelope'] as Request);

/** Somebody who commands, with one command of the device `d1` on its way. */
async function commanded(stage: Stage): Promise<{ socket: FakeSocket; job: Job<{ ok: boolean }>; seen: string[] }> {
  const commands = stage.client().commands('alice');
  const job = commands.send<{ ok: boolean }>('d1', 'reboot', { in: 5 }, { timeToLiveMs: 10_000 });
  const seen: string[] = [job.progress.get().stage];
  job.progress.subscribe(({ stage }) => seen.push(stage));
  const socket = await stage.live();
  return { socket, job, seen };
}

function answer(offset: number, { id }: Job, payload: unknown): unknown {
  const frame = message(offset, 'iotsphere/devices/d1/commands/response/alice', payload) as { envelope?: unknown };
  const { metadata } = frame.envelope as { metadata: object };
  return { ...frame, envelope: { metadata: { ...metadata, correlationId: id }, payload } };
}

test('a command is stored, done, and answered on a topic of its own', async () => {
  const stage = new Stage();
  const { socket, job, seen } = await commanded(stage);
  const [filter] = socket.of('hello')[0]?.['subscriptions'] as { filter: string }[];
  assert.equal(filter?.filter, 'iotsphere/devices/+/commands/response/alice');
  const [request] = requests(socket);
  assert.deepEqual(
    [request?.metadata.topic, request?.metadata.messageType, request?.metadata.messageId, request?.metadata.correlationId],
    ['iotsphere/devices/d1/commands/request', 'command', job.id, job.id],
  );
  assert.deepEqual([request?.payload.name, request?.payload.arguments], ['reboot', { in: 5 }]);
  assert.ok((request?.payload.expires ?? 0) > 1_795_233_600_000);
  const reply = job.reply();
  socket.receive({ type: 'published', messageId: job.id, position: '0:11:0000000b' });
  await settle();
  socket.receive(answer(12, job, { status: 'done', result: { ok: true } }));
  assert.deepEqual(await reply, { ok: true });
  socket.receive(answer(13, job, { status: 'failed', message: 'a second word' }));
  assert.deepEqual(seen, ['queued', 'sent', 'accepted', 'done'], 'it ends once');
});

test('an answer finds its command after a reconnect, and before the confirm', async () => {
  const stage = new Stage();
  const { socket, job, seen } = await commanded(stage);
  socket.drop();
  const second = await stage.accept();
  assert.deepEqual(requests(second).map(({ metadata }) => metadata.messageId), [job.id], 'sent again under the same id');
  const [{ id } = { id: 0 }] = second.of('hello')[0]?.['subscriptions'] as { id: number }[];
  second.receive({ type: 'subscribed', subscription: id, cursor: cursor(10), outcome: 'resumed' });
  second.receive(answer(12, job, { status: 'expired' }));
  second.receive({ type: 'published', messageId: job.id, position: '0:11:0000000b', duplicate: true });
  await settle();
  assert.deepEqual(seen, ['queued', 'sent', 'expired']);
  await assert.rejects(job.reply(), (error: AnabranchError) => error.code === 'expired');
});

test('a command that was not sent is taken back, and one that was is not', async () => {
  const stage = new Stage();
  const commands = stage.client().commands('alice');
  const job = commands.send('d1', 'reboot');
  assert.equal(job.progress.get().stage, 'queued', 'it is not connected');
  assert.equal(await job.cancel(), true);
  assert.equal(job.progress.get().stage, 'cancelled');
  await assert.rejects(job.reply(), (error: AnabranchError) => error.code === 'cancelled');
  const socket = await stage.live();
  assert.equal(requests(socket).length, 0);
  const second = commands.send('d1', 'reboot');
  assert.equal(second.progress.get().stage, 'sent');
  assert.equal(await second.cancel(), false);
});

test('a command whose time ends before there is a connection was not begun, and never will be', async () => {
  const stage = new Stage();
  const job = stage.client().commands('alice').send('d1', 'reboot', null, { timeToLiveMs: 1_000 });
  await stage.pass(2_000);
  assert.equal(job.progress.get().stage, 'expired');
});

test('no device answers for another, and what cannot be sent leaves nothing behind', async () => {
  const stage = new Stage();
  const { socket, job, seen } = await commanded(stage);
  const forged = answer(12, job, { status: 'done', result: 'forged' }) as { envelope: { metadata: { topic: string } } };
  forged.envelope.metadata.topic = 'iotsphere/devices/d2/commands/response/alice';
  socket.receive(forged);
  socket.receive(answer(13, job, { status: 'done', result: { ok: true } }));
  assert.deepEqual(await job.reply(), { ok: true });
  assert.deepEqual(seen, ['queued', 'sent', 'done']);
  const commands = stage.client().commands('bob');
  const none = commands.send('d1', 'reboot', 1n);
  const never = commands.send('d1', 'reboot', null, { timeToLiveMs: Number.NaN });
  await stage.pass(6_000);
  assert.deepEqual([none.progress.get().stage, never.progress.get().stage], ['failed', 'expired']);
});

test('silence is not called an end, and a late answer still is one', async () => {
  const stage = new Stage();
  const { socket, job, seen } = await commanded(stage);
  socket.receive({ type: 'published', messageId: job.id, position: '0:11:0000000b' });
  await stage.pass(14_000);
  assert.equal(job.progress.get().stage, 'accepted');
  await stage.pass(2_000);
  await assert.rejects(job.reply(), (error: AnabranchError) => error.code === 'unanswered');
  socket.receive(answer(12, job, { status: 'failed', message: 'no reboot today' }));
  await assert.rejects(job.reply(), /no reboot today/);
  assert.deepEqual(seen, ['queued', 'sent', 'accepted', 'unanswered', 'failed']);
});

test('what the gateway refuses has failed', async () => {
  const stage = new Stage();
  const { socket, job } = await commanded(stage);
  socket.receive({ type: 'refused', code: 4400, remedy: 'drop_item', message: 'not granted', messageId: job.id });
  await assert.rejects(job.reply(), (error: AnabranchError) => error.code === 4400);
});
