import type { CoreClass } from './core.ts';
import type { WasmSource, WebSocketClass } from '../options.ts';
import { type CursorStore, SessionStore } from '../cursors.ts';
import { loadCore } from './load.ts';
import { listenToPage, type PageListener } from './page.ts';

/** The part of a `WebSocket` that is used here. */
export interface Socket {
  onopen: (() => void) | null;
  onmessage: ((event: { readonly data: unknown }) => void) | null;
  onclose: ((event: { readonly code: number }) => void) | null;
  onerror: (() => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

/** Everything that the shell takes from around it, so that a test can put something else there. Clocks and timers are handed on by themselves. */
export interface Environment {
  /** Milliseconds on a clock that never goes back. */
  readonly now: () => number;
  /** Milliseconds since 1970. */
  readonly wall: () => number;
  readonly setTimer: (run: () => void, ms: number) => () => void;
  /** Absent where pages are only rendered: there nothing ever connects. */
  readonly socket?: (url: string, protocol: string) => Socket;
  readonly cursors?: CursorStore;
  listen(listener: PageListener): () => void;
  random32(): number;
  load(source: WasmSource | undefined): Promise<CoreClassFactory>;
}

/** Makes an instance of the core's wasm: its memory is its own, so one that has trapped is thrown away whole. */
export type CoreClassFactory = () => CoreClass;

/** The browser's, window or worker. On a server the same code finds no socket and stays quiet. */
export function browser(given?: WebSocketClass): Environment {
  const scope: Partial<typeof globalThis> & { WorkerGlobalScope?: unknown } = globalThis;
  const inBrowser = typeof scope.document === 'object' || typeof scope.WorkerGlobalScope === 'function';
  const make = given ?? (inBrowser ? (scope.WebSocket as WebSocketClass | undefined) : undefined);
  const cursors = inBrowser ? sessionStore() : undefined;
  return {
    now: () => performance.now(),
    wall: () => Date.now(),
    setTimer(run, ms) {
      // A delay over 2^31 - 1 would fire at once.
      const timer = setTimeout(run, Math.min(ms, 0x7fff_ffff));
      return () => clearTimeout(timer);
    },
    ...(make ? { socket: (url: string, protocol: string) => new make(url, protocol) as Socket } : {}),
    ...(cursors ? { cursors } : {}),
    listen: listenToPage,
    random32: () => crypto.getRandomValues(new Uint32Array(1))[0] ?? 0,
    load: loadCore,
  };
}

/** Reading `sessionStorage` throws where the user has blocked site data. */
function sessionStore(): CursorStore | undefined {
  try {
    return typeof sessionStorage === 'object' ? new SessionStore(sessionStorage) : undefined;
  } catch {
    return undefined;
  }
}
