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
  await page.exposeBinding('tellStory', (_, number: number, message: Received) => {
    if (number === received.length) received.push(message);
  });
  await page.addInitScript(remember);
  await page.goto(url);
  return { page, received, failures };
}

/**
 * Runs in the page, before its own scripts. What it tells is lost if the page is unloaded in the same moment; so it keeps the
 * newest messages as the page keeps its cursor, and tells them again after a reload.
 */
function remember(): void {
  const KEY = 'story';
  const KEPT = 200;
  const { tellStory } = globalThis as unknown as { tellStory(number: number, message: Received): void };
  type Story = { count: number; newest: Received[] };
  const story: Story = JSON.parse(sessionStorage.getItem(KEY) ?? '{"count":0,"newest":[]}') as Story;
  const first = story.count - story.newest.length;
  story.newest.forEach((message, index) => tellStory(first + index, message));
  addEventListener('anabranch:message', (event) => {
    const { topic, position } = (event as CustomEvent<Received>).detail;
    story.newest = [...story.newest.slice(1 - KEPT), { topic, position }];
    sessionStorage.setItem(KEY, JSON.stringify({ ...story, count: ++story.count }));
    tellStory(story.count - 1, { topic, position });
  });
}

/** The connection's phase, as the badge shows it. */
export const phase = (page: Page): Promise<string | null> => page.locator('.badge').getAttribute('data-phase');
