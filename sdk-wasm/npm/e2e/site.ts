/** A customer's site: the built package, and a page that imports it. */
import { createServer, type Server } from 'node:http';
import { readFile } from 'node:fs/promises';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';

const dist = fileURLToPath(new URL('../dist/', import.meta.url));
const TYPES: Record<string, string> = { js: 'text/javascript', wasm: 'application/wasm', map: 'application/json' };

/** Everything of the package stands in `lib`, once `ready` is true. */
const PAGE = `<!doctype html><meta charset=utf-8><title>a page</title><script>
// What the tests' compiler calls in functions that are sent here.
globalThis.__name = (it) => it;
</script><script type=module>
import * as index from './dist/index.js';
import * as store from './dist/store.js';
import * as tabs from './dist/tabs.js';
globalThis.lib = { ...index, ...store, ...tabs };
</script>`;

/** Who answers when a page of some user asks for a token. What it throws, the page is told as 503; `signal` aborts when the page waits no longer. */
export type Desk = (why: string, signal: AbortSignal) => string | Promise<string>;

export class Site {
  private constructor(
    private readonly server: Server,
    /** By user. */
    readonly desks: Map<string, Desk>,
  ) {}

  static async start(): Promise<Site> {
    const desks = new Map<string, Desk>();
    const server = createServer((request, response) => {
      const { pathname: path, searchParams } = new URL(request.url ?? '/', 'http://x');
      if (path === '/token') {
        const left = new AbortController();
        response.on('close', () => left.abort());
        const desk = desks.get(searchParams.get('user') ?? '');
        const asked = Promise.resolve(searchParams.get('why') ?? '').then((why) => desk?.(why, left.signal) ?? Promise.reject(new Error('no desk')));
        return void asked.then((token) => response.end(token), (error) => response.writeHead(503).end(String(error)));
      }
      // A strict policy, without what wasm needs.
      if (path === '/strict') response.setHeader('content-security-policy', "script-src 'self' 'unsafe-inline'");
      if (path === '/' || path === '/strict') return void response.setHeader('content-type', 'text/html').end(PAGE);
      const name = /^\/dist\/([\w.-]+)$/.exec(path)?.[1];
      readFile(dist + name).then(
        (content) => response.setHeader('content-type', TYPES[name?.split('.').at(-1) ?? ''] ?? 'text/plain').end(content),
        () => response.writeHead(404).end(),
      );
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Site(server, desks);
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/`;
  }

  stop(): void {
    this.server.closeAllConnections();
    this.server.close();
  }
}
