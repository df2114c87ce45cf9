/**
 * Links that pass nothing and say nothing, a gateway that dies in a burst, a log that forgets: nothing is missing that was not told, nothing comes
 * twice, everything in order, state ends on its newest value, and what the page says of it is true at each moment.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Page } from 'playwright-core';
import { Gateway } from './gateway.ts';
import { stream } from './stream.ts';
import { until } from './until.ts';
import { amount, errors, has, is, numbers, phase, phases, range, type Scope, sequence, visibility, World } from './world.ts';

/** How long a black hole lasts. */
const BLACK_HOLE_MS = 60_000;
/** After so long a silence a connection is dead, unless the gateway is told otherwise: its pings and their grace. */
const SILENCE_MS = 35_000;

let world: World;
/** Gateways of their own: one that is killed, and one whose log and memory hold little. */
let mortal: Gateway;
let forgetful: Gateway;
/** In a window of its own. */
let seen: Page;
/** Behind other tabs, for good and until it is shown. */
let unseen: Page;
let shown: Page;
let burst: Page;
let kept: Page;

before(async () => {
  world = await World.start();
  mortal = await Gateway.start();
  forgetful = await Gateway.start({ log: 'fsync=none&segment=1MiB&retention=2MiB', state: ['plant/+/status'], more: ['limits.ring = "1MiB"'] });
  // One at a time: each is in front of those before it.
  unseen = await world.tab();
  shown = await world.tab();
  await world.tab();
  seen = await world.window();
  burst = await world.window();
  kept = await world.window();
});
after(() => Promise.all([world.stop(), mortal.stop(), forgetful.stop()]));

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

/** Until when the page says that it knows everything, in Unix milliseconds, and whether it says that it may not. */
const freshness = (page: Page): Promise<{ asOf: number; stale: boolean }> =>
  page.evaluate(() => {
    const { watched } = globalThis as unknown as Scope;
    return { asOf: watched.freshAsOf ?? 0, stale: watched.stale };
  });

const newest = (page: Page, topic: string): Promise<number | undefined> =>
  page.evaluate((topic) => (globalThis as unknown as Scope).newest[topic], topic);

/** When the page was told of this phase first, after that moment. */
const since = async (page: Page, what: string, at: number): Promise<number> =>
  (await until(`${what} after ${at}`, 20_000, async () => (await phases(page)).find(([phase, when]) => phase === what && when >= at)))[1];

/** The page has all numbers, once and in order, and no gap was told; the state topic is at its end. */
async function whole(page: Page, name: string, last: number): Promise<void> {
  await has(page, last);
  sequence(await numbers(page, 'message'), 1, last);
  assert.deepEqual(await numbers(page, 'gap'), []);
  await until('the newest value', 20_000, async () => (await newest(page, `state/${name}`)) === last);
}

async function app(page: Page, name: string, url: string): Promise<void> {
  await world.begin(page, { user: name, filter: `log/${name}`, state: `state/${name}`, url });
  await world.live(page);
}

