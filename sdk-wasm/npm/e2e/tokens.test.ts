/**
 * Tokens that end at the worst moments, and token functions that fail or never answer: the app is asked once at a time, no token that has ended is shown to
 * the gateway, the page says where it stands, and the stream goes on without a hole.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test, type TestContext } from 'node:test';
import type { Page } from 'playwright-core';
import { token } from './gateway.ts';
import type { Link } from './link.ts';
import { stream, type Stream } from './stream.ts';
import { until } from './until.ts';
import { errors, has, is, numbers, phase, phases, type Scope, sequence, visibility, World } from './world.ts';

/** For so long after its end the gateway takes a token: clocks differ. */
const LEEWAY_MS = 5_000;

let world: World;
const pages = new Map<string, Page>();

before(async () => {
  world = await World.start();
  // One at a time: the second is in front of the first.
  pages.set('hidden', await world.tab());
  await world.tab();
  for (const name of ['offline', 'cut', 'late', 'failing', 'hanging']) pages.set(name, await world.window());
});
after(() => world.stop());

/** Where a page asks for its tokens. */
class Desk {
  /** Why it was asked, so far. */
  readonly asked: string[] = [];
  /** Questions of which the page did not wait for the answer. */
  givenUp = 0;
  /** When the newest token ends, in Unix milliseconds. */
  ends = 0;
  private answer: (why: string, gone: Promise<void>) => unknown = () => {};

  constructor(
    private readonly user: string,
    private seconds: number,
  ) {}

  /** What is waited for, or thrown, before it answers. */
  before(answer: (why: string, gone: Promise<void>) => unknown): void {
    this.answer = answer;
  }

  /** How long its tokens last. */
  lasting(seconds: number): void {
    this.seconds = seconds;
  }

  readonly ask = async (why: string, signal: AbortSignal): Promise<string> => {
    this.asked.push(why);
    await this.answer(why, new Promise((resolve) => signal.addEventListener('abort', () => resolve())));
    if (signal.aborted) this.givenUp += 1;
    this.ends = (Math.floor(Date.now() / 1000) + this.seconds) * 1000;
    return token(this.user, this.seconds);
  };
}

interface Scene {
  readonly page: Page;
  readonly desk: Desk;
  readonly link: Link;
  readonly messages: Stream;
}

/** A page that asks for its tokens, and a stream for it. */
async function scene(t: TestContext, user: string, seconds: number, desk = new Desk(user, seconds)): Promise<Scene> {
  const page = pages.get(user) as Page;
  const link = await world.gateway.anotherLink();
  world.site.desks.set(user, desk.ask);
  await world.begin(page, { user, filter: `log/${user}`, url: link.url, asks: true });
  return { page, desk, link, messages: stream(t, world.gateway, `log/${user}`, `state/${user}`) };
}

/** From the first number that it was given on, the page has all, once and in order. */
async function whole({ page, messages }: Scene): Promise<void> {
  await world.live(page);
  const before = messages.last;
  await until('more messages', 10_000, () => messages.last > before + 3);
  const last = await messages.stop();
  await has(page, last);
  const all = await numbers(page, 'message');
  sequence(all, all[0] ?? 0, last);
  assert.deepEqual(await numbers(page, 'gap'), []);
  assert.equal(await page.evaluate(() => (globalThis as unknown as Scope).askingMost), 1, 'never asked twice at once');
}

/** What the gateway has refused a token with. */
const refusals = async (page: Page): Promise<string[]> => (await errors(page)).filter((error) => error.startsWith('42'));

