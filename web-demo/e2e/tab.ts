import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { chromium, type Page } from 'playwright-core';
import { until } from '../../sdk-wasm/npm/e2e/until.ts';

/** A tab that can be hidden and frozen as a user's is. */
export interface Tab {
  readonly page: Page;
  /** Puts another tab in front of it. */
  hide(): Promise<void>;
  /** What a browser does to a tab that was hidden for long: nothing in it runs. */
  freeze(): Promise<void>;
  /** Puts it in front again, which also thaws it. */
  show(): Promise<void>;
  close(): Promise<void>;
}

/**
 * A Chromium of our own. Playwright's has the throttling of background tabs switched off and tells every page that it is seen and has the focus, so that tests of hidden tabs
 * pass without testing anything.
 */
export async function openTab(): Promise<Tab> {
  const profile = await mkdtemp(join(tmpdir(), 'anabranch-tab-'));
  const program = process.env['CHROMIUM'] ?? '/usr/bin/chromium';
  const words = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'];
  const more = ['--disable-component-update', '--disable-sync', '--remote-debugging-port=0', `--user-data-dir=${profile}`, 'about:blank'];
  const child = spawn(program, [...words, ...more], { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(child, 'exit');
  const address = await new Promise<string>((resolve, reject) => {
    createInterface(child.stderr).on('line', (line) => {
      const found = /DevTools listening on (ws:\S+)/.exec(line)?.[1];
      if (found) resolve(found);
    });
    void ended.then(([code]) => reject(new Error(`${program} ended early (${code})`)));
    setTimeout(() => reject(new Error(`${program} did not start within 60 s`)), 60_000).unref();
  });
  const browser = await chromium.connectOverCDP(address, { noDefaults: true });
  const [context] = browser.contexts();
  const page = context?.pages()[0];
  if (!context || !page) throw new Error('the browser has no tab');
  const other = await context.newPage();
  const session = await context.newCDPSession(page);
  const is = (state: DocumentVisibilityState) => (): Promise<boolean> => page.evaluate((state) => document.visibilityState === state, state);
  const tab: Tab = {
    page,
    async hide() {
      await other.bringToFront();
      await until('the tab is hidden', 10_000, is('hidden'));
    },
    async freeze() {
      await tab.hide();
      await session.send('Page.setWebLifecycleState', { state: 'frozen' });
    },
    async show() {
      await session.send('Page.setWebLifecycleState', { state: 'active' });
      await page.bringToFront();
      await until('the tab is shown', 10_000, is('visible'));
    },
    async close() {
      await browser.close();
      child.kill('SIGKILL');
      await ended;
      await rm(profile, { recursive: true, force: true });
    },
  };
  await tab.show();
  return tab;
}
