/**
 * The whole story in a real browser: a real gateway, this machine as the device, and a proxy that really cuts the wire. What
 * the page's app was given is compared with what an independent subscriber saw.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { launch, openDemo, phase, type DemoPage } from './browser.ts';
import { startDemo, type DemoProcess } from './demo-process.ts';
import { until } from '../../sdk-wasm/npm/e2e/until.ts';
import { Witness } from './witness.ts';

const CUT_MS = 30_000;
/** From the reload on, the page's tokens live so long. */
const SHORT_TTL_S = 8;
const FREEZE_MS = 40_000;
/** Events: of `status`, a state topic, who was away gets the newest value, and a page that is reloaded gets it again. */
const TELEMETRY = /^iotsphere\/devices\/[^/]+\/telemetry\/(?!status$)/;

let demo: DemoProcess;
let browser: Browser;
let witness: Witness;
let story: DemoPage;
let control: string;

before(async () => {
  demo = await startDemo();
  ({ controlUrl: control } = (await (await fetch(new URL('/demo.json', demo.url))).json()) as { controlUrl: string });
  const { token } = (await (await fetch(`${control}/demo/token?ttl=3600`)).json()) as { token: string };
  const gateway = new URL('/v1/ws', demo.url.replace(/^http/, 'ws')).href;
  witness = await Witness.connect(gateway, token, 'iotsphere/devices/#');
  await until('the device reports', 30_000, () => witness.newest);
  browser = await launch();
  story = await openDemo(browser, demo.url);
});

after(async () => {
  await browser?.close();
  witness?.close();
  await demo?.stop();
});

/** Waits until the page has all that the witness has now, then compares the two, message by message. */
async function nothingMissingOrDoubled(): Promise<void> {
  // On a busy machine the page may be ahead of the witness: what came before the page's first message is no concern of the page.
  const begins = await until('the page has telemetry', 10_000, () => story.received.find(({ topic }) => TELEMETRY.test(topic)));
  await until(`the witness has ${begins.position}`, 30_000, () => witness.told.some(({ position }) => position === begins.position));
  const newest = await until('the witness has telemetry', 10_000, () => witness.told.findLast(({ topic }) => TELEMETRY.test(topic)));
  const has = (): boolean => story.received.some(({ position }) => position === newest.position);
  await until(`the page has ${newest.position}`, 30_000, has);
  const page = story.received.filter(({ topic }) => TELEMETRY.test(topic));
  const [first, last] = [page[0], page.at(-1)];
  assert.ok(first && last);
  await until(`the witness has ${last.position}`, 30_000, () => witness.told.some(({ position }) => position === last.position));
  const told = witness.between(first.position, last.position).filter(({ topic }) => TELEMETRY.test(topic));
  assert.deepEqual(
    page.map(({ topic, position }) => `${position} ${topic}`),
    told.map(({ topic, position }) => `${position} ${topic}`),
  );
  assert.equal(await story.page.locator('#count-gaps').textContent(), '0');
  assert.equal(await story.page.locator('#count-twice').textContent(), '0');
  assert.deepEqual(story.failures, []);
}

/** Somebody else, who is no page, changes what is desired of the device. */
async function desire(patch: unknown): Promise<void> {
  const { token } = (await (await fetch(`${control}/demo/token?ttl=60`)).json()) as { token: string };
  const device = await story.page.locator('.device-head h1').textContent();
  const envelope = { metadata: { topic: `iotsphere/devices/${device}/shadow/desired` }, payload: patch };
  const headers = { authorization: `Bearer ${token}` };
  const answer = await fetch(new URL('/v1/publish', demo.url), { method: 'POST', headers, body: JSON.stringify(envelope) });
  assert.equal(answer.status, 200, await answer.text());
}

/** The picture of the CPU chart. */
const cpuChart = (): Promise<string> =>
  story.page.locator('[aria-label=CPU] canvas').evaluate((canvas) => (canvas as HTMLCanvasElement).toDataURL());

test('the page is live, and its charts move', async () => {
  await until('live', 20_000, async () => (await phase(story.page)) === 'live');
  await until('telemetry', 20_000, () => story.received.length > 0);
  const picture = await cpuChart();
  await until('another picture', 10_000, async () => (await cpuChart()) !== picture);
  await until('no widget is stale', 10_000, async () => (await story.page.locator('.chart.stale:visible').count()) === 0);
  await nothingMissingOrDoubled();
});

test('the link is cut: the page says so, and every widget turns stale', async () => {
  const answer = await fetch(`${control}/chaos/cut?ms=${CUT_MS}`, { method: 'POST' });
  assert.equal(answer.status, 200);
  const cutAt = Date.now();
  await until('not live', 15_000, async () => (await phase(story.page)) !== 'live');
  const fresh = story.page.locator('.chart:not(.stale):visible');
  await until('every chart is stale', 15_000, async () => (await fresh.count()) === 0);
  assert.match((await story.page.locator('[aria-label=CPU] .chip').textContent()) ?? '', /stale/);
  assert.ok((await story.page.locator('.panel.stale').count()) >= 2, 'the continuity and the shadow are stale too');
  assert.equal(await story.page.locator('.fleet .alive').count(), 0);

  // The stream goes on without the page for most of the cut.
  const held = story.received.length;
  await until('the device went on', CUT_MS, () => witness.told.some(({ timestamp }) => timestamp > cutAt + CUT_MS * 0.8));
  assert.equal(story.received.length, held, 'nothing can have come through');
});

