import type { TokenReason } from './shell/core.ts';
import type { CursorStore } from './cursors.ts';
import type { Tabs } from './group.ts';
import type { Keeping } from './keeping.ts';
import type { Patching } from './publishes.ts';

/** Where a subscription starts: from now, from the oldest record of the log, some time ago, or after a cursor. */
export type Start = 'now' | 'earliest' | { readonly sinceMs: number } | { readonly cursor: string };

/** Which newest values of state topics a subscription begins with. */
export type Snapshot = 'none' | 'if_new' | 'always';

/** Where the core's wasm comes from when the default, `core_bg.wasm` beside this module, does not fit. */
export type WasmSource = string | URL | Response | BufferSource | WebAssembly.Module;

export type TokenFunction = (why: TokenReason, options: { readonly signal: AbortSignal }) => string | Promise<string>;

/** What a `WebSocket` of another maker has in common with the browser's. */
export type WebSocketClass = new (url: string, protocol: string) => unknown;

export interface ClientOptions {
  /** The gateway, `wss://host/v1/ws`. A path alone means this page's own host. */
  readonly url: string;
  /**
   * Returns a token that is valid now. Called before each connection, and again before a token expires; never twice at
   * once. It has ten seconds, then `signal` aborts and the client tries again later.
   */
  readonly token: TokenFunction;
  /** Names this client to the gateway, and keeps its cursors apart from another's. At most 128 bytes. */
  readonly clientId?: string;
  readonly wasm?: WasmSource;
  /** Connects with this where there is no page: `WebSocket` of the package ws, or of Node 22. Without it nothing connects there, since pages are rendered on servers too. */
  readonly webSocket?: WebSocketClass;
  /** `session` (the default): a reload of the page goes on where it was. `off`: a reload starts from now. */
  readonly resume?: 'session' | 'off';
  /**
   * `gentle` (the default): while nobody can see the page, everything may come up to a second later and together, state by its
   * newest values. `same`: as when it is seen.
   */
  readonly whenHidden?: 'gentle' | 'same';
  /** Where cursors outlive the page, in place of the session's storage. Not used with a `store`. */
  readonly cursors?: CursorStore;
  /** Whoever the token speaks for, in the app's own words. Each user's things are kept apart. */
  readonly user?: string;
  /**
   * Where messages, cursors and queued publishes outlive the page: `indexedDb()` of `@anabranch/client/store`. Needs a `user`. Without it the publishes end
   * with the page, and `resume` says what becomes of cursors.
   */
  readonly store?: Keeping;
  /** One connection for all tabs of the `user`, which it needs: `sharedTabs()` of `@anabranch/client/tabs`. */
  readonly tabs?: Tabs;
  /** Most bytes of messages in memory, and in the store; 4 MiB unless told. 0: none. */
  readonly cacheBytes?: number;
}

export interface SubscribeOptions {
  /** Ends the subscription. */
  readonly signal?: AbortSignal;
  /**
   * Without it: after the cursor of this page's last load, if there is one, else from now. With it, each load begins there,
   * and no cursor is kept.
   */
  readonly from?: Start;
  /**
   * Which newest values of its state topics to begin with. `always`: every value. `if_new`: every value, or, after a cursor,
   * those that have changed since. `none`: what changes from now on. Without it: `always` where the page's last load left a
   * cursor, since the page itself has forgotten what it showed; `none` from `earliest` or `sinceMs`, which ask for the past as
   * it was; else `if_new`.
   */
  readonly snapshot?: Snapshot;
  /**
   * State topics come at most so many times a second, by their newest values: the last one always, within a period. Every
   * event comes, and takes along what waits; of a client's subscriptions, the fastest counts for all. `setMaxHz` changes it.
   */
  readonly maxHz?: number;
  /**
   * Most bytes of events that wait for a slow `for await` loop; 4 MiB unless told. Beyond, the client stops the stream and
   * goes on from the cursor when half is taken. Callbacks do not wait, so `on` has no buffer.
   */
  readonly bufferBytes?: number;
  /**
   * With a `store`: the name under which the app's place is kept; the next subscription of this name and filter goes on there. Without it, the filter and a
   * count of those that have the same.
   */
  readonly keepAs?: string;
}

export interface PublishOptions {
  readonly correlationId?: string;
  readonly messageType?: 'event' | 'command' | 'response' | 'notification';
  /** The same id is stored once, however often it is sent. Made up if absent. */
  readonly messageId?: string;
  /** Who publishes; the client id if absent. */
  readonly source?: string;
  /** For so long it may be sent. Later it ends with code 4403; with `unconfirmed` if the log may have it. */
  readonly timeToLiveMs?: number;
  /** @internal */
  readonly patch?: Patching;
  /** @internal Called when it leaves this page for the first time, if it is queued or has a time to live. */
  readonly sent?: () => void;
}

export interface QueueOptions extends PublishOptions {
  /** Resolve when the store has it, and publish it whenever there is a connection, from the next page too. */
  readonly queue: true;
}

/** The answer to a publish, once the log has confirmed it. */
export interface Published {
  readonly position: string;
  /** An earlier try with this `messageId` was already stored. */
  readonly duplicate: boolean;
}
