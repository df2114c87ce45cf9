/**
 * A fleet of three hundred: the page begins with all of it at once, and of two clients that watch it, one on a slow link, each has the newest of every device in the end.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Browser, Page } from 'playwright-core';
import { launch, phase } from './browser.ts';
import { startDemo, type DemoProcess } from './demo-process.ts';
import { until } from '../../sdk-wasm/npm/e2e/until.ts';
import { Witness } from './witness.ts';

const FLEET = 300;

let demo: DemoProcess;
let browser: Browser;
let witness: Witness;
let page: Page;
let failures: string[];

before(async () => {
  demo = await startDemo(undefined, '--fleet', String(FLEET));
  witness = await Witness.connect(new URL('/v1/ws', demo.url.replace(/^http/, 'ws')).href, demo.developer ?? '', 'iotsphere/devices/#', 'if_new');
  await until('all have spoken and are known', 60_000, () => spoke('/telemetry/status').size > FLEET && spoke('/shadow/document').size > FLEET);
  browser = await launch();
  const context = await browser.newContext();
  // How many rows the list was given, each time that it was given any.
  await context.addInitScript(() => {
    const batches: number[] = [];
    Object.assign(globalThis, { batches });
    new MutationObserver((records) => {
      const rows = records.flatMap(({ addedNodes }) => [...addedNodes]).filter((node) => node.nodeName === 'LI' && node.parentElement?.className === 'fleet');
      if (rows.length > 0) batches.push(rows.length);
    }).observe(document, { childList: true, subtree: true });
  });
  page = await context.newPage();
  failures = [];
  page.on('pageerror', (error) => failures.push(error.stack ?? String(error)));
  await page.goto(demo.url);
});

after(async () => {
  await browser?.close();
  witness?.close();
  await demo?.stop();
});

const batches = (): Promise<number[]> => page.evaluate(() => (globalThis as unknown as { batches: number[] }).batches);

/** A device says what it does. */
async function report(reported: unknown): Promise<void> {
  const envelope = { metadata: { topic: 'iotsphere/devices/slow-to-answer/shadow/reported' }, payload: reported };
  const headers = { authorization: `Bearer ${demo.developer}` };
  const answer = await fetch(new URL('/v1/publish', demo.url), { method: 'POST', headers, body: JSON.stringify(envelope) });
  assert.equal(answer.status, 200, await answer.text());
}

/** The devices that have said something on such a topic. */
function spoke(leaf: string): Set<string> {
  return new Set(witness.told.flatMap(({ topic }) => (topic.endsWith(leaf) ? [topic.split('/')[2] ?? ''] : [])));
}

test('the fleet is painted at once, and complete', async () => {
  await until('painted', 30_000, async () => /painted at once/.test((await page.locator('#painted').textContent()) ?? ''));
  assert.match((await page.locator('#painted').textContent()) ?? '', new RegExp(`^${2 * FLEET + 2} topics of ${FLEET + 1} devices`));
  assert.deepEqual(await batches(), [FLEET + 1], 'one paint');
  const names = await page.locator('.fleet b').allTextContents();
  assert.deepEqual(new Set(names), spoke('/telemetry/status'));
  assert.match(names[0] ?? '', /^(?!sim-)/, 'the real machine is the first');
  await until('all alive', 20_000, async () => (await page.locator('.fleet .alive').count()) === FLEET + 1);
});

test('what changes touches its own row only', async () => {
  const told = witness.told.length;
  await until('the fleet goes on', 20_000, () => witness.told.length > told + FLEET);
  assert.deepEqual(await batches(), [FLEET + 1], 'nothing was built anew');
});

test('a device is found, and a wish of it is pending until it has answered', async () => {
  // It answers when it is told to, and not before.
  await report({ intervalMs: 4000 });
  await page.getByLabel('Find a device').fill('slow-to');
  const row = page.locator('.fleet button:visible');
  await until('found', 10_000, async () => (await row.count()) === 1);
  await row.click();
  const cells = async (): Promise<string> => (await page.locator('.shadow [data-field="/intervalMs"] td').allTextContents()).join();
  await until('its shadow', 10_000, async () => (await cells()) === '4 s,–,');
  await page.getByLabel('every').selectOption('2000');
  await page.getByRole('button', { name: 'Set desired' }).click();
  await until('accepted', 10_000, async () => (await cells()) === '4 s,2 s,accepted');
  await until('pending in the list', 10_000, async () => (await page.locator('.fleet .pending').count()) === 1);
  assert.match((await page.locator('#fleet-counts').textContent()) ?? '', / 1 owes an answer/);
  await report({ intervalMs: 2000 });
  await until('settled', 10_000, async () => (await cells()) === '2 s,2 s,');
  await until('nothing is owed', 10_000, async () => (await page.locator('.fleet .pending').count()) === 0);
  assert.equal(await page.locator('.progress .done').count(), 3);
  await page.getByLabel('Find a device').fill('');
});

test('a throttled client skips values, and has the newest of every device in the end', async () => {
  const text = async (id: string): Promise<string> => (await page.locator(`#${id}`).textContent()) ?? '';
  const all = `${FLEET + 1} of ${FLEET + 1}`;
  await page.getByRole('button', { name: 'Open two clients' }).click();
  await until('both whole', 30_000, async () => (await text('healthy-current')) === all && (await text('throttled-current')) === all);
  await page.getByLabel('Speed of the slow link').selectOption('4.0 KiB/s');
  await page.getByRole('button', { name: 'Throttle', exact: true }).click();
  const skipped = async (): Promise<number> => Number((await text('throttled-skipped')).replaceAll(/\D/g, ''));
  await until('values are skipped', 90_000, async () => (await skipped()) > FLEET);
  assert.notEqual(await text('throttled-current'), all);
  assert.equal(await phase(page), 'live', 'the page itself is not slowed');
  assert.equal(await page.locator('.fleet .alive').count(), FLEET + 1);
  await page.getByRole('button', { name: 'Release' }).click();
  await until('the same', 60_000, async () => (await text('verdict')).includes(`both had the same value of all ${FLEET + 1} devices`));
  assert.deepEqual(failures, []);
});
