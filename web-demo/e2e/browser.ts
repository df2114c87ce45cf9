import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';

/** Debian's Chromium. Its own conversations with the world are switched off: nothing but the demo is to be spoken to. */
export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium',
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}

/** A message as the page's app was given it. */
export interface Received {
  readonly topic: string;
  readonly position: string;
}

/** The demo's page, and all that its app received, over any number of reloads. */
export interface DemoPage {
  readonly page: Page;
  readonly received: Received[];
  /** What went wrong inside of the page. */
  readonly failures: string[];
}

export async function openDemo(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<DemoPage> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  const received: Received[] = [];
  const failures: string[] = [];
  page.on('pageerror', (error) => failures.push(error.stack ?? String(error)));
  await page.exposeBinding('tellStory', (_, topic: string, position: string) => void received.push({ topic, position }));
  await page.addInitScript(() => {
    addEventListener('anabranch:message', (event) => {
      const { topic, position } = (event as CustomEvent<{ topic: string; position: string }>).detail;
      (globalThis as unknown as { tellStory(topic: string, position: string): void }).tellStory(topic, position);
    });
  });
  await page.goto(url);
  return { page, received, failures };
}

/** The connection's phase, as the badge shows it. */
export const phase = (page: Page): Promise<string | null> => page.locator('.badge').getAttribute('data-phase');