describe('a token', { concurrency: true }, () => {
  test('ends while nobody sees the tab: it is renewed on the same connection; then nobody renews it, and that is said', async (t) => {
    const it = await scene(t, 'hidden', 8);
    const { page, desk, link } = it;
    await is(page, 'hidden');
    await world.live(page);
    const [, live] = (await phases(page)).find(([phase]) => phase === 'live') ?? [];
    await until('renewed twice', 30_000, () => desk.asked.length >= 3);
    await until('the first two are long over', 30_000, () => Date.now() > (live ?? 0) + 2 * 8_000);
    assert.deepEqual([...new Set(desk.asked)], ['first', 'expiring']);
    assert.deepEqual([link.total, await phase(page), await errors(page)], [1, 'live', []]);
    desk.before(() => Promise.reject(new Error('closed for lunch')));
    await until('the connection ends with the token', 30_000, async () => (await phase(page)) !== 'live');
    assert.ok(Date.now() >= desk.ends, 'not before');
    const said = await errors(page);
    assert.ok(said.some((error) => error.startsWith('token: ')) && said.some((error) => error.startsWith('4200: ')), said.join('\n'));
    await until('it says that it waits', 10_000, async () => (await phase(page)) === 'offline');
    desk.before(() => {});
    await whole(it);
    assert.equal(await visibility(page), 'hidden');
  });

  test('ends while there is no network: the old one is not shown again', async (t) => {
    const it = await scene(t, 'offline', 4);
    const { page, desk, link } = it;
    await world.live(page);
    await until('a message', 10_000, async () => (await numbers(page, 'message')).length > 0);
    const session = await page.context().newCDPSession(page);
    const network = (offline: boolean) => session.send('Network.emulateNetworkConditions', { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
    link.cut();
    await network(true);
    await until('offline', 10_000, () => page.evaluate(() => !navigator.onLine));
    await until('it says so', 10_000, async () => (await phase(page)) !== 'live');
    await until('the gateway takes it no more', 30_000, () => Date.now() > desk.ends + LEEWAY_MS);
    const asked = desk.asked.length;
    link.heal();
    await network(false);
    await whole(it);
    assert.equal(desk.asked[asked], 'expiring', desk.asked.join());
    assert.deepEqual(await refusals(page), []);
  });

  test('is being renewed when the link is cut: the answer counts all the same', async (t) => {
    const it = await scene(t, 'cut', 30);
    const { page, desk, link } = it;
    await world.live(page);
    let answer = (): void => {};
    desk.before(() => new Promise<void>((resolve) => (answer = resolve)));
    await until('it asks', 40_000, () => desk.asked.length === 2);
    const old = desk.ends;
    link.cut();
    await until('it says so', 10_000, async () => (await phase(page)) !== 'live');
    link.heal();
    // The old one is good for a while yet.
    await until('it has a connection', 10_000, () => link.connections.size === 1);
    desk.before(() => {});
    desk.lasting(3_600);
    answer();
    await until('the old one has ended', 30_000, () => Date.now() > old + LEEWAY_MS + 1_000);
    await whole(it);
    assert.deepEqual([desk.asked, link.total, await errors(page)], [['first', 'expiring'], 2, []]);
  });

  test('ends while it is being renewed: the answer that comes late makes the next connection', async (t) => {
    const it = await scene(t, 'late', 8);
    const { page, desk } = it;
    await world.live(page);
    let answer = (): void => {};
    desk.before(() => new Promise<void>((resolve) => (answer = resolve)));
    await until('it asks', 20_000, () => desk.asked.length === 2);
    await until('it has ended', 20_000, async () => (await phase(page)) !== 'live');
    assert.ok(Date.now() >= desk.ends + LEEWAY_MS - 1_000, 'no earlier than it must');
    desk.before(() => {});
    desk.lasting(3_600);
    answer();
    await whole(it);
    assert.deepEqual(desk.asked, ['first', 'expiring']);
    assert.deepEqual((await errors(page)).map((error) => error.slice(0, 4)), ['4200']);
  });

  test('is not there at first: the function throws, that is said, and it is asked again', async (t) => {
    const desk = new Desk('failing', 3_600);
    desk.before(() => {
      if (desk.asked.length <= 2) throw new Error('no such session yet');
    });
    const it = await scene(t, 'failing', 3_600, desk);
    await whole(it);
    assert.deepEqual(desk.asked, ['first', 'first', 'first']);
    const said = await errors(it.page);
    assert.ok(said.length === 2 && said.every((error) => /^token: .*503/.test(error)), said.join('\n'));
    const seen = (await phases(it.page)).map(([phase]) => phase);
    assert.ok(seen.indexOf('offline') > 0 && seen.indexOf('offline') < seen.indexOf('live'), seen.join());
  });

  test('is not to be had in the leading tab: the others are asked, one after the other, and it goes on leading', async () => {
    const desk = new Desk('shared', 10);
    world.site.desks.set('shared', desk.ask);
    const link = await world.gateway.anotherLink();
    const all: Page[] = [];
    for (let i = 0; i < 3; i += 1) {
      const page = await world.tab();
      await world.begin(page, { user: 'shared', filter: 'log/shared', url: link.url, asks: true, shared: true });
      await world.live(page);
      all.push(page);
    }
    const [leader, hidden, front] = all as [Page, Page, Page];
    const first = desk.ends;
    assert.deepEqual(desk.asked, ['first']);
    desk.lasting(3_600);
    // The user has signed out in the page that leads, and in the one that would be asked first.
    for (const page of [leader, front]) {
      await page.evaluate(() => {
        const scope = globalThis as unknown as { refused: number; fetch: unknown };
        scope.refused = 0;
        scope.fetch = () => {
          scope.refused += 1;
          return Promise.reject(new Error('signed out'));
        };
      });
    }
    await until('the third has one', 15_000, () => desk.asked.length > 1);
    await until('the first one has ended', 20_000, () => Date.now() > first + LEEWAY_MS);
    await world.count(1, 3, 'log/shared');
    for (const page of all) {
      await has(page, 3);
      sequence(await numbers(page, 'message'), 1, 3);
    }
    const roles = await Promise.all(all.map((page) => page.evaluate(() => (globalThis as unknown as Scope).client.role)));
    assert.deepEqual(roles, ['leader', 'follower', 'follower']);
    const refused = (page: Page): Promise<number> => page.evaluate(() => (globalThis as unknown as { refused: number }).refused);
    assert.deepEqual([await refused(leader), await refused(front), desk.asked], [1, 1, ['first', 'expiring']]);
    for (const page of all) assert.equal(await phase(page), 'live');
    const said = await errors(leader);
    assert.ok(said.length === 1 && /^token: .*signed out/.test(said[0] ?? ''), said.join());
    assert.deepEqual([await errors(hidden), await errors(front)], [[], []]);
  });

  test('does not come: the function hangs, is given up after ten seconds, and asked again', async (t) => {
    const desk = new Desk('hanging', 3_600);
    desk.before((_, gone) => (desk.asked.length === 1 ? gone : undefined));
    const it = await scene(t, 'hanging', 3_600, desk);
    await until('it connects', 5_000, async () => (await phase(it.page)) === 'connecting');
    await whole(it);
    assert.deepEqual([desk.asked, desk.givenUp], [['first', 'first'], 1]);
    const said = await errors(it.page);
    assert.ok(said.length === 1 && /^token: .*10 seconds/.test(said[0] ?? ''), said.join('\n'));
  });
});
