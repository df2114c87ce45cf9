/** How soon the core can run, and a page shows something, in a real browser. */
import type { Page } from 'playwright-core';
import { numbers, type Scope, type World } from '../e2e/world.ts';
import { until } from '../e2e/until.ts';
import { token } from '../e2e/gateway.ts';
import { Probe } from './probe.ts';
import { median, type Row } from './table.ts';

const SLOWDOWN = 4;
const TIMES = 15;

/** Compiling and instantiating, each time other bytes: the browser keeps what it has compiled. */
async function instantiate(page: Page): Promise<number[]> {
  return page.evaluate(async (times) => {
    const bytes = new Uint8Array(await (await fetch('./dist/core_bg.wasm')).arrayBuffer());
    const took: number[] = [];
    for (let time = 0; time < times; time += 1) {
      // A section that means nothing: id 0, 4 bytes, a name of one letter, two bytes.
      const own = new Uint8Array([...bytes, 0, 4, 1, 0x78, time, 0]);
      const begun = performance.now();
      const module = await WebAssembly.compile(own);
      const imports: Record<string, Record<string, WebAssembly.ImportValue>> = {};
      for (const { module: from, name } of WebAssembly.Module.imports(module)) (imports[from] ??= {})[name] = () => {};
      const { exports } = await WebAssembly.instantiate(module, imports);
      took.push(performance.now() - begun);
      if (!exports['memory']) throw new Error('the core has no memory');
    }
    return took;
  }, TIMES);
}

/** An app that begins as soon as its scripts are there, and notes when it could draw the first value. */
const APP = `
globalThis.__name = (it) => it;
let lib;
Object.defineProperty(globalThis, 'lib', {
  get: () => lib,
  set(given) {
    lib = given;
    globalThis.seen = [];
    globalThis.client = lib.createClient({ url: URL, token: () => TOKEN, user: 'paint', store: lib.indexedDb() });
    client.on('paint/#', (event) => {
      seen.push([event.type, event.payload?.n ?? -1]);
      if (event.type === 'cached') globalThis.painted ??= (requestAnimationFrame((at) => (globalThis.painted = at)), 0);
    });
  },
});`;

async function paints(world: World): Promise<number[]> {
  const page = await world.tab();
  const values = { URL: world.gateway.url, TOKEN: token('paint') };
  await page.addInitScript({ content: APP.replace(/\b(URL|TOKEN)\b/g, (name) => JSON.stringify(values[name as 'URL' | 'TOKEN'])) });
  await page.reload();
  await world.live(page);
  await world.count(1, 500, 'paint/a');
  await until('all are there', 20_000, async () => (await numbers(page, 'message')).includes(500));
  const took: number[] = [];
  for (let time = 0; time < 7; time += 1) {
    await page.evaluate(() => (globalThis as unknown as Scope).client.flush());
    await page.reload();
    took.push(await until('painted', 20_000, () => page.evaluate(() => (globalThis as unknown as Scope).painted)));
  }
  await page.close();
  return took;
}

export async function start(world: World): Promise<Row[]> {
  const page = await world.tab();
  const probe = await Probe.on(page);
  await world.loaded(page);
  await probe.throttle(SLOWDOWN);
  const compiled = await instantiate(page);
  await page.close();
  return [
    { what: 'compile and instantiate, on a CPU slowed down four times', figure: median(compiled), unit: 'ms', target: 25, gate: 60, bySpeed: true },
    { what: 'reload to the frame with the first cached value', figure: median(await paints(world)), unit: 'ms', target: 80, gate: 200, bySpeed: true },
  ];
}