test('the link is back: nothing is missing, nothing came twice', async () => {
  await until('live again', CUT_MS + 60_000, async () => (await phase(story.page)) === 'live');
  await until('no widget is stale', 20_000, async () => (await story.page.locator('.chart.stale:visible').count()) === 0);
  await nothingMissingOrDoubled();
  assert.match((await story.page.locator('.journal').textContent()) ?? '', /caught up \d+ messages/);
});

/** A row of the shadow's table: reported, desired, and how it stands. */
const field = (pointer: string): Promise<string[]> => story.page.locator(`.shadow [data-field="${pointer}"] td`).allTextContents();

/** The newest document of the device's shadow that the log has. */
interface Document {
  version: number;
  state: { desired?: Record<string, unknown>; reported?: Record<string, unknown> };
}
const newestDocument = (): Document => {
  const found = witness.told.findLast(({ topic }) => topic.endsWith('/shadow/document'));
  assert.ok(found);
  return found.payload as Document;
};

test('a wish is sent, accepted and applied', async () => {
  const { page } = story;
  await page.getByLabel('every').selectOption('500');
  await page.getByRole('checkbox', { name: 'memory' }).uncheck();
  await page.getByRole('button', { name: 'Set desired' }).click();
  await until('sent, accepted, applied', 20_000, async () => (await page.locator('.progress .done').count()) === 3);
  assert.deepEqual(await field('/intervalMs'), ['500 ms', '500 ms', '']);
  assert.deepEqual(await field('/metrics/memory'), ['off', 'off', '']);
  const [wish] = witness.told.filter(({ topic }) => topic.endsWith('/shadow/desired')).slice(-1);
  assert.deepEqual(wish?.payload, { intervalMs: 500, metrics: { memory: false } }, 'what was edited, and nothing else');
  await until('the document', 10_000, () => newestDocument().state.reported?.['intervalMs'] === 500);
  assert.deepEqual(newestDocument().state.desired, { intervalMs: 500, metrics: { memory: false } });
  await until('the chart says off', 10_000, async () => (await page.locator('[aria-label=Memory] .chip').textContent()) === 'off');
});

test('what is desired while the link is cut shows at once, and settles when it is back', async () => {
  const { page } = story;
  await fetch(`${control}/chaos/cut?ms=${CUT_MS}`, { method: 'POST' });
  await until('not live', 15_000, async () => (await phase(page)) !== 'live');
  assert.match((await page.locator('#shadow').textContent()) ?? '', /stale, as of/);
  await page.getByRole('checkbox', { name: 'memory' }).check();
  await page.getByRole('button', { name: 'Set desired' }).click();
  await until('queued', 5_000, async () => (await field('/metrics/memory')).join() === 'off,on,queued');
  await fetch(`${control}/chaos/heal`, { method: 'POST' });
  await page.getByRole('button', { name: 'Retry now' }).click();
  await until('settled', 30_000, async () => (await field('/metrics/memory')).join() === 'on,on,');
  await until('live', 30_000, async () => (await phase(page)) === 'live');
});

test('what the device cannot do it refuses, and says why', async () => {
  const { page } = story;
  const witnessed = await page.evaluate(() => document.querySelectorAll('.reasons li').length);
  assert.equal(witnessed, 0);
  // The form offers nothing that is wrong; another writer does.
  await desire({ intervalMs: 5, color: 'red' });
  await until('refused', 20_000, async () => (await field('/intervalMs')).join() === '500 ms,5 ms,refused');
  assert.match((await page.locator('.reasons').textContent()) ?? '', /interval: the device refuses: .*100 to 60000, and is 5/);
  assert.match((await page.locator('.reasons').textContent()) ?? '', /\/color: the device refuses: this device knows/);
  await desire({ color: null });
  await page.getByLabel('every').selectOption('1000');
  await page.getByRole('button', { name: 'Set desired' }).click();
  await until('healed', 20_000, async () => (await field('/intervalMs')).join() === '1 s,1 s,');
  await until('nothing is refused', 20_000, async () => (await page.locator('.reasons li').count()) === 0);
});

