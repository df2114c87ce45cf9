import type { Storage } from './keeping.ts';
import type { Effect, TokenReason } from './shell/core.ts';
import type { Brain, Local } from './shell/local.ts';

/** What a tab is among those of its user and gateway: `alone` where they do not know of each other. */
export type Role = 'alone' | 'waiting' | 'leader' | 'follower';

/** What a group of tabs needs of each of them, and tells it. */
export interface GroupNeeds {
  /** Whose tabs they are: the gateway and the user. */
  readonly owner: string;
  readonly now: () => number;
  readonly wall: () => number;
  readonly setTimer: (run: () => void, ms: number) => () => void;
  /** The connection is this tab's: it starts a core, and gives it to `serve`. */
  lead(): void;
  /** Another tab has the connection, and this is its core: tell it everything. */
  follow(brain: Brain): void;
  /** The connection is not this tab's any more: it lets go of its core. */
  stepDown(): void;
  /** An effect of the leader's core for this tab; `bytes` as of the frame that it came from. */
  effect(effect: Effect, bytes: number): void;
  /** Where the leader keeps things. */
  storage(storage: Storage): void;
  /** Asks this tab's app for a token, for the leader. */
  token(why: TokenReason, cancel: AbortSignal): Promise<string>;
  /** Somebody has logged out: this tab ends, and forgets what it keeps. */
  loggedOut(): Promise<void>;
}

/** This tab's part in a group that shares one connection. */
export interface Group {
  readonly role: Role;
  /** Whether no other tab can have the store at the same time. */
  readonly exclusive: boolean;
  join(): void;
  /** Another tab may have the connection; this one has let go of its core. */
  leave(): void;
  /** The app pauses this tab alone, for a reason, or takes that back. It stays one of the group. */
  pause(reason: string, paused: boolean): void;
  /** This tab's core is ready. The tab uses what is returned, from here on, and the others use the core through it. */
  serve(local: Local): Brain;
  /** Passes on what others are meant by, and returns what this tab is. */
  route(effect: Effect, bytes: number): Effect | undefined;
  stored(storage: Storage): void;
  /** Asks the apps of other tabs for a token, one after the other. */
  token(why: TokenReason, cancel: AbortSignal): Promise<string | undefined>;
  /** Ends all tabs of the group; resolves when one of them has wiped the store, `false` if none did. */
  logout(): Promise<boolean>;
}

/** Makes a tab's part in a group, for `createClient`; none where tabs cannot know of each other. `sharedTabs()` of `@anabranch/client/tabs` gives one. */
export type Tabs = (needs: GroupNeeds) => Group | undefined;
