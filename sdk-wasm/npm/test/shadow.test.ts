import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { JsonObject } from '../src/index.ts';
import { ShadowState } from '../src/shadow/state.ts';
import { delta } from '../src/shadow/json.ts';
import { cursor, type FakeSocket, type Frame, message, settle, Stage, subscribed } from './stage.ts';

interface Step {
  document?: unknown;
  set?: [string, JsonObject];
  merged?: [string, string];
  sent?: string;
  accepted?: [string, number, number];
  rejected?: [string, number, string];
  begin?: true;
  unsure?: true;
  decided?: [number, number];
  [seen: string]: unknown;
}

const file = new URL('../../../sdk-core/tests/shadows.json', import.meta.url);
const { cases } = JSON.parse(readFileSync(file, 'utf8')) as { cases: { name: string; steps: Step[] }[] };

for (const { name, steps } of cases) {
  test(`vector: ${name}`, () => {
    const shadow = new ShadowState();
    for (const step of steps) {
      if (step.document !== undefined) shadow.take(step.document);
      if (step.set) shadow.set(...step.set);
      if (step.merged) shadow.merged(...step.merged);
      if (step.sent) shadow.sent(step.sent);
      if (step.accepted) shadow.accepted(...step.accepted);
      if (step.rejected) shadow.rejected(...step.rejected);
      if (step.begin) shadow.begin();
      if (step.unsure) shadow.unsure();
      if (step.decided) shadow.decided(...step.decided);
      const seen: Record<string, unknown> = {
        settled: Object.fromEntries(shadow.settle().map(([id, { outcome }]) => [id, outcome])),
        pending: Object.fromEntries(Object.entries(shadow.pending).map(([field, { stage }]) => [field, stage])),
        desired: shadow.desired,
        delta: delta(shadow.desired, shadow.document?.reported ?? {}),
        exists: shadow.document !== null,
      };
      for (const [what, value] of Object.entries(seen)) {
        if (what in step) assert.deepEqual(value, step[what], `${what} after ${JSON.stringify(step)}`);
      }
    }
  });
}

interface Fan {
  fan: { rpm: number; on: boolean };
}

const topic = (leaf: string): string => `iotsphere/devices/d1/shadow/${leaf}`;
const document = (version: number, desired: unknown, reported: unknown): unknown => ({
  incarnation: 1,
  version,
  timestamp: version,
  state: { desired, reported },
  timestamps: {},
});

function answer(offset: number, leaf: string, to: string, payload: unknown): Frame {
  const frame = message(offset, topic(leaf), payload);
  const envelope = frame['envelope'] as { metadata: Record<string, unknown> };
  envelope.metadata['correlationId'] = to;
  return frame;
}

/** Answers the hello: the document's subscription gets a snapshot. */
async function open(stage: Stage, shown?: unknown): Promise<FakeSocket> {
  const socket = await stage.accept();
  for (const { id, filter } of socket.of('hello')[0]?.['subscriptions'] as { id: number; filter: string }[]) {
    const whole = filter.endsWith('document') ? { snapshot: 'whole', state: cursor(0) } : {};
    socket.receive({ ...subscribed(id, 10), ...whole });
  }
  if (shown) socket.receive({ ...message(5, topic('document'), shown), snapshot: true });
  socket.receive({ type: 'caught_up', cursor: cursor(10) });
  await settle();
  return socket;
}

test('a change shows at once, and settles when the device reports it', async () => {
  const stage = new Stage();
  const client = stage.client();
  const shadow = client.shadow<Fan>('d1');
  const before = shadow.get();
  assert.equal(before, shadow.get(), 'the same object until something changes');
  assert.equal(before.known, false);
  const ready = shadow.ready();
  const socket = await open(stage, document(1, { fan: { rpm: 1 } }, { fan: { rpm: 1, on: true } }));
  assert.equal((await ready).reported.fan?.rpm, 1);
  await settle();
  assert.equal(shadow.get().live, true);

  const deltas = shadow.deltas();
  const first = deltas.next();
  const change = shadow.setDesired({ fan: { rpm: 2 } });
  assert.deepEqual(shadow.get().desired, { fan: { rpm: 2 } });
  assert.deepEqual(shadow.get().delta, { fan: { rpm: 2 } });
  assert.deepEqual(shadow.get().pending, { '/fan/rpm': { stage: 'queued' } });
  socket.receive({ type: 'published', messageId: change.messageId, position: '0:11:0000000b' });
  await settle();
  assert.deepEqual(shadow.get().pending, { '/fan/rpm': { stage: 'sent' } });
  socket.receive(answer(12, 'accepted', change.messageId, { incarnation: 1, version: 2 }));
  await settle();
  assert.deepEqual(shadow.get().pending, { '/fan/rpm': { stage: 'accepted', version: 2 } });
  socket.receive(message(13, topic('document'), document(3, { fan: { rpm: 2 } }, { fan: { rpm: 2, on: true } })));
  assert.deepEqual(await change.settled(), { outcome: 'applied', version: 3 });
  assert.deepEqual(shadow.get().pending, {});
  const told = (await first).value;
  assert.deepEqual(told, { incarnation: 1, base: 1, version: 3, desired: { fan: { rpm: 2 } }, reported: { fan: { rpm: 2 } } });

  socket.drop();
  await settle();
  assert.equal(shadow.get().live, false);
  client.close();
  assert.equal((await deltas.next()).done, true);
});

