/** A gateway, a site and a browser, for one file of tests; and what a page of an app looks like from here. */
import type { Page } from 'playwright-core';
import type * as index from '../src/index.ts';
import type * as store from '../src/store/index.ts';
import type * as tabs from '../src/tabs/index.ts';
import { Chromium } from './browser.ts';
import { Gateway, token } from './gateway.ts';
import { Site } from './site.ts';
import { until } from './until.ts';

/** What tests leave in a page. */
export interface Scope {
  lib: typeof index & typeof store & typeof tabs;
  client: index.Client;
  /** What the app was given: the type of each event, and the number in it. */
  seen: [type: string, n: number][];
  errors: string[];
  /** When the client was made, and when the first cached value came. */
  begun: number;
  painted: number;
}

export const scope = globalThis as unknown as Scope;

export interface AppOptions {
  readonly user?: string;
  readonly filter?: string;
  /** Subscribes to nothing. */
  readonly silent?: boolean;
  /** Shares one connection with the user's other tabs. */
  readonly shared?: boolean;
}

export class World {
  private constructor(
    readonly gateway: Gateway,
    readonly site: Site,
    readonly chromium: Chromium,
  ) {}

  static async start(): Promise<World> {
    return new World(await Gateway.start(), await Site.start(), await Chromium.start());
  }

  async stop(): Promise<void> {
    await this.chromium.stop();
    this.site.stop();
    await this.gateway.stop();
  }

  /** A tab without a client. */
  async tab(): Promise<Page> {
    const page = await this.chromium.tab(this.site.url);
    await this.loaded(page);
    return page;
  }

  /** A tab with an app that watches a filter. */
  async app(options: AppOptions = {}): Promise<Page> {
    const page = await this.tab();
    await this.begin(page, options);
    return page;
  }

  /** Loads the page anew, and begins again. */
  async reload(page: Page, options: AppOptions = {}): Promise<void> {
    await page.reload();
    await this.loaded(page);
    await this.begin(page, options);
  }

  async loaded(page: Page): Promise<void> {
    await until('the package', 20_000, () => page.evaluate(() => 'lib' in globalThis));
  }

  /** Starts the app in a page. */
  async begin(page: Page, { user = 'alice', filter = 'log/#', silent = false, shared = false }: AppOptions = {}): Promise<void> {
    await page.evaluate(
      ({ url, jwt, user, filter, silent, shared }) => {
        const scope = globalThis as unknown as Scope;
        const { createClient, indexedDb, sharedTabs } = scope.lib;
        scope.seen = [];
        scope.errors = [];
        scope.begun = performance.now();
        scope.client = createClient({ url, token: () => jwt, user, store: indexedDb(), ...(shared ? { tabs: sharedTabs() } : {}) });
        scope.client.onError((error) => scope.errors.push(`${error.code}: ${error.message}`));
        if (silent) return;
        scope.client.on<{ n?: number } | null>(filter, (event) => {
          if (event.type === 'cached' && !scope.seen.some(([type]) => type === 'cached')) scope.painted = performance.now();
          scope.seen.push([event.type, 'payload' in event ? (event.payload?.n ?? -1) : -1]);
        });
      },
      { url: this.gateway.url, jwt: token(user), user, filter, silent, shared },
    );
  }

  async live(page: Page): Promise<void> {
    await until('live', 20_000, async () => (await phase(page)) === 'live');
  }

  /** Publishes numbers on `log/a`, in this order. */
  async count(from: number, to: number, topic = 'log/a'): Promise<void> {
    for (let n = from; n <= to; n += 1) await this.gateway.publish(topic, { n });
  }
}

export const phase = (page: Page): Promise<string> => page.evaluate(() => (globalThis as unknown as Scope).client.state.get().phase);

/** The numbers of the events of these types that the app was given, in order. */
export async function numbers(page: Page, ...types: string[]): Promise<number[]> {
  const seen = await page.evaluate(() => (globalThis as unknown as Scope).seen);
  return seen.filter(([type]) => types.includes(type)).map(([, n]) => n);
}

export const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** Waits until the app has been given this number. */
export const has = (page: Page, n: number): Promise<unknown> =>
  until(`the app has ${n}`, 20_000, async () => (await numbers(page, 'cached', 'message')).includes(n));
