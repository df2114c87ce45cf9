import type { Write } from '../keeping.ts';

/**
 * The wasm core as the shell sees it: a pure state machine with synchronous methods. Each call takes the monotonic clock
 * (`now`) and the wall clock (`wall`) in milliseconds, and returns the effects to carry out, as one JSON array.
 * `sdk-wasm/src/lib.rs` is the other side of this page.
 */
export interface Core {
  connect(now: number, wall: number): string;
  disconnect(now: number, wall: number): string;
  close(now: number, wall: number): string;
  pause(reason: string, now: number, wall: number): string;
  resume(reason: string, now: number, wall: number): string;
  opened(attempt: number, now: number, wall: number): string;
  received(attempt: number, text: string, now: number, wall: number): string;
  closed(attempt: number, code: number, now: number, wall: number): string;
  token(request: number, token: string, now: number, wall: number): string;
  token_failed(request: number, message: string, now: number, wall: number): string;
  subscribe(id: number, filter: string, startJson: string, now: number, wall: number): string;
  unsubscribe(id: number, now: number, wall: number): string;
  conflate(id: number, ms: number, now: number, wall: number): string;
  hide(hidden: boolean, now: number, wall: number): string;
  park(id: number, now: number, wall: number): string;
  unpark(id: number, now: number, wall: number): string;
  kept_publish(messageId: string, envelope: string, expires: number, code: number, message: string): void;
  kept_message(topic: string, position: string, envelope: string, flags: number): void;
  kept_place(name: string, filter: string, cursor: string): void;
  restore(now: number, wall: number): string;
  /** Has no effects, and looks at no clock. */
  keep_messages(id: number, now: number, wall: number): undefined;
  /** `ttl` below 0: for ever. `author` 0: no patch that may become part of another. */
  publish(messageId: string, envelopeJson: string, kept: boolean, ttl: number, author: number, now: number, wall: number): string;
  withdraw(messageId: string, now: number, wall: number): string;
  retry(messageId: string, now: number, wall: number): string;
  outbox(): string;
  wake(now: number, wall: number): string;
  timer(now: number, wall: number): string;
  cached(filter: string, limit: number): string;
  limit_cache(bytes: number): void;
  free(): void;
}

/** What is said to the core, without the time; each such call has effects. */
type Said<Name extends keyof Core> = Parameters<Core[Name]> extends [...infer Args, number, number] ? Args : never;
export type Step = { [Name in keyof Core]: Said<Name> extends never ? never : Name }[keyof Core];

/** Says something to a core, which knows what time it is. */
export type Call = <Name extends Step>(name: Name, ...args: Said<Name>) => void;

export type CoreClass = new (clientId: string, sdk: string, seedHigh: number, seedLow: number) => Core;

/** How a subscription came to be: from now on, where it left off, after a hole, or in another history. */
export type Outcome = 'live' | 'resumed' | 'gap' | 'reset';

/** A range of records that are gone: strictly between `after` and `before`. Offsets are decimal strings of 64 bits. */
export interface GapRange {
  readonly partition: number;
  readonly after: string;
  readonly before: string;
  readonly reason: string;
}

export type Phase = 'idle' | 'connecting' | 'syncing' | 'live' | 'offline' | 'paused' | 'needs_auth' | 'closed';

/** The connection, as a person would describe it. */
export interface ConnectionState {
  readonly phase: Phase;
  /** Tries since the last healthy connection. */
  readonly attempt: number;
  /** While offline: milliseconds until the next try, as of this change. */
  readonly retryInMs: number | null;
  /** Unix milliseconds when this phase began; while connecting or offline, when the connection was lost. */
  readonly since: number;
  /** The code of the refusal or close that led here. */
  readonly code: number | string | null;
  /** Whether the gateway reaches its log. While it does not, nothing new arrives and publishes wait. */
  readonly upstream: boolean;
}

export type TokenReason = 'first' | 'expiring' | 'rejected';

export interface Envelope {
  readonly metadata: {
    readonly messageId: string;
    readonly timestamp: string;
    readonly topic: string;
    readonly source?: string;
    readonly correlationId?: string;
    readonly messageType?: string;
    readonly version?: string;
    readonly [unknownField: string]: unknown;
  };
  readonly payload: unknown;
}

/** What the core asks of the shell, in order. */
export type Effect =
  | ['open', number]
  | ['send', number, string]
  | ['close', number, number?]
  | ['token', number, TokenReason]
  | ['timer', number | null]
  /** The last is 1 for a whole newest value, plus 2 if a newer one may have been lost; 4 for a merge patch. */
  | ['message', number[], string, Envelope, number?]
  | ['transient', number[], Envelope]
  | ['gap', number[], GapRange]
  | ['live', number[]]
  | ['subscribed', number, Outcome]
  | ['snapshot_begins', number]
  | ['snapshot_ends', number, boolean]
  | ['refused', number | null, number, string]
  | ['revoked', number, number]
  | ['cursor', number, string]
  | ['published', string, string, boolean]
  | ['failed', string, number, string, boolean]
  | ['sent', string]
  | ['merged', messageId: string, into: string, envelope: string]
  | ['wedged', string, number, string]
  /** Of the shell's own: what was asked has been done. */
  | ['did', 'withdraw' | 'retry', string]
  | ['keep', ...Write]
  | ['state', ConnectionState];
