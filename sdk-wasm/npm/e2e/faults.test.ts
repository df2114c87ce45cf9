/** What breaks in the page itself, in a real browser: handlers of the app that throw, and wasm that traps. The stream goes on, once and in order, and the app is told. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Page } from 'playwright-core';
import { token } from './gateway.ts';
import { until } from './until.ts';
import { errors, has, numbers, phase, phases, range, type Scope, World } from './world.ts';

let world: World;

before(async () => (world = await World.start()));
after(() => world.stop());

const codes = async (page: Page): Promise<string[]> => (await errors(page)).map((error) => error.split(':')[0] ?? '');

/** What the page's own error reporting was told. */
function reported(page: Page): string[] {
  const all: string[] = [];
  page.on('pageerror', ({ message }) => all.push(message));
  return all;
}

/** In the page: an app whose handlers throw. */
function throwing({ topic, watched }: { topic: string; watched: boolean }): void {
  const scope = globalThis as unknown as Scope;
  const { client } = scope;
  if (watched) {
    client.onError(() => {
      throw new Error('from the error watcher');
    });
  }
  client.state.subscribe(({ phase }) => {
    if (phase === 'live') throw new Error('from the state watcher');
  });
  client.on<{ n: number }>(topic, (event) => {
    if (!('payload' in event)) return;
    scope.seen.push([event.type, event.payload.n]);
    if (event.payload.n % 3 === 0) throw new Error(`from the handler of ${event.payload.n}`);
  });
}

test('handlers that throw cost nothing but an error each, and are not given the same again', async () => {
  const page = await world.tab();
  const uncaught = reported(page);
  const topic = 'log/throwing';
  await world.begin(page, { user: 'throwing', silent: true });
  await page.evaluate(throwing, { topic, watched: true });
  await world.live(page);
  await world.count(1, 30, topic);
  await has(page, 30);
  assert.deepEqual(await numbers(page, 'message'), range(1, 30));
  assert.equal(await phase(page), 'live');
  const said = await errors(page);
  assert.deepEqual(
    said.filter((error) => error.includes('from the handler')),
    range(1, 10).map((n) => `handler_threw: the handler of ${topic} threw: Error: from the handler of ${3 * n}`),
  );
  assert.ok(said.some((error) => error.includes('from the state watcher')));
  assert.deepEqual([...new Set(await codes(page))], ['handler_threw']);
  // The watcher of errors threw at each of them, too.
  await until('all are reported', 10_000, () => uncaught.length === said.length);
  assert.deepEqual([...new Set(uncaught)], ['from the error watcher']);
  // What was given is given, though its handler threw.
  await world.reload(page, { user: 'throwing', silent: true });
  await page.evaluate(throwing, { topic, watched: false });
  await world.live(page);
  await world.count(31, 33, topic);
  await has(page, 33);
  assert.deepEqual(await numbers(page, 'message'), [31, 32, 33]);
  await page.close();
});

test('a loop that throws ends its own subscription, and no other; without a watcher the page is told of what handlers throw', async () => {
  const page = await world.tab();
  const uncaught = reported(page);
  const topic = 'log/loop';
  const outcome = page.evaluate(
    async ({ url, jwt, topic }) => {
      const scope = globalThis as unknown as Scope;
      scope.seen = [];
      scope.client = scope.lib.createClient({ url, token: () => jwt });
      scope.client.on<{ n: number }>(topic, (event) => {
        if (event.type !== 'message') return;
        scope.seen.push([event.type, event.payload.n]);
        if (event.payload.n === 2) throw new Error('from the handler');
      });
      const subscription = scope.client.subscribe<{ n: number }>(topic);
      try {
        for await (const event of subscription) if (event.type === 'message') throw new Error(`from the loop at ${event.payload.n}`);
      } catch (error) {
        return [String(error), subscription.closed];
      }
      return [];
    },
    { url: world.link.url, jwt: token('loop'), topic },
  );
  await until('a client', 10_000, () => page.evaluate(() => 'client' in globalThis));
  await world.live(page);
  await world.count(1, 10, topic);
  assert.deepEqual(await outcome, ['Error: from the loop at 1', true]);
  await has(page, 10);
  assert.deepEqual(await numbers(page, 'message'), range(1, 10));
  await until('it is reported', 10_000, () => uncaught.length > 0);
  assert.deepEqual(uncaught, [`the handler of ${topic} threw: Error: from the handler`]);
  await page.close();
});

/** In the page, before there is a core: `trapNext()` has the next frame read beyond the core's memory. That is a real trap, in the middle of its work. */
function trappable(): void {
  const { Instance } = WebAssembly;
  let armed = false;
  const scope = globalThis as unknown as { trapNext(): void };
  scope.trapNext = () => (armed = true);
  type Export = (...args: unknown[]) => unknown;
  function Trappable(module: WebAssembly.Module, imports?: WebAssembly.Imports): { exports: Record<string, unknown> } {
    const exports: Record<string, unknown> = { ...new Instance(module, imports).exports };
    const received = exports['core_received'] as Export;
    exports['core_received'] = (core: number, attempt: number, at: number, length: number, ...times: number[]) => {
      const where = armed ? -4096 : at;
      armed = false;
      return received(core, attempt, where, length, ...times);
    };
    return { exports };
  }
  Object.assign(WebAssembly, { Instance: Trappable });
}

