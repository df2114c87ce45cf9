/**
 * Takes the pictures of docs/images: the demo after a cut of thirty seconds has healed, light, dark and narrow. With a demo of its
 * own, or of `ANABRANCH_DEMO_URL`.
 */
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { launch, openDemo, phase, type DemoPage } from './browser.ts';
import { startDemo } from './demo-process.ts';
import { until } from './until.ts';

const SHOTS = [
  { name: 'demo', viewport: { width: 1280, height: 800 }, colorScheme: 'light', fullPage: false },
  { name: 'demo-dark', viewport: { width: 1280, height: 800 }, colorScheme: 'dark', fullPage: false },
  { name: 'demo-narrow', viewport: { width: 390, height: 844 }, colorScheme: 'light', fullPage: true },
] as const;
/** So much of the stream is on the page before the cut, and after it. */
const BEFORE_MS = 40_000;
const AFTER_MS = 15_000;

const folder = fileURLToPath(new URL('../../docs/images/', import.meta.url));
await mkdir(folder, { recursive: true });
const demo = await startDemo();
const browser = await launch();
try {
  const { controlUrl } = (await (await fetch(new URL('/demo.json', demo.url))).json()) as { controlUrl: string };
  const pages: DemoPage[] = [];
  for (const { viewport, colorScheme } of SHOTS) pages.push(await openDemo(browser, demo.url, { viewport, colorScheme }));
  const live = async ({ page }: DemoPage): Promise<boolean> => (await phase(page)) === 'live';
  const all = async (): Promise<boolean> => (await Promise.all(pages.map(live))).every(Boolean);
  await until('live', 30_000, all);
  const first = pages[0]?.page;
  await first?.getByLabel('every').selectOption('500');
  await first?.getByRole('button', { name: 'Set desired' }).click();
  await passed(BEFORE_MS);
  await fetch(`${controlUrl}/chaos/cut?ms=30000`, { method: 'POST' });
  await until('cut', 15_000, async () => !(await all()));
  await until('live again', 90_000, all);
  await passed(AFTER_MS);
  for (const [i, { name, fullPage }] of SHOTS.entries()) {
    await pages[i]?.page.screenshot({ path: `${folder}${name}.png`, fullPage });
    console.log(`docs/images/${name}.png`);
  }
} finally {
  await browser.close();
  await demo.stop();
}

/** A picture of a minute needs that minute. */
function passed(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
