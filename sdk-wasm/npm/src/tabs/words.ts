/** What tabs say to each other, over a BroadcastChannel. `leader` names a core, not only a tab: after a restart of the core it is another. */
import type { Storage } from '../keeping.ts';
import type { ConnectionState, Effect, TokenReason } from '../shell/core.ts';
import type { Question } from '../shell/local.ts';

/** Tabs of another version do not understand each other, and have a channel of their own. */
export const VERSION = 4;

export type Words =
  /** Who leads? I am new here, or the leader that I know says nothing. */
  | readonly ['who', tab: string]
  /** I lead. Tell me everything. To one tab, or to all. */
  | readonly ['lead', leader: string, state: ConnectionState | null, storage: Storage, tab: string | null]
  /** I shall lead, and open the store yet: who led before does not any more. */
  | readonly ['opening']
  | readonly ['bye', tab: string]
  /** A call to the leader's core, without the time. */
  | readonly ['call', leader: string, tab: string, name: string, args: readonly unknown[]]
  | readonly ['want', leader: string, tab: string, wanted: boolean]
  | readonly ['hide', leader: string, tab: string, hidden: boolean]
  | readonly ['ask', leader: string, tab: string, number: number, question: Question]
  | readonly ['answer', leader: string, tab: string, number: number, text: string]
  | readonly ['place', leader: string, tab: string, name: string, filter: string | undefined, cursor: string | undefined]
  /** For all tabs, or for the subscriptions of some. */
  | readonly ['effect', leader: string, effect: Effect, bytes: number, to: Readonly<Record<string, number[]>> | null]
  | readonly ['storage', leader: string, storage: Storage]
  /** The leader's app has no token: has this tab's? */
  | readonly ['token', leader: string, tab: string, why: TokenReason]
  | readonly ['token of', leader: string, tab: string, token: string | null]
  | readonly ['logout']
  | readonly ['wiped'];

export type Say = (...words: Words) => void;
