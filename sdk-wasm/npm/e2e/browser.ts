/**
 * Debian's Chromium, spawned by ourselves: playwright's own flags keep every page visible and unthrottled, and then nothing is ever hidden or
 * frozen. All pages are in its default context, so they are tabs of one user.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Browser, chromium, type Page } from 'playwright-core';

const FLAGS = [
  '--headless=new',
  '--remote-debugging-port=0',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--no-default-browser-check',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export class Chromium {
  private constructor(
    private readonly profile: string,
    private readonly child: ChildProcess,
    readonly browser: Browser,
  ) {}

  static async start(): Promise<Chromium> {
    const profile = await mkdtemp(join(tmpdir(), 'anabranch-chromium-'));
    const child = spawn(process.env['CHROMIUM'] ?? '/usr/bin/chromium', [...FLAGS, `--user-data-dir=${profile}`, 'about:blank'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const url = await new Promise<string>((resolve, reject) => {
      const said: string[] = [];
      createInterface(child.stderr as NodeJS.ReadableStream).on('line', (line) => {
        said.push(line);
        const found = /DevTools listening on (ws:\S+)/.exec(line)?.[1];
        if (found) resolve(found);
      });
      child.on('exit', (code) => reject(new Error(`Chromium ended (${code}): ${said.join('\n')}`)));
    });
    const browser = await chromium.connectOverCDP(url, { noDefaults: true });
    return new Chromium(profile, child, browser);
  }

  /** A new tab, in front of the others. */
  async tab(url: string): Promise<Page> {
    const [context] = this.browser.contexts();
    if (!context) throw new Error('Chromium has no context');
    const page = await context.newPage();
    await page.goto(url);
    return page;
  }

  /** The same in a window of its own: it is seen, whatever is in front of the others. One at a time. */
  async window(url: string): Promise<Page> {
    const [context] = this.browser.contexts();
    if (!context) throw new Error('Chromium has no context');
    const session = await this.browser.newBrowserCDPSession();
    const opened = context.waitForEvent('page');
    await session.send('Target.createTarget', { url: 'about:blank', newWindow: true });
    const page = await opened;
    await session.detach();
    await page.goto(url);
    return page;
  }

  async stop(): Promise<void> {
    const ended = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await ended;
    await rm(this.profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
  }
}