test('two writers: the later one is refused, is told what there is now, and goes on from that', async () => {
  const { page } = story;
  const memory = page.getByRole('checkbox', { name: 'memory' });
  await page.getByRole('checkbox', { name: /only if still version/ }).check();
  await memory.uncheck();
  await page.getByRole('button', { name: 'Somebody else writes' }).click();
  await until('the other is seen', 20_000, async () => /Somebody else now desires interval 2 s/.test((await page.locator('.note').textContent()) ?? ''));
  await until('the device obeys the other', 20_000, async () => (await field('/intervalMs')).join() === '2 s,2 s,');

  await page.getByRole('button', { name: 'Set desired' }).click();
  const error = page.locator('.wish .error');
  await until('refused', 20_000, async () => /Refused: the shadow is at version \d+/.test((await error.textContent()) ?? ''));
  assert.match((await error.textContent()) ?? '', /Meanwhile: interval 2 s/);
  assert.deepEqual(newestDocument().state.desired, { intervalMs: 2000, metrics: { memory: true } }, 'it has not counted');
  assert.deepEqual([await memory.isChecked(), await page.getByLabel('every').inputValue()], [false, '2000'], 'mine is kept, theirs is taken');

  await page.getByRole('button', { name: 'Set desired' }).click();
  await until('applied', 20_000, async () => (await page.locator('.progress .done').count()) === 3);
  assert.deepEqual(await field('/metrics/memory'), ['off', 'off', '']);
  assert.deepEqual(newestDocument().state.desired, { intervalMs: 2000, metrics: { memory: false } });
  assert.equal(await error.textContent(), '');
  await page.getByRole('checkbox', { name: /only if still version/ }).uncheck();
  await desire({ intervalMs: 500 });
});

test('a reload goes on where the page was', async () => {
  const had = story.received.length;
  const keys = await story.page.evaluate(() => Object.keys(sessionStorage).filter((key) => key.startsWith('anabranch ')));
  const leaves = keys.map((key) => key.split('/').slice(-2).join('/')).sort();
  const resumed = ['shadow/accepted', 'shadow/document', 'shadow/rejected', 'telemetry/#'];
  assert.deepEqual(leaves, resumed, 'only streams without a start of their own are resumed');
  // The page loads slowly enough that the device says much meanwhile.
  const told = witness.told.length;
  await story.page.route('**/demo.json', async (route) => {
    await until('the device went on', 20_000, () => witness.told.length > told + 20);
    await route.continue();
  });
  await story.page.route('**/demo/token?*', (route) => route.continue({ url: `${control}/demo/token?ttl=${SHORT_TTL_S}` }));
  await story.page.reload();
  await until('live', 20_000, async () => (await phase(story.page)) === 'live');
  await until('more telemetry', 20_000, () => story.received.length > had + 5);
  await nothingMissingOrDoubled();
  assert.equal(await story.page.locator('#count-reloads').textContent(), '1');
});

test('tokens are renewed while the connection stands, and one that ends unrenewed stops it until there is another', async () => {
  const { page } = story;
  const asked = page.waitForRequest(/demo\/token/, { timeout: 20_000 });
  const lines = (): Promise<number> => page.locator('.journal li').count();
  const before = await lines();
  await asked;
  assert.deepEqual([await phase(page), await lines()], ['live', before], 'a renewal is no event');

  await page.getByRole('button', { name: 'Let token expire' }).click();
  await until('not live', 30_000, async () => (await phase(page)) !== 'live');
  await until('every chart is stale', 15_000, async () => (await page.locator('.chart:not(.stale):visible').count()) === 0);
  const told = witness.told.length;
  await until('the device goes on', 20_000, () => witness.told.length > told + 20);
  await page.getByRole('button', { name: 'Heal' }).click();
  await until('live again', 60_000, async () => (await phase(page)) === 'live');
  await nothingMissingOrDoubled();
});

test('a command is done once, and its answer is shown', async () => {
  const { page } = story;
  await page.getByRole('button', { name: 'Top processes' }).click();
  await until('the answer', 20_000, async () => /top: done/.test((await page.locator('#command').textContent()) ?? ''));
  assert.ok((await page.locator('.answer tbody tr').count()) >= 1);
  await page.getByRole('button', { name: 'Measure now' }).click();
  await until('the answer', 20_000, async () => /measure: done/.test((await page.locator('#command').textContent()) ?? ''));
  assert.match((await page.locator('.answer').textContent()) ?? '', /CPU.*total [\d.]+ %/);
  const of = (leaf: string): number => witness.told.filter(({ topic }) => topic.includes(`/commands/${leaf}`)).length;
  await until('two answers', 10_000, () => of('response') === 2);
  assert.equal(of('request'), 2);
});

test('a link that is frozen, and never closed, is given up and replaced', async () => {
  await fetch(`${control}/chaos/freeze?ms=${FREEZE_MS}`, { method: 'POST' });
  // Nothing tells of the freeze, but a value that is overdue is not shown as fresh.
  const fresh = story.page.locator('.chart:not(.stale, .off):visible');
  await until('every chart is stale', 20_000, async () => (await fresh.count()) === 0);
  await until('not live', FREEZE_MS + 20_000, async () => (await phase(story.page)) !== 'live');
  await until('live again', FREEZE_MS + 60_000, async () => (await phase(story.page)) === 'live');
  await nothingMissingOrDoubled();
});
