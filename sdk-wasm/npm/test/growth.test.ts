/** What is over leaves nothing behind: neither in the core's memory, which can only grow, nor in the shell's. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { cursor, settle, Stage, subscribed, type FakeSocket } from './stage.ts';

const memories: WebAssembly.Memory[] = [];
WebAssembly.Instance = class extends WebAssembly.Instance {
  constructor(module: WebAssembly.Module, imports?: WebAssembly.Imports) {
    super(module, imports);
    memories.push(this.exports['memory'] as WebAssembly.Memory);
  }
};
const wasm = (): number => memories.at(-1)?.buffer.byteLength ?? Number.NaN;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
async function heap(): Promise<number> {
  // What a finalizer lets go of is collected by the next round.
  for (let round = 0; round < 3; round += 1) {
    collect();
    await settle();
  }
  return process.memoryUsage().heapUsed;
}

test('ten thousand subscriptions that are over', async (t) => {
  const stage = new Stage();
  const client = stage.client();
  client.connect();
  const socket = await stage.accept();
  const round = async (): Promise<void> => {
    const open = Array.from({ length: 100 }, (_, n) => client.on(`a/${n}/#`, () => {}));
    await settle();
    const asked = socket.of('subscribe');
    assert.equal(asked.length, 100);
    for (const { id } of asked) socket.receive(subscribed(id as number, 10));
    socket.receive({ type: 'caught_up', cursor: cursor(10) });
    assert.ok(open.every(({ stale }) => !stale));
    for (const subscription of open) subscription.close();
    socket.sent.length = 0;
  };
  for (let n = 0; n < 20; n += 1) await round();
  const [bytes, used] = [wasm(), await heap()];
  for (let n = 0; n < 100; n += 1) await round();
  const grown = (await heap()) - used;
  t.diagnostic(`wasm memory ${bytes} bytes, then ${wasm()}; JavaScript grew by ${grown}`);
  assert.equal(wasm(), bytes);
  // What is compiled meanwhile counts too. A subscription that each of them left would be two megabytes.
  assert.ok(grown < 500_000, `${grown} bytes`);
  client.close();
});

test('a thousand connections that were lost', async (t) => {
  const stage = new Stage();
  const client = stage.client();
  for (let n = 0; n < 10; n += 1) client.on(`a/${n}/#`, () => {});
  let socket: FakeSocket | undefined;
  const round = async (): Promise<void> => {
    socket?.drop();
    socket = await stage.live();
    assert.equal(client.state.get().phase, 'live');
  };
  for (let n = 0; n < 50; n += 1) await round();
  const bytes = wasm();
  for (let n = 0; n < 1_000; n += 1) await round();
  t.diagnostic(`wasm memory ${bytes} bytes, then ${wasm()}`);
  assert.equal(wasm(), bytes);
  client.close();
});
