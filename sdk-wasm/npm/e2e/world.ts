/** A gateway, a site and a browser, for one file of tests; and what a page of an app looks like from here. */
import assert from 'node:assert/strict';
import type { Page } from 'playwright-core';
import type * as index from '../src/index.ts';
import type * as store from '../src/store/index.ts';
import type * as tabs from '../src/tabs/index.ts';
import { Chromium } from './browser.ts';
import { Gateway, type Settings, token } from './gateway.ts';
import type { Link } from './link.ts';
import { Site } from './site.ts';
import { until } from './until.ts';

/** What tests leave in a page. */
export interface Scope {
  lib: typeof index & typeof store & typeof tabs;
  client: index.Client;
  /** The subscription to `filter`. */
  watched: index.Subscription;
  /** What the app was given: the type of each event, and the number in it. */
  seen: [type: string, n: number][];
  /** When each of it was given, in Unix milliseconds. */
  given: number[];
  /** The newest number of each state topic. */
  newest: Record<string, number>;
  errors: string[];
  /** What the connection was, and from when, in Unix milliseconds. */
  phases: [phase: string, at: number][];
  /** Calls of the token function that are open, and the most that were at once. */
  asking: number;
  askingMost: number;
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
  /** Also watches these state topics. */
  readonly state?: string;
  /** Another way to the gateway, or another gateway. */
  readonly url?: string;
  /** Asks the site for its tokens, at a desk of the user's. */
  readonly asks?: boolean;
}

export class World {
  private constructor(
    readonly gateway: Gateway,
    readonly site: Site,
    readonly chromium: Chromium,
  ) {}

  static async start(settings: Settings = {}): Promise<World> {
    return new World(await Gateway.start(settings), await Site.start(), await Chromium.start());
  }

  get link(): Link {
    return this.gateway.link;
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

  /** A tab without a client, in a window of its own. */
  async window(): Promise<Page> {
    const page = await this.chromium.window(this.site.url);
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
  async begin(page: Page, options: AppOptions = {}): Promise<void> {
    const { user = 'alice', filter = 'log/#', silent = false, shared = false, state = null, url = this.gateway.url, asks = false } = options;
    await page.evaluate(
      ({ url, jwt, user, filter, silent, shared, state, asks }) => {
        const scope = globalThis as unknown as Scope;
        const { createClient, indexedDb, sharedTabs } = scope.lib;
        scope.seen = [];
        scope.given = [];
        scope.errors = [];
        scope.newest = {};
        scope.phases = [];
        scope.begun = performance.now();
        scope.asking = scope.askingMost = 0;
        const ask = async (why: string, { signal }: { signal: AbortSignal }): Promise<string> => {
          scope.asking += 1;
          scope.askingMost = Math.max(scope.asking, scope.askingMost);
          try {
            const answer = await fetch(`/token?user=${user}&why=${why}`, { signal });
            if (!answer.ok) throw new Error(`the desk answered ${answer.status}`);
            return await answer.text();
          } finally {
            scope.asking -= 1;
          }
        };
        const token = asks ? ask : () => jwt;
        scope.client = createClient({ url, token, user, store: indexedDb(), ...(shared ? { tabs: sharedTabs() } : {}) });
        scope.client.onError((error) => scope.errors.push(`${error.code}: ${error.message}`));
        scope.client.state.subscribe(({ phase }) => phase !== scope.phases.at(-1)?.[0] && scope.phases.push([phase, Date.now()]));
        if (silent) return;
        scope.watched = scope.client.on<{ n?: number } | null>(filter, (event) => {
          if (event.type === 'cached' && !scope.seen.some(([type]) => type === 'cached')) scope.painted = performance.now();
          scope.seen.push([event.type, 'payload' in event ? (event.payload?.n ?? -1) : -1]);
          scope.given.push(Date.now());
        });
        if (state === null) return;
        scope.client.on<{ n: number } | null>(state, (event) => {
          if ('payload' in event) scope.newest[event.topic] = event.payload?.n ?? -1;
        });
      },
      { url, jwt: token(user), user, filter, silent, shared, state, asks },
    );
  }

  async live(page: Page): Promise<void> {
    await until('live', 20_000, async () => (await phase(page)) === 'live').catch(async (error: Error) => {
      throw new Error(`${error.message}: ${JSON.stringify([await phases(page), await errors(page)])}`);
    });
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

/** Waits until somebody sees the page, or nobody does. */
export const is = (page: Page, state: DocumentVisibilityState): Promise<unknown> =>
  until(`the page is ${state}`, 10_000, async () => (await visibility(page)) === state);

/** What the connection has been, and from when. */
export const phases = (page: Page): Promise<Scope['phases']> => page.evaluate(() => (globalThis as unknown as Scope).phases);

export const errors = (page: Page): Promise<string[]> => page.evaluate(() => (globalThis as unknown as Scope).errors);

export const visibility = (page: Page): Promise<string> => page.evaluate(() => document.visibilityState);

export const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** These are all numbers between, once and in order. Says the first that is not, since there may be thousands. */
export function sequence(all: readonly number[], from: number, to: number): void {
  const wrong = all.findIndex((n, at) => n !== from + at);
  if (wrong >= 0) assert.fail(`at ${wrong}, after ${all[wrong - 1]}, there is ${all[wrong]}, not ${from + wrong}`);
  assert.equal(all.length, to - from + 1, `${all[0]} to ${all.at(-1)}, and not ${from} to ${to}`);
}

/** Waits until the app has been given this number. */
export const has = (page: Page, n: number): Promise<unknown> => {
  const given = (): Promise<boolean> =>
    page.evaluate((n) => (globalThis as unknown as Scope).seen.some(([type, one]) => one === n && (type === 'message' || type === 'cached')), n);
  return until(`the app has ${n}`, 20_000, given);
};

/** How much the app has been given, of whatever type. */
export const amount = (page: Page): Promise<number> => page.evaluate(() => (globalThis as unknown as Scope).seen.length);
