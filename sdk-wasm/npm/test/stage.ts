/** A page that is not there: its clock, timers, sockets and store in the test's hands, around the real wasm core. */
import { readFileSync } from 'node:fs';
import { instantiate } from '../src/shell/instantiate.ts';
import { Client } from '../src/client.ts';
import type { AnabranchError } from '../src/errors.ts';
import type { ClientOptions } from '../src/options.ts';
import type { CoreClassFactory, Environment, Socket } from '../src/shell/environment.ts';
import type { PageListener } from '../src/shell/page.ts';

const module = new WebAssembly.Module(readFileSync(new URL('../core/core_bg.wasm', import.meta.url)));

export type Frame = Record<string, unknown> & { type: string };

export class FakeSocket implements Socket {
  onopen: (() => void) | null = null;
  onmessage: ((event: { readonly data: unknown }) => void) | null = null;
  onclose: ((event: { readonly code: number }) => void) | null = null;
  onerror: (() => void) | null = null;
  readonly sent: Frame[] = [];
  closedWith: number | undefined;

  constructor(
    readonly url: string,
    readonly protocol: string,
  ) {}

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Frame);
  }

  close(code?: number): void {
    this.closedWith = code ?? 1005;
  }

  /** The frames of one type, in order. */
  of(type: string): Frame[] {
    return this.sent.filter((frame) => frame.type === type);
  }

  /** The gateway says something: a frame, or the text of one. */
  receive(frame: unknown): void {
    this.onmessage?.({ data: typeof frame === 'string' ? frame : JSON.stringify(frame) });
  }

  /** The connection is lost. */
  drop(code = 1006): void {
    this.onclose?.({ code });
  }
}

export class Stage implements Environment {
  readonly sockets: FakeSocket[] = [];
  readonly errors: AnabranchError[] = [];
  readonly kept = new Map<string, string>();
  readonly cursors = {
    load: (key: string) => this.kept.get(key),
    save: (key: string, cursor: string) => void this.kept.set(key, cursor),
    remove: (key: string) => void this.kept.delete(key),
  };
  page: PageListener | undefined;
  private mono = 1_000;
  private timers: { at: number; run: () => void }[] = [];
  private seed = 1;
  private given = 0;

  constructor(private readonly core: CoreClassFactory = () => instantiate(module)) {}

  now = (): number => this.mono;
  wall = (): number => 1_795_233_600_000 + this.mono;
  socket = (url: string, protocol: string): FakeSocket => {
    const socket = new FakeSocket(url, protocol);
    this.sockets.push(socket);
    return socket;
  };
  listen = (listener: PageListener): (() => void) => {
    this.page = listener;
    return () => (this.page = undefined);
  };
  random32 = (): number => (this.seed = Math.imul(this.seed, 1_664_525) + 1_013_904_223) >>> 0;
  load = (): Promise<CoreClassFactory> => Promise.resolve(this.core);

  setTimer = (run: () => void, ms: number): (() => void) => {
    const timer = { at: this.mono + ms, run };
    this.timers.push(timer);
    return () => (this.timers = this.timers.filter((other) => other !== timer));
  };

  /** Lets time pass, timers and promises included. */
  async pass(ms: number): Promise<void> {
    const until = this.mono + ms;
    for (;;) {
      await settle();
      const next = this.timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.timers = this.timers.filter((timer) => timer !== next);
      this.mono = Math.max(this.mono, next.at);
      next.run();
    }
    this.mono = until;
    await settle();
  }

  /** Time passes, and nothing else happens. */
  skip(ms: number): void {
    this.mono += ms;
  }

  client(options: Partial<ClientOptions> = {}): Client {
    const client = new Client({ url: 'wss://gateway.test/v1/ws', token: () => 'token-1', ...options }, this);
    client.onError((error) => this.errors.push(error));
    return client;
  }

  get last(): FakeSocket {
    const socket = this.sockets.at(-1);
    if (!socket) throw new Error('no socket was opened');
    return socket;
  }

  /** Waits until another socket is opened than those that a test has been given so far. */
  async dialled(): Promise<FakeSocket> {
    for (let waited = 0; this.sockets.length === this.given; waited += 100) {
      if (waited > 120_000) throw new Error('no socket was opened within two minutes');
      await this.pass(100);
    }
    this.given = this.sockets.length;
    return this.last;
  }

  /** Opens the next socket and accepts the hello on it. */
  async accept(frame: Partial<Frame> = {}): Promise<FakeSocket> {
    const socket = await this.dialled();
    socket.onopen?.();
    await settle();
    socket.receive({ ...WELCOME, ...frame });
    return socket;
  }

  /** The same, and brings every subscription of the hello to live at `offset`. */
  async live(offset = 10): Promise<FakeSocket> {
    const socket = await this.accept();
    for (const { id } of socket.of('hello')[0]?.['subscriptions'] as { id: number }[]) socket.receive(subscribed(id, offset));
    socket.receive({ type: 'caught_up', cursor: cursor(offset) });
    return socket;
  }
}

const LOG = '7f3a9c21d0e1b2c4';
const position = (offset: number): string => `0:${offset}:${offset.toString(16).padStart(8, '0')}`;
export const cursor = (offset: number): string => `${LOG}/${position(offset)}`;

export const WELCOME = {
  type: 'welcome',
  session: 's',
  cursor: cursor(10),
  pingIntervalMs: 20_000,
  pingGraceMs: 10_000,
  tokenTtlMs: 3_600_000,
  serverTimeMs: 1_795_233_600_000,
  limits: { frameBytes: 278_528, subscriptions: 256, publishesInFlight: 256 },
};

export function subscribed(id: number, offset: number, outcome = 'live'): Frame {
  return { type: 'subscribed', subscription: id, cursor: cursor(offset), outcome };
}

export function message(offset: number, topic: string, payload: unknown = { n: offset }): Frame {
  const metadata = { messageId: `m${offset}`, timestamp: '2026-11-21T05:20:00Z', topic, source: 's', version: '1.0' };
  return { type: 'message', position: position(offset), envelope: { metadata, payload } };
}

/** Lets every promise that can go on do so. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