describe('what a link does', { concurrency: true }, () => {
  test('a black hole of 60 s: the page says that it knows nothing new, and has everything when it ends', async (t) => {
    const link = await world.gateway.anotherLink();
    await app(seen, 'hole', link.url);
    await is(seen, 'visible');
    const messages = stream(t, world.gateway, 'log/hole', 'state/hole');
    await has(seen, 20);
    const begun = Date.now();
    link.freeze();
    const before = messages.last;
    await until('it says that it is not live', SILENCE_MS + 15_000, async () => (await phase(seen)) !== 'live');
    const noticed = Date.now();
    const had = await numbers(seen, 'message');
    // What was on its way came; whatever came later could not.
    assert.ok((had.at(-1) ?? 0) <= before + 1, `${had.at(-1)} came through a black hole that was there at ${before}`);
    const { asOf, stale } = await freshness(seen);
    assert.ok(stale && asOf < begun + 1_000, `it says that it knew everything ${seconds(asOf - begun)} into the black hole`);
    await until('it is over', BLACK_HOLE_MS, () => Date.now() >= begun + BLACK_HOLE_MS);
    assert.notEqual(await phase(seen), 'live');
    assert.deepEqual(await numbers(seen, 'message'), had);
    assert.ok(messages.last > before + 100, 'there was something to miss');
    assert.equal(await visibility(seen), 'visible');
    const healed = Date.now();
    link.heal();
    const live = await since(seen, 'live', healed);
    t.diagnostic(`noticed after ${seconds(noticed - begun)} of silence; live again ${seconds(live - healed)} after the black hole ended`);
    await whole(seen, 'hole', await messages.stop());
    assert.deepEqual(await errors(seen), []);
  });

  test('a connection that leads nowhere, behind a tab that nobody sees: it is replaced', async (t) => {
    const link = await world.gateway.anotherLink();
    await is(unseen, 'hidden');
    await app(unseen, 'unseen', link.url);
    const messages = stream(t, world.gateway, 'log/unseen', 'state/unseen');
    await has(unseen, 20);
    const begun = Date.now();
    link.forget();
    await until('it is live on another connection', SILENCE_MS + 20_000, async () => link.total > 1 && (await phase(unseen)) === 'live');
    const live = await since(unseen, 'live', begun);
    t.diagnostic(`live again after ${seconds(live - begun)}, hidden all the time`);
    await whole(unseen, 'unseen', await messages.stop());
    assert.equal(await visibility(unseen), 'hidden');
    assert.deepEqual([link.total, await errors(unseen)], [2, []]);
  });

  test('a connection that leads nowhere, and then somebody looks: it is probed and replaced at once', async (t) => {
    const link = await world.gateway.anotherLink();
    await is(shown, 'hidden');
    await app(shown, 'shown', link.url);
    const messages = stream(t, world.gateway, 'log/shown', 'state/shown');
    await has(shown, 20);
    link.forget();
    const before = messages.last;
    await until('something is missed', 10_000, () => messages.last > before + 20);
    assert.equal(await phase(shown), 'live', 'nothing tells it yet');
    assert.equal(await visibility(shown), 'hidden');
    const woken = Date.now();
    await shown.bringToFront();
    await is(shown, 'visible');
    const live = await since(shown, 'live', woken);
    t.diagnostic(`wake to live: ${seconds(live - woken)}`);
    await whole(shown, 'shown', await messages.stop());
    assert.deepEqual([link.total, await errors(shown)], [2, []]);
  });

  test('the gateway is killed in a burst, three times', async (t) => {
    await app(burst, 'burst', mortal.url);
    const messages = stream(t, mortal, 'log/burst', 'state/burst', { atOnce: 50, everyMs: 50 });
    // The page publishes too, until it is told to stop.
    const own = burst.evaluate(async () => {
      const scope = globalThis as unknown as Scope & { enough?: boolean };
      const told: number[] = [];
      scope.client.on<{ n: number }>('log/own', (event) => event.type === 'message' && told.push(event.payload.n), { from: 'earliest' });
      let last = 0;
      while (!scope.enough) {
        await Promise.all(Array.from({ length: 20 }, () => scope.client.publish('log/own', { n: (last += 1) })));
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      while (told.at(-1) !== last) await new Promise((resolve) => setTimeout(resolve, 20));
      return told;
    });
    const back: string[] = [];
    for (let kill = 0; kill < 3; kill += 1) {
      const had = await amount(burst);
      await until('the burst goes on', 20_000, async () => (await amount(burst)) > had + 500);
      await mortal.kill();
      await until('it says so', 10_000, async () => (await phase(burst)) !== 'live');
      const died = Date.now();
      await mortal.startAgain();
      const ready = Date.now();
      back.push(seconds((await since(burst, 'live', died)) - ready));
    }
    const last = await messages.stop();
    t.diagnostic(`${last} messages; live again ${back.join(', ')} after the gateway was ready`);
    await whole(burst, 'burst', last);
    await burst.evaluate(() => void Object.assign(globalThis, { enough: true }));
    const told = await own;
    t.diagnostic(`${told.length} of the page's own`);
    sequence(told, 1, told.length);
    assert.deepEqual(await errors(burst), []);
  });

  test('the log has forgotten what the page missed: a gap with its range, then the state as it is', async (t) => {
    const gateway = forgetful;
    const MACHINES = 20;
    const statuses = (from: number, to: number, n: number) => range(from, to).map((at) => ({ topic: `plant/${at}/status`, payload: { n } }));
    const readings = (from: number, to: number, pad = '') => range(from, to).map((n) => ({ topic: 'plant/all/reading', payload: { n, pad } }));
    await world.begin(kept, { user: 'forgetful', silent: true, url: gateway.url });
    await kept.evaluate(() => {
      const scope = globalThis as unknown as Scope & { told: Told[] };
      scope.told = [];
      scope.client.on<{ n: number }>('plant/#', (event) => {
        if (event.type === 'message') scope.told.push({ type: event.type, topic: event.topic, n: event.payload.n, snapshot: event.snapshot });
        else if (event.type === 'gap') scope.told.push({ type: event.type, after: event.after, before: event.before, reason: event.reason });
        else scope.told.push({ type: event.type });
      });
    });
    const told = (): Promise<Told[]> => kept.evaluate(() => (globalThis as unknown as { told: Told[] }).told);
    await world.live(kept);
    await gateway.publishAll([...statuses(1, MACHINES, 1), ...readings(1, 50)]);
    await until('the first readings', 20_000, async () => (await told()).some(({ n, topic }) => n === 50 && topic === 'plant/all/reading'));
    gateway.link.cut();
    await until('it says that it is not live', 10_000, async () => (await phase(kept)) !== 'live');
    const from = (await told()).length;
    // These states change, and then so much happens that the log forgets that they did.
    await gateway.publishAll(statuses(1, 10, 2));
    const places = new Map<number, bigint>();
    for (let n = 51; n <= 450; n += 50) {
      const positions = await gateway.publishAll(readings(n, n + 49, 'x'.repeat(20_000)));
      positions.forEach((position, i) => places.set(n + i, offset(position)));
    }
    gateway.link.heal();
    await world.live(kept);
    await gateway.publishAll(readings(451, 460));
    await until('the last reading', 20_000, async () => (await told()).some(({ n }) => n === 460));

    const events = (await told()).slice(from);
    const gaps = events.filter(({ type }) => type === 'gap');
    assert.deepEqual(gaps.map(({ reason }) => reason), ['retention']);
    const [gap] = gaps as [Told];
    const lost = (at: bigint): boolean => at > BigInt(gap.after ?? 0) && at < BigInt(gap.before ?? 0);
    assert.ok(events.indexOf(gap) < events.findIndex(({ type }) => type === 'message'), 'told before the next message');
    const came = events.filter(({ topic }) => topic === 'plant/all/reading').map(({ n }) => n);
    const missed = [...places].filter(([, at]) => lost(at)).map(([n]) => n);
    t.diagnostic(`${missed.length} of ${places.size} readings were forgotten, in one gap; ${came.length} came`);
    assert.ok(missed.length > 100, 'the log has forgotten something');
    assert.deepEqual(came, range(51, 460).filter((n) => !missed.includes(n)), 'what is not in the gap came, once and in order');
    const last = new Map((await told()).filter(({ topic }) => topic?.endsWith('status')).map(({ topic, n }) => [topic, n]));
    assert.deepEqual(last, new Map([...statuses(1, 10, 2), ...statuses(11, MACHINES, 1)].map(({ topic, payload }) => [topic, payload.n])));
    // Those that changed came whole, behind the gap and before the page was told that it has everything.
    const live = events.findIndex(({ type }) => type === 'live');
    const whole = events.slice(events.indexOf(gap), live).filter(({ topic, snapshot }) => topic?.endsWith('status') && snapshot);
    assert.deepEqual(new Map(whole.map(({ topic, n }) => [topic, n])), new Map(statuses(1, 10, 2).map(({ topic, payload }) => [topic, payload.n])));
  });
});

interface Told {
  readonly type: string;
  readonly topic?: string;
  readonly n?: number;
  readonly snapshot?: boolean;
  readonly after?: string;
  readonly before?: string;
  readonly reason?: string;
}

/** Of a position, `partition:offset:fingerprint`. */
const offset = (position: string): bigint => BigInt(position.split(':')[1] ?? 0);