test('a refusal takes the change back, and no shadow is known as none', async () => {
  const stage = new Stage();
  const client = stage.client();
  const shadow = client.shadow<Fan>('d1');
  const socket = await open(stage);
  assert.deepEqual({ ...(await shadow.ready()), asOf: 0 }.document, null);
  const change = shadow.setDesired({ fan: { rpm: 9 } });
  socket.receive({ type: 'published', messageId: change.messageId, position: '0:11:0000000b' });
  socket.receive(answer(12, 'rejected', change.messageId, { code: 4413, message: 'too large', version: 0 }));
  assert.deepEqual(await change.settled(), { outcome: 'rejected', code: 4413, message: 'too large' });
  assert.deepEqual(shadow.get().desired, {});
  assert.deepEqual(await shadow.setDesired({ fan: null }).settled({ timeoutMs: 1 }), { outcome: 'pending' });
});

test('one device has one shadow, which ends with its last user', async () => {
  const stage = new Stage();
  const client = stage.client();
  const shadow = client.shadow('d1');
  assert.equal(client.shadow('d1'), shadow);
  const socket = await open(stage);
  shadow.close();
  assert.equal(socket.of('unsubscribe').length, 0);
  shadow.close();
  await settle();
  assert.equal(socket.of('unsubscribe').length, 3);
  assert.equal(shadow.get().closed?.code, 'closed');
  assert.notEqual(client.shadow('d1'), shadow);
});

test('an answer that was lost in a gap is asked for, and the truth decides', async () => {
  const stage = new Stage();
  const shadow = stage.client().shadow<Fan>('d1');
  const socket = await open(stage, document(1, { fan: { rpm: 1 } }, {}));
  const change = shadow.setDesired({ fan: { rpm: 9 } });
  socket.receive({ type: 'published', messageId: change.messageId, position: '0:11:0000000b' });
  await settle();
  socket.receive({ type: 'gap', partition: 0, after: '11', before: '20', reason: 'retention' });
  await settle();
  const asked = socket.of('publish').map((frame) => (frame['envelope'] as { metadata: { topic: string; messageId: string } }).metadata);
  // Either answer may be lost: each of the two subscriptions has heard of the gap.
  assert.deepEqual(asked.map(({ topic }) => topic), [topic('desired'), topic('get'), topic('get')]);
  assert.deepEqual(shadow.get().desired, { fan: { rpm: 9 } }, 'it may be under way');
  socket.receive(answer(21, 'accepted', asked[2]?.messageId ?? '', { incarnation: 1, version: 1 }));
  assert.deepEqual(await change.settled(), { outcome: 'superseded' });
  assert.deepEqual(shadow.get().desired, { fan: { rpm: 1 } });
});

test('where a snapshot may lack the document, the gateway is asked for it', async () => {
  for (const [version, exists] of [[0, false], [4, true]] as const) {
    const stage = new Stage();
    const shadow = stage.client().shadow<Fan>('d1');
    const socket = await stage.accept();
    for (const { id, filter } of socket.of('hello')[0]?.['subscriptions'] as { id: number; filter: string }[]) {
      socket.receive({ ...subscribed(id, 10), ...(filter.endsWith('document') ? { snapshot: 'whole', state: cursor(0) } : {}) });
    }
    socket.receive({ type: 'incomplete' });
    socket.receive({ type: 'caught_up', cursor: cursor(10) });
    await settle();
    assert.equal(shadow.get().known, false);
    const [get] = socket.of('publish').map((frame) => (frame['envelope'] as { metadata: { messageId: string } }).metadata);
    const payload = exists ? document(version, { fan: { rpm: 1 } }, {}) : { incarnation: 0, version };
    socket.receive(answer(12, 'accepted', get?.messageId ?? '', payload));
    assert.equal((await shadow.ready()).document !== null, exists);
  }
});

test('what shows is what is sent, whatever the app gives', async () => {
  const stage = new Stage();
  const client = stage.client();
  const shadow = client.shadow<{ a: number; b?: number | undefined; at?: unknown }>('d1');
  await open(stage);
  const patch = { a: 1, b: undefined, at: new Date(0) };
  shadow.setDesired(patch as never);
  patch.a = 2;
  assert.deepEqual(shadow.get().desired, { a: 1, at: '1970-01-01T00:00:00.000Z' });
  assert.throws(() => shadow.setDesired({ a: 1n } as never), TypeError);
  assert.deepEqual(Object.keys(shadow.get().pending), ['/a', '/at']);
  for (const device of ['', '+', '#', 'a/b']) assert.throws(() => client.shadow(device), { code: 'bad_device' });
});
