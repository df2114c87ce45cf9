/** What crosses the borders of a page: calls of the core, frames, transactions of the store. */
import type { CDPSession, Page } from 'playwright-core';
import { token } from '../e2e/gateway.ts';
import type { Scope, World } from '../e2e/world.ts';

export interface Counts {
  /** Calls of the core's methods. What the bindings add to each to pass texts, they add whatever the shell does. */
  calls: number;
  frames: number;
  /** Characters in those frames. */
  characters: number;
  /** Of the database, those that write. */
  transactions: number;
  memory: WebAssembly.Memory | undefined;
}

/** Runs in the page, before the package is there. */
function count(): void {
  const counts: Counts = { calls: 0, frames: 0, characters: 0, transactions: 0, memory: undefined };
  Object.assign(globalThis, { counts });

  const { Instance } = WebAssembly;
  const counted = (module: WebAssembly.Module, imports: WebAssembly.Imports): unknown => {
    const { exports } = new Instance(module, imports);
    counts.memory = exports['memory'] as WebAssembly.Memory;
    const entries = Object.entries(exports).map(([name, value]) => {
      if (typeof value !== 'function' || !name.startsWith('core_')) return [name, value];
      return [name, (...args: unknown[]): unknown => ((counts.calls += 1), (value as (...args: unknown[]) => unknown)(...args))];
    });
    return { exports: Object.fromEntries(entries) as WebAssembly.Exports };
  };
  WebAssembly.Instance = function (module: WebAssembly.Module, imports: WebAssembly.Imports) {
    return counted(module, imports);
  } as unknown as typeof Instance;

  const { WebSocket } = globalThis;
  globalThis.WebSocket = class extends WebSocket {
    constructor(url: string | URL, protocols?: string | string[]) {
      super(url, protocols);
      this.addEventListener('message', ({ data }) => {
        counts.frames += 1;
        counts.characters += (data as string).length;
      });
    }
  };

  const { transaction } = IDBDatabase.prototype;
  IDBDatabase.prototype.transaction = function (stores, mode, options) {
    if (mode === 'readwrite') counts.transactions += 1;
    return transaction.call(this, stores, mode, options);
  };
}

/** What of a heap is not the page's own doing: compiled code, and the browser's tables. */
const NOT_OURS = ['native', 'code', 'hidden', 'synthetic'];

interface Snapshot {
  readonly snapshot: { readonly meta: { readonly node_fields: string[]; readonly node_types: [string[]] } };
  readonly nodes: number[];
}

/** A page that counts, and what its browser says of it. */
export class Probe {
  private constructor(
    readonly page: Page,
    private readonly session: CDPSession,
  ) {}

  /** Loads the page anew, so that it counts from its beginning. */
  static async on(page: Page): Promise<Probe> {
    // The tests' compiler wraps what it calls functions of a name.
    await page.addInitScript({ content: `globalThis.__name = (it) => it; (${count})();` });
    const session = await page.context().newCDPSession(page);
    await session.send('HeapProfiler.enable');
    await session.send('Performance.enable');
    await page.reload();
    return new Probe(page, session);
  }

  /** Makes a client with a store that stays connected. Nothing in the page notes what comes. */
  async connect({ gateway }: World, user: string): Promise<void> {
    await this.page.evaluate(
      ({ url, jwt, user }) => {
        const scope = globalThis as unknown as Scope;
        scope.client = scope.lib.createClient({ url, token: () => jwt, user, store: scope.lib.indexedDb() });
        scope.client.connect();
      },
      { url: gateway.url, jwt: token(user), user },
    );
  }

  /** Without the memory, which is told in bytes. */
  counts(): Promise<Omit<Counts, 'memory'> & { bytes: number }> {
    return this.page.evaluate(() => {
      const { memory, ...rest } = (globalThis as unknown as { counts: Counts }).counts;
      return { ...rest, bytes: memory?.buffer.byteLength ?? 0 };
    });
  }

  /** Bytes of JavaScript that are in use, after what is not has been collected. */
  async heap(): Promise<number> {
    // What a finalizer lets go of is collected by the next round.
    for (let round = 0; round < 3; round += 1) await this.session.send('HeapProfiler.collectGarbage');
    return (await this.session.send('Runtime.getHeapUsage')).usedSize;
  }

  /** Bytes of the page's own objects and texts: the same whenever nothing is left behind. */
  async objects(): Promise<number> {
    const chunks: string[] = [];
    const take = ({ chunk }: { chunk: string }): void => void chunks.push(chunk);
    this.session.on('HeapProfiler.addHeapSnapshotChunk', take);
    for (let round = 0; round < 3; round += 1) await this.session.send('HeapProfiler.collectGarbage');
    await this.session.send('HeapProfiler.takeHeapSnapshot');
    this.session.off('HeapProfiler.addHeapSnapshotChunk', take);
    const { snapshot, nodes } = JSON.parse(chunks.join('')) as Snapshot;
    const { node_fields: fields, node_types: types } = snapshot.meta;
    const [type, size] = [fields.indexOf('type'), fields.indexOf('self_size')];
    let bytes = 0;
    for (let at = 0; at < nodes.length; at += fields.length) {
      if (!NOT_OURS.includes(types[0][nodes[at + type] as number] as string)) bytes += nodes[at + size] as number;
    }
    return bytes;
  }

  /** Seconds of CPU that the page's main thread has used. What other programs take from it meanwhile does not count. */
  async busy(): Promise<number> {
    const { metrics } = await this.session.send('Performance.getMetrics');
    return metrics.find(({ name }) => name === 'ThreadTime')?.value ?? Number.NaN;
  }

  async throttle(rate: number): Promise<void> {
    await this.session.send('Emulation.setCPUThrottlingRate', { rate });
  }
}
