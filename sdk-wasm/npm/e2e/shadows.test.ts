/** Shadows in tabs that share a connection: what a tab has wished for without one, what the leader publishes, and what every tab shows, agree. */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import type { Page } from 'playwright-core';
import type { Shadow, ShadowChange } from '../src/shadow.ts';
import { until } from './until.ts';
import { phase, type Scope, World } from './world.ts';

interface Fan {
  readonly fan: { readonly rpm: number; readonly on: boolean };
}

interface Wishes extends Scope {
  shadow: Shadow<Fan>;
  changes: ShadowChange[];
}

let world: World;
let pages: Page[] = [];

before(async () => (world = await World.start({ more: ['shadows.enabled = true'] })));
after(() => world.stop());
afterEach(async () => {
  await Promise.all(pages.map((page) => page.close().catch(() => {})));
  pages = [];
  world.link.heal();
});

/** A tab that shows the shadow of a device, and has its connection in common with the user's others. */
async function open(user: string, device: string): Promise<Page> {
  const page = await world.app({ user, silent: true, shared: true });
  pages.push(page);
  await page.evaluate(async (device) => {
    const scope = globalThis as unknown as Wishes;
    scope.changes = [];
    scope.shadow = scope.client.shadow<Fan>(device);
    await scope.shadow.ready();
  }, device);
  await world.live(page);
  return page;
}

const role = (page: Page): Promise<string> => page.evaluate(() => (globalThis as unknown as Scope).client.role);
const view = (page: Page) => page.evaluate(() => (globalThis as unknown as Wishes).shadow.get());
/** The messages that carry the changes of a tab, in the order of the changes. */
const carriers = (page: Page): Promise<string[]> => page.evaluate(() => (globalThis as unknown as Wishes).changes.map(({ messageId }) => messageId));
const outcomes = (page: Page): Promise<string[]> =>
  page.evaluate(async () => (await Promise.all((globalThis as unknown as Wishes).changes.map((one) => one.settled({ timeoutMs: 0 })))).map(({ outcome }) => outcome));
/** What waits for the connection, as any tab sees it. */
const waiting = (page: Page): Promise<[string, unknown][]> =>
  page.evaluate(async () => (await (globalThis as unknown as Scope).client.outbox()).map(({ messageId, payload }): [string, unknown] => [messageId, payload]));

/** Turns a fan up five times in one tab, and on in the other, without a connection. */
async function wish(follower: Page, leader: Page, queue: boolean): Promise<void> {
  world.link.cut();
  for (const page of [leader, follower]) await until('there is no connection', 10_000, async () => (await phase(page)) !== 'live');
  await follower.evaluate((queue) => {
    const scope = globalThis as unknown as Wishes;
    for (let rpm = 1; rpm <= 5; rpm += 1) scope.changes.push(scope.shadow.setDesired({ fan: { rpm } }, { queue }));
  }, queue);
  assert.deepEqual((await view(follower)).desired, { fan: { rpm: 5 } }, 'it shows at once');
  const asked = queue ? 5 : 1;
  await until('the leader has it', 10_000, async () => (await waiting(leader)).length === asked);
  await leader.evaluate((queue) => {
    const scope = globalThis as unknown as Wishes;
    scope.changes.push(scope.shadow.setDesired({ fan: { on: true } }, { queue }));
  }, queue);
  if (!queue) return;
  for (const page of [leader, follower]) await page.evaluate(() => Promise.all((globalThis as unknown as Wishes).changes.map((one) => one.stored())));
}

/** What the log has of a device's wishes, as another user sees it. */
async function published(device: string): Promise<[string, unknown][]> {
  const page = await world.app({ user: `witness of ${device}`, silent: true });
  const all = await page.evaluate(
    (topic) =>
      new Promise<[string, unknown][]>((resolve) => {
        const all: [string, unknown][] = [];
        (globalThis as unknown as Scope).client.on(
          topic,
          (event) => {
            if (event.type === 'message') all.push([event.metadata.messageId, event.payload]);
            if (event.type === 'live') resolve(all);
          },
          { from: 'earliest' },
        );
      }),
    `iotsphere/devices/${device}/shadow/desired`,
  );
  await page.close();
  return all;
}

/** There is a connection again: what waited is what the log has, and what all tabs show. */
async function agree(device: string, all: Page[], waited: [string, unknown][]): Promise<void> {
  world.link.heal();
  for (const page of all) {
    await world.live(page);
    await until('the shadow has all of it', 20_000, async () => isDeepStrictEqual((await view(page)).document?.desired, { fan: { on: true, rpm: 5 } }));
  }
  assert.deepEqual(await published(device), waited, 'once, in the order in which they were made, and nothing else');
  for (const page of all) {
    await until('nothing waits', 10_000, async () => (await waiting(page)).length === 0);
    assert.deepEqual((await view(page)).desired, { fan: { on: true, rpm: 5 } });
  }
}

test('what a follower has queued on one path is published as it was made, one message for each', async () => {
  const [leader, follower] = [await open('one', 'd1'), await open('one', 'd1')];
  await wish(follower, leader, true);
  const waited = await waiting(leader);
  assert.deepEqual(waited.map(([, payload]) => payload), [...[1, 2, 3, 4, 5].map((rpm) => ({ fan: { rpm } })), { fan: { on: true } }]);
  assert.deepEqual(await waiting(follower), waited);
  assert.deepEqual(await carriers(follower), waited.slice(0, 5).map(([messageId]) => messageId));
  await agree('d1', [leader, follower], waited);
  // No device reports it; but what was wished for before is not wished for any more.
  await until('the last one counts', 10_000, async () => (await view(follower)).pending['/fan/rpm']?.stage === 'accepted');
  assert.deepEqual(await outcomes(follower), ['superseded', 'superseded', 'superseded', 'superseded', 'pending']);
});

test('what ends with the page becomes one message, and the follower knows which', async () => {
  const [leader, follower] = [await open('two', 'd2'), await open('two', 'd2')];
  await wish(follower, leader, false);
  const waited = await waiting(leader);
  assert.deepEqual(waited.map(([, payload]) => payload), [{ fan: { rpm: 5 } }, { fan: { on: true } }]);
  assert.deepEqual(new Set(await carriers(follower)), new Set([waited[0]?.[0]]));
  await agree('d2', [leader, follower], waited);
  await until('the last one counts', 10_000, async () => (await view(follower)).pending['/fan/rpm']?.stage === 'accepted');
  assert.deepEqual(await outcomes(follower), ['superseded', 'superseded', 'superseded', 'superseded', 'pending']);
});

test('the leader ends before there is a connection: what was queued is published by the next, once and in order', async () => {
  const [leader, follower] = [await open('three', 'd3'), await open('three', 'd3')];
  await wish(follower, leader, true);
  const waited = await waiting(follower);
  await leader.close();
  await until('the other leads', 10_000, async () => (await role(follower)) === 'leader');
  await until('it has all', 10_000, async () => (await waiting(follower)).length === 6);
  assert.deepEqual(await waiting(follower), waited);
  await agree('d3', [follower], waited);
  await until('the last one counts', 10_000, async () => (await view(follower)).pending['/fan/rpm']?.stage === 'accepted');
  assert.deepEqual(await outcomes(follower), ['superseded', 'superseded', 'superseded', 'superseded', 'pending']);
});
