/**
 * Takes the pictures of docs/images: the demo with its fleet after a cut of thirty seconds has healed, and with a throttled client beside a healthy one; light,
 * dark and narrow.
 */
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { launch, openDemo, phase, type DemoPage } from './browser.ts';
import { startDemo } from './demo-process.ts';
import { until } from '../../sdk-wasm/npm/e2e/until.ts';

const SHOTS = [
  { name: 'demo', viewport: { width: 1280, height: 800 }, colorScheme: 'light', fullPage: true },
  { name: 'demo-dark', viewport: { width: 1280, height: 800 }, colorScheme: 'dark', fullPage: true },
  { name: 'demo-narrow', viewport: { width: 390, height: 844 }, colorScheme: 'light', fullPage: true },
] as const;
/** So much of the stream is on the page before the cut, and after it. */
const BEFORE_MS = 40_000;
const AFTER_MS = 15_000;

const folder = fileURLToPath(new URL('../../docs/images/', import.meta.url));
await mkdir(folder, { recursive: true });
const demo = await startDemo(undefined, '--fleet', '300');
const browser = await launch();
try {
  const { controlUrl } = (await (await fetch(new URL('/demo.json', demo.url))).json()) as { controlUrl: string };
  const pages: DemoPage[] = [];
  for (const { viewport, colorScheme } of SHOTS) pages.push(await openDemo(browser, demo.url, { viewport, colorScheme }));
  const live = async ({ page }: DemoPage): Promise<boolean> => (await phase(page)) === 'live';
  const all = async (): Promise<boolean> => (await Promise.all(pages.map(live))).every(Boolean);
  await until('live', 30_000, all);
  // From the beginning, now that every device has spoken.
  const whole = async ({ page }: DemoPage): Promise<boolean> => (await page.locator('.fleet .alive').count()) > 300;
  await until('the fleet', 60_000, async () => (await Promise.all(pages.map(whole))).every(Boolean));
  for (const { page } of pages) await page.reload();
  await until('live', 30_000, all);
  const first = pages[0]?.page;
  await first?.getByLabel('every').selectOption('500');
  await first?.getByRole('button', { name: 'Set desired' }).click();
  await passed(BEFORE_MS);
  await fetch(`${controlUrl}/chaos/cut?ms=30000`, { method: 'POST' });
  await until('cut', 15_000, async () => !(await all()));
  await until('live again', 90_000, all);
  for (const { page } of pages) {
    await page.getByRole('button', { name: 'Open two clients' }).click();
    await page.getByRole('button', { name: 'Throttle', exact: true }).click();
    await page.evaluate(() => scrollTo(0, 0));
  }
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
