/** What a page with a hundred subscriptions, ten thousand cached messages and a thousand more a second costs. */
import type { Page } from 'playwright-core';
import { until } from '../e2e/until.ts';
import { token } from '../e2e/gateway.ts';
import { phase, type Scope, type World } from '../e2e/world.ts';
import { Probe } from './probe.ts';
import { MIB, type Row } from './table.ts';

const SUBSCRIPTIONS = 100;
const CACHED = 10_000;
const RATE = 1_000;
const SECONDS = 10;
/** Makes a frame of about 300 bytes. */
const payload = (n: number): unknown => ({ n, of: 'x'.repeat(10) });
const topic = (n: number): string => `load/${n % SUBSCRIPTIONS}/v`;

interface Counting extends Scope {
  came: number;
  live: boolean;
}

const came = (page: Page): Promise<number> => page.evaluate(() => (globalThis as unknown as Counting).came);

async function publish({ gateway }: World, from: number, count: number): Promise<void> {
  await gateway.publishAll(Array.from({ length: count }, (_, i) => ({ topic: topic(from + i), payload: payload(from + i) })));
}

/** Publishes steadily, whatever a publish takes, and ends when all has come. */
async function stream(world: World, page: Page): Promise<void> {
  const before = await came(page);
  const begun = performance.now();
  let sent = 0;
  while (sent < RATE * SECONDS) {
    const due = Math.min(RATE * SECONDS, Math.floor(((performance.now() - begun) * RATE) / 1_000));
    if (due > sent) await publish(world, sent, Math.min(due - sent, RATE));
    sent = Math.max(sent, due);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await until('all of the stream', 60_000, async () => (await came(page)) >= before + sent);
}

/** The stream's share of a main thread, in per cent. */
async function share(world: World, probe: Probe): Promise<number> {
  const [begun, busy] = [performance.now(), await probe.busy()];
  await stream(world, probe.page);
  return (100_000 * ((await probe.busy()) - busy)) / (performance.now() - begun);
}

/** What a page pays that has no client: one that reads the same frames from a socket of its own, and parses them. */
async function bare(world: World): Promise<number> {
  const page = await world.tab();
  const probe = await Probe.on(page);
  await world.loaded(page);
  await page.evaluate(
    ({ url, jwt }) => {
      const scope = globalThis as unknown as Counting;
      scope.came = 0;
      const socket = new WebSocket(url, 'anabranch.v1.json');
      const say = (frame: unknown): void => socket.send(JSON.stringify(frame));
      socket.onopen = () => say({ type: 'hello', token: jwt, subscriptions: [{ id: 1, filter: 'load/#' }] });
      socket.onmessage = ({ data }) => {
        const { type } = JSON.parse(data as string) as { type: string };
        if (type === 'message') scope.came += 1;
        if (type === 'ping') say({ type: 'pong' });
        if (type === 'caught_up') scope.live = true;
      };
    },
    { url: world.gateway.url, jwt: token('bare') },
  );
  await until('live', 20_000, () => page.evaluate(() => (globalThis as unknown as Counting).live));
  const figure = await share(world, probe);
  await page.close();
  return figure;
}

export async function load(world: World): Promise<Row[]> {
  const page = await world.tab();
  const probe = await Probe.on(page);
  await world.loaded(page);
  const empty = await probe.heap();
  await probe.connect(world, 'load');
  await world.live(page);
  const idle = await probe.counts();

  await page.evaluate((count) => {
    const scope = globalThis as unknown as Counting;
    scope.came = 0;
    for (let n = 0; n < count; n += 1) scope.client.on(`load/${n}/#`, (event) => void (scope.came += Number(event.type === 'message')));
  }, SUBSCRIPTIONS);
  await until('subscribed', 20_000, async () => (await phase(page)) === 'live');
  for (let n = 0; n < CACHED; n += 1_000) await publish(world, n, 1_000);
  await until('all are cached', 60_000, async () => (await came(page)) >= CACHED);
  await page.evaluate(() => (globalThis as unknown as Scope).client.flush());
  const full = await probe.counts();
  const heap = await probe.heap();

  const begun = performance.now();
  const busy = await share(world, probe);
  const seconds = (performance.now() - begun) / 1_000;
  const after = await probe.counts();
  const frames = after.frames - full.frames;
  await page.close();
  const floor = await bare(world);
  return [
    { what: 'wasm memory, idle', figure: idle.bytes / MIB, unit: 'MiB', target: 1.2, gate: 2 },
    { what: 'wasm memory, 100 subscriptions and 10,000 cached messages', figure: full.bytes / MIB, unit: 'MiB', target: 3, gate: 6 },
    { what: 'JavaScript heap added by the client, same load', figure: (heap - empty) / MIB, unit: 'MiB', target: 4, gate: 8 },
    { what: 'calls of the core for each frame, at 1,000 messages a second', figure: (after.calls - full.calls) / frames, unit: '', target: 1, gate: 2 },
    { what: 'characters of a frame then', figure: (after.characters - full.characters) / frames, unit: '' },
    { what: 'CPU of the main thread then', figure: busy, unit: '%', target: 8, gate: 15, bySpeed: true },
    { what: 'the same of a page that parses the same frames, and no more', figure: floor, unit: '%' },
    { what: 'transactions of the store then, a second', figure: (after.transactions - full.transactions) / seconds, unit: '', target: 4, gate: 10 },
  ];
}
