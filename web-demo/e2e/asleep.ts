/**
 * What a tab may not get wrong: a reload in the middle of a change, a sleep, and being behind another tab. In a browser that treats tabs as a user's does, and with the log's word, by
 * an independent subscriber, for what is true.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Page } from 'playwright-core';
import { phase } from './browser.ts';
import { startDemo, type DemoProcess } from './demo-process.ts';
import { openTab, type Tab } from './tab.ts';
import { until } from '../../sdk-wasm/npm/e2e/until.ts';
import { type Told, Witness } from './witness.ts';

let demo: DemoProcess;
let witness: Witness;
let tab: Tab;
let page: Page;
let control: string;
let machine: string;

before(async () => {
  demo = await startDemo();
  ({ controlUrl: control } = (await (await fetch(new URL('/demo.json', demo.url))).json()) as { controlUrl: string });
  witness = await Witness.connect(new URL('/v1/ws', demo.url.replace(/^http/, 'ws')).href, demo.developer ?? '', 'iotsphere/devices/#', 'if_new');
  machine = (await until('a document', 30_000, () => of('/shadow/document').at(0))).topic.split('/')[2] ?? '';
  tab = await openTab();
  page = tab.page;
  // What the page's app was given of the telemetry, since the page was loaded.
  await page.addInitScript(() => {
    const given: { topic: string; position: string }[] = [];
    Object.assign(globalThis, { given });
    addEventListener('anabranch:message', (event) => given.push((event as CustomEvent<(typeof given)[0]>).detail));
  });
  await page.goto(demo.url);
  await live();
  await shows('its shadow', { intervalMs: 1000 });
});

after(async () => {
  await tab?.close();
  witness?.close();
  await demo?.stop();
});

/** What the log has on topics with such an end. */
const of = (leaf: string): Told[] => witness.told.filter(({ topic }) => topic.endsWith(leaf));
const live = (): Promise<boolean> => until('live', 60_000, async () => (await phase(page)) === 'live');
const strike = async (command: string): Promise<void> => assert.ok((await fetch(`${control}/chaos/${command}`, { method: 'POST' })).ok);

interface Settings {
  intervalMs?: number;
}
interface Document {
  version: number;
  state: { desired?: Settings; reported?: Settings };
}
function document(): Document {
  const found = witness.told.findLast(({ topic }) => topic === `iotsphere/devices/${machine}/shadow/document`);
  assert.ok(found);
  return found.payload as Document;
}

const words = (ms: number): string => (ms < 1000 ? `${ms} ms` : `${ms / 1000} s`);
const cells = async (): Promise<string> => (await page.locator('.shadow [data-field="/intervalMs"] td').allTextContents()).join();

/** The page says what the newest document says, and nothing is on its way. */
async function truthful(): Promise<void> {
  await live();
  await until('the page and the log say the same', 30_000, async () => {
    const { version, state } = document();
    const [reported, desired] = [state.reported?.intervalMs, state.desired?.intervalMs];
    if (reported === undefined || (desired !== undefined && desired !== reported)) return false;
    const said = (await page.locator('#shadow').textContent()) ?? '';
    return said.startsWith(`version ${version},`) && (await cells()) === `${words(reported)},${desired === undefined ? '–' : words(desired)},`;
  });
}

async function shows(what: string, { intervalMs }: Required<Settings>): Promise<void> {
  await until(what, 30_000, async () => (await cells()).startsWith(`${words(intervalMs)},`));
}

/** Publishes by HTTP, past the page and its proxy. */
async function publish(messages: readonly (readonly [topic: string, payload: unknown])[]): Promise<void> {
  const envelopes = messages.map(([topic, payload]) => ({ metadata: { topic: `iotsphere/devices/${topic}` }, payload }));
  const headers = { authorization: `Bearer ${demo.developer}`, 'content-type': 'application/json' };
  const answer = await fetch(new URL('/v1/publish', demo.url), { method: 'POST', headers, body: JSON.stringify(envelopes) });
  assert.equal(answer.status, 200, await answer.text());
}

async function wish(ms: number): Promise<void> {
  await page.getByLabel('every').selectOption(String(ms));
  await page.getByRole('button', { name: 'Set desired' }).click();
}

const wished = (ms: number): number => of('/shadow/desired').filter(({ payload }) => (payload as Settings).intervalMs === ms).length;

