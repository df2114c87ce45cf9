/**
 * A thousand commands that are given without a connection, in a real browser, to devices that are there when it comes: each is done once, in its device's order, or said not
 * to be. The device answers `did` its number, and cannot do those that end with 3.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Page } from 'playwright-core';
import { Devices } from './devices.ts';
import { until } from './until.ts';
import { errors, phase, range, type Scope, World } from './world.ts';

const COMMANDS = 1_000;
/** Besides: they may be begun for so long that nobody can be there in time. */
const LATE = 20;
/** Of each test its own. */
const names = (user: string): string[] => range(1, 5).map((n) => `${user}-${n}`);

let world: World;

before(async () => (world = await World.start()));
after(() => world.stop());

interface Commanding extends Scope {
  jobs: { n: number; stages: string[]; result: unknown; code: unknown }[];
  answers: { n: unknown; status: string }[];
}

/** In the page: gives the commands with these numbers, one device after the other; resolves when the store has them all. */
async function give({ user, names, from, to, ttl }: { user: string; names: readonly string[]; from: number; to: number; ttl: number }): Promise<void> {
  const scope = globalThis as unknown as Commanding;
  const commands = scope.client.commands(user);
  scope.jobs ??= [];
  const stored: Promise<void>[] = [];
  for (let n = from; n <= to; n += 1) {
    const job = commands.send(names[n % names.length] as string, 'count', n, { queue: true, timeToLiveMs: ttl });
    const seen: (typeof scope.jobs)[0] = { n, stages: [job.progress.get().stage], result: null, code: null };
    scope.jobs.push(seen);
    job.progress.subscribe((now) => {
      seen.stages.push(now.stage);
      if (now.stage === 'done') seen.result = now.result;
      if (now.stage === 'failed') seen.code = now.error.code;
    });
    // What is late at once may be so before the store has it.
    stored.push(job.stored().catch((error: { code: unknown }) => (error.code === 4403 ? undefined : Promise.reject(error))));
  }
  await Promise.all(stored);
}

const ENDS = ['done', 'failed', 'expired', 'cancelled', 'unanswered'];
const jobs = (page: Page): Promise<Commanding['jobs']> => page.evaluate(() => (globalThis as unknown as Commanding).jobs);
const waiting = (page: Page): Promise<number> => page.evaluate(async () => (await (globalThis as unknown as Scope).client.outbox()).length);
const refused = (n: number): boolean => n % 10 === 3;

/** Each device did what it was told, once and in order. */
function doneOnce(devices: Devices): void {
  for (const [at, name] of devices.names.entries()) {
    assert.deepEqual(devices.done(name), range(1, COMMANDS).filter((n) => n % devices.names.length === at), name);
  }
}

test('a thousand commands are given offline; the link comes and goes, and each is done once or said not to be', async (t) => {
  const user = 'commander';
  world.link.cut();
  const page = await world.tab();
  await world.begin(page, { user, silent: true });
  await page.evaluate(give, { user, names: names(user), from: COMMANDS + 1, to: COMMANDS + LATE, ttl: 1 });
  const begun = Date.now();
  await page.evaluate(give, { user, names: names(user), from: 1, to: COMMANDS, ttl: 600_000 });
  t.diagnostic(`${COMMANDS} commands kept after ${Date.now() - begun} ms`);
  await until('the late ones are told', 10_000, async () => (await waiting(page)) === COMMANDS);
  assert.notEqual(await phase(page), 'live');
  const devices = await Devices.start(names(user), world.gateway.directUrl);
  const online = Date.now();
  world.link.heal();
  await page.evaluate(() => (globalThis as unknown as Scope).client.connect());
  // Twice in the middle of it the connection is lost, with commands on their way.
  const ended = async (): Promise<number> => (await jobs(page)).filter(({ stages }) => ENDS.includes(stages.at(-1) ?? '')).length - LATE;
  for (const share of [0.2, 0.5]) {
    await until('some are done', 60_000, async () => (await ended()) > share * COMMANDS);
    world.link.cut();
    await until('it says so', 10_000, async () => (await phase(page)) !== 'live');
    world.link.heal();
  }
  await until('all have ended', 60_000, async () => (await ended()) === COMMANDS);
  t.diagnostic(`all ended ${Date.now() - online} ms after there was a connection, which was cut twice`);
  const stages = ['queued', 'sent', 'accepted', ...ENDS];
  for (const { n, stages: seen, result, code } of await jobs(page)) {
    const what = `${n}: ${seen.join()}`;
    assert.deepEqual(seen, [...new Set(seen)].sort((a, b) => stages.indexOf(a) - stages.indexOf(b)), what);
    if (n > COMMANDS) assert.deepEqual(seen, ['queued', 'expired'], what);
    else if (refused(n)) assert.deepEqual([seen.at(-1), code], ['failed', 'failed'], what);
    else assert.deepEqual([seen.at(-1), result], ['done', { did: n }], what);
  }
  doneOnce(devices);
  assert.deepEqual([await waiting(page), await errors(page)], [0, []]);
  await devices.stop();
  await page.close();
});

test('a thousand commands of a page that is gone are done once, and their answers come to the next page', async (t) => {
  const user = 'heir';
  world.link.cut();
  const page = await world.tab();
  await world.begin(page, { user, silent: true });
  await page.evaluate(give, { user, names: names(user), from: 1, to: COMMANDS, ttl: 600_000 });
  await page.reload();
  await world.loaded(page);
  await world.begin(page, { user, silent: true });
  assert.equal(await waiting(page), COMMANDS);
  await page.evaluate((user) => {
    const scope = globalThis as unknown as Commanding;
    scope.answers = [];
    scope.client.on<{ status: string; result?: { did: number } }>(`iotsphere/devices/+/commands/response/${user}`, (event) => {
      if (event.type === 'message') scope.answers.push({ n: event.payload.result?.did, status: event.payload.status });
    });
  }, user);
  const devices = await Devices.start(names(user), world.gateway.directUrl);
  const online = Date.now();
  world.link.heal();
  const answers = (): Promise<Commanding['answers']> => page.evaluate(() => (globalThis as unknown as Commanding).answers);
  await until('all are answered', 60_000, async () => (await answers()).length >= COMMANDS);
  t.diagnostic(`all answered ${Date.now() - online} ms after there was a connection`);
  await until('an empty outbox', 10_000, async () => (await waiting(page)) === 0);
  const all = await answers();
  const did = all.filter(({ status }) => status === 'done').map(({ n }) => Number(n));
  assert.deepEqual(did.sort((a, b) => a - b), range(1, COMMANDS).filter((n) => !refused(n)));
  assert.equal(all.filter(({ status }) => status === 'failed').length, COMMANDS / 10);
  assert.equal(all.length, COMMANDS);
  doneOnce(devices);
  await devices.stop();
  await page.close();
});
