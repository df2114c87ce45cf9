/** What is left behind by ten thousand subscriptions and a thousand connections that are over. */
import type { Page } from 'playwright-core';
import type { Scope, World } from '../e2e/world.ts';
import { Probe } from './probe.ts';
import type { Row } from './table.ts';

/** Opens subscriptions, a hundred at a time, waits until each is live, and closes them. */
function subscribe(page: Page, rounds: number): Promise<void> {
  return page.evaluate(async (rounds) => {
    const { client } = globalThis as unknown as Scope;
    for (let round = 0; round < rounds; round += 1) {
      const open = Array.from({ length: 100 }, (_, n) => {
        let subscription: { close(): void } | undefined;
        const live = new Promise<void>((resolve) => (subscription = client.on(`grow/${n}/#`, ({ type }) => type === 'live' && resolve())));
        return { live, close: () => subscription?.close() };
      });
      for (const { live } of open) await live;
      for (const { close } of open) close();
    }
    await client.flush();
  }, rounds);
}

/** Ends the connection and begins it anew, and waits until everything is live again. */
function reconnect(page: Page, times: number): Promise<void> {
  return page.evaluate(async (times) => {
    const { client } = globalThis as unknown as Scope;
    for (let time = 0; time < times; time += 1) {
      client.pause('budgets');
      const live = new Promise<void>((resolve) => {
        const stop = client.state.subscribe(({ phase }) => {
          if (phase !== 'live') return;
          stop();
          resolve();
        });
      });
      client.resume('budgets');
      await live;
    }
    await client.flush();
  }, times);
}

export async function growth(world: World): Promise<Row[]> {
  const page = await world.tab();
  const probe = await Probe.on(page);
  await world.loaded(page);
  await probe.connect(world, 'growth');
  await page.evaluate(() => void (globalThis as unknown as Scope).client.on('log/#', () => {}));
  await world.live(page);
  const rows: Row[] = [];
  for (const [what, run] of [
    ['10,000 subscriptions', () => subscribe(page, 100)],
    ['1,000 reconnects', () => reconnect(page, 1_000)],
  ] as const) {
    // What is made once, for the first of them, is no growth.
    await run();
    const [bytes, objects] = [(await probe.counts()).bytes, await probe.objects()];
    await run();
    const grown = (before: number, after: number): number => Math.max(0, (100 * (after - before)) / before);
    rows.push({ what: `wasm memory grown by ${what}`, figure: grown(bytes, (await probe.counts()).bytes), unit: '%', target: 0, gate: 1 });
    rows.push({ what: `JavaScript objects grown by ${what}`, figure: grown(objects, await probe.objects()), unit: '%', target: 0, gate: 1 });
  }
  await page.close();
  return rows;
}