test('a reload in the middle of a change: it counts once or not at all, and the page says which', async () => {
  // Each reload strikes at another moment: before the change is sent, on its way, when it has counted.
  for (const [at, ms] of [250, 500, 2000, 5000, 250, 500].entries()) {
    const before = wished(ms);
    await wish(ms);
    if (at >= 2) await until('sent', 10_000, () => wished(ms) > before);
    if (at >= 4) await until('counted', 10_000, () => document().state.desired?.intervalMs === ms);
    await page.reload();
    await truthful();
    const times = wished(ms) - before;
    assert.ok(times <= 1, `${ms} was asked for ${times} times`);
    if (at >= 2) assert.equal(document().state.reported?.intervalMs, ms);
    assert.equal(await page.locator('.progress:visible').count(), 0, 'nothing is said of a change that this page did not make');
  }
});

test('a reload while a change hangs in a frozen link: it comes late, and is shown then', async () => {
  const before = wished(1000);
  await strike('freeze?ms=60000');
  await wish(1000);
  await until('shown at once', 5_000, async () => /1 s,queued$/.test(await cells()));
  await page.reload();
  await until('the page is back', 20_000, async () => (await page.locator('.badge').count()) === 1);
  assert.equal(wished(1000), before, 'it hangs');
  await strike('heal');
  await truthful();
  // What was in the link is delivered when it thaws: the page that sent it is gone, and the one that came after it must show it all the same.
  await until('it has come', 20_000, () => wished(1000) > before);
  await until('it has counted', 20_000, () => document().state.reported?.intervalMs === 1000);
  await truthful();
  assert.equal(wished(1000), before + 1);
});

test('what happened while the tab was frozen is there when it thaws', async () => {
  await tab.freeze();
  // The page cannot be asked; the wire can: the client has left it.
  const open = async (): Promise<number> => ((await (await fetch(`${control}/chaos`)).json()) as { connections: number }).connections;
  await until('the client has left', 30_000, async () => (await open()) === 0);
  await publish([
    [`${machine}/shadow/desired`, { intervalMs: 2000 }],
    ['first-seen-asleep/telemetry/status', { host: 'came by night' }],
    ['first-seen-asleep/shadow/reported', { intervalMs: 60_000 }],
  ]);
  await until('the device obeys', 20_000, () => document().state.reported?.intervalMs === 2000);
  await until('the other has a shadow', 20_000, () => of('first-seen-asleep/shadow/document').length > 0);
  assert.equal(await page.locator('.fleet button').count(), 1, 'nothing runs in a frozen tab');
  await tab.show();
  await truthful();
  const row = page.locator('.fleet button', { hasText: 'first-seen-asleep' });
  await until('it appears', 20_000, async () => (await row.count()) === 1);
  assert.match((await row.textContent()) ?? '', /came by night/);
  await row.click();
  await shows('its shadow', { intervalMs: 60_000 });
  await page.locator('.fleet button', { hasText: machine }).click();
  await truthful();
});

test('a hidden tab is told less, misses no event, and says the truth when it is shown', async () => {
  await tab.hide();
  const ROUNDS = 20;
  const STATUSES = 10;
  const device = 'first-seen-hidden';
  const [status, events] = [`${device}/telemetry/status`, `${device}/telemetry/pressure`];
  for (let round = 0; round < ROUNDS; round += 1) {
    const statuses = Array.from({ length: STATUSES }, (_, at) => [status, { host: `number ${round * STATUSES + at + 1}` }] as const);
    await publish([...statuses, [events, { round }]]);
  }
  await until('the log has all', 20_000, () => of(status).length === ROUNDS * STATUSES && of(events).length === ROUNDS);
  const given = (end: string): Promise<string[]> =>
    page.evaluate((end) => {
      const { given } = globalThis as unknown as { given: { topic: string; position: string }[] };
      return given.filter(({ topic }) => topic.endsWith(end)).map(({ position }) => position);
    }, end);
  await until('every event', 20_000, async () => (await given(events)).length === ROUNDS);
  await until('the newest value', 20_000, async () => (await given(status)).at(-1) === of(status).at(-1)?.position);
  assert.deepEqual(await given(events), of(events).map(({ position }) => position));
  const count = (await given(status)).length;
  assert.ok(count < (ROUNDS * STATUSES) / 2, `a hidden tab was told ${count} of ${ROUNDS * STATUSES} values`);
  await tab.show();
  const row = page.locator('.fleet button', { hasText: device });
  await until('the newest is shown', 20_000, async () => /number 200$/.test((await row.locator('.detail').textContent()) ?? ''));
});