const trap = (page: Page): Promise<void> => page.evaluate(() => (globalThis as unknown as { trapNext(): void }).trapNext());

async function app(user: string, shared = false): Promise<Page> {
  const page = await world.tab();
  await page.evaluate(trappable);
  await world.begin(page, { user, filter: `log/${user}`, state: `state/${user}`, shared });
  await world.live(page);
  return page;
}

/** Publishes numbers while the page traps, and until it is live again. */
async function trapIn(page: Page, watcher: Page, user: string, from: number): Promise<number> {
  const before = (await phases(page)).length;
  await trap(page);
  let n = from;
  const back = async (): Promise<boolean> => (await phases(page)).slice(before).some(([phase]) => phase === 'live');
  await until('it is live again', 20_000, async () => {
    await world.count(n, (n += 10) - 1, `log/${user}`);
    await world.gateway.publish(`state/${user}`, { n: n - 1 });
    return back();
  });
  await has(watcher, n - 1);
  return n - 1;
}

const newest = (page: Page, topic: string): Promise<number | undefined> =>
  page.evaluate((topic) => (globalThis as unknown as Scope).newest[topic], topic);

test('wasm that traps is replaced, and says so: nothing is missing, nothing twice, what was queued is published once', async (t) => {
  const user = 'trapping';
  const page = await app(user);
  await world.count(1, 10, `log/${user}`);
  await has(page, 10);
  const confirmed = page.evaluate(async (topic) => {
    const { client } = globalThis as unknown as Scope;
    const all = Array.from({ length: 50 }, (_, i) => client.publish(topic, { n: i + 1 }, { queue: true }));
    const queued = await Promise.all(all);
    await Promise.all(queued.map((one) => one.confirmed()));
    return queued.length;
  }, `own/${user}`);
  const begun = Date.now();
  const last = await trapIn(page, page, user, 11);
  const [, live] = (await phases(page)).at(-1) ?? [];
  t.diagnostic(`live again ${(live ?? 0) - begun} ms after it was told to trap`);
  assert.deepEqual(await numbers(page, 'message'), range(1, last));
  assert.deepEqual(await numbers(page, 'gap'), []);
  await until('the newest value', 10_000, async () => (await newest(page, `state/${user}`)) === last);
  assert.equal(await confirmed, 50);
  const [error, ...others] = await errors(page);
  assert.match(error ?? '', /^core_restarted: .*RuntimeError: .*(memory|unreachable)/);
  assert.deepEqual(others, []);
  // The log's word for what it published.
  await page.evaluate((topic) => {
    const scope = globalThis as unknown as Scope;
    scope.client.on<{ n: number }>(topic, (event) => event.type === 'message' && scope.seen.push(['own', event.payload.n]), { from: 'earliest' });
  }, `own/${user}`);
  await until('all of its own', 10_000, async () => (await numbers(page, 'own')).at(-1) === 50);
  assert.deepEqual(await numbers(page, 'own'), range(1, 50));
  await page.close();
});

test('the leader of two tabs traps: both go on', async () => {
  const user = 'leading';
  const leader = await app(user, true);
  const follower = await app(user, true);
  await world.count(1, 10, `log/${user}`);
  for (const page of [leader, follower]) await has(page, 10);
  const last = await trapIn(leader, follower, user, 11);
  await has(leader, last);
  for (const page of [leader, follower]) {
    assert.deepEqual(await numbers(page, 'message'), range(1, last));
    assert.deepEqual(await numbers(page, 'gap'), []);
    await until('the newest value', 10_000, async () => (await newest(page, `state/${user}`)) === last);
  }
  assert.deepEqual(await codes(leader), ['core_restarted']);
  for (const page of [leader, follower]) await page.close();
});

test('three traps within a minute end the client, and say so; what was queued is there for the next page', async () => {
  const user = 'hopeless';
  const page = await app(user);
  const last = await trapIn(page, page, user, (await trapIn(page, page, user, 1)) + 1);
  world.link.cut();
  await until('it says so', 10_000, async () => (await phase(page)) !== 'live');
  await page.evaluate(async (topic) => {
    await (globalThis as unknown as Scope).client.publish(topic, { n: 1 }, { queue: true });
  }, `own/${user}`);
  await trap(page);
  world.link.heal();
  await until('closed', 20_000, async () => (await phase(page)) === 'closed');
  assert.deepEqual(await codes(page), ['core_restarted', 'core_restarted', 'core_failed']);
  assert.equal((await numbers(page, 'closed')).length, 1);
  assert.equal(await page.evaluate(() => (globalThis as unknown as Scope).client.state.get().code), 'core_failed');
  await world.reload(page, { user, filter: `log/${user}` });
  await world.live(page);
  await world.count(last + 1, last + 5, `log/${user}`);
  await has(page, last + 5);
  assert.deepEqual(await numbers(page, 'message'), range(last + 1, last + 5));
  await until('an empty outbox', 10_000, () => page.evaluate(async () => (await (globalThis as unknown as Scope).client.outbox()).length === 0));
  await page.close();
});
