import type { Published } from './options.ts';
import type { Envelope } from './shell/core.ts';

/** A publish in the outbox: it outlives the page, where there is a store. Forgetting it changes nothing. */
export interface Queued {
  /** Under which the log keeps one copy, and `client.outbox()` shows it. */
  readonly messageId: string;
  /**
   * Resolves when the log has it. Rejects with what the gateway refused (it stays, wedged, until it is retried or withdrawn), or when its time to live
   * has ended, or it was withdrawn.
   */
  confirmed(): Promise<Published>;
  /** Takes it back; `false`: it may have been sent already. */
  withdraw(): Promise<boolean>;
}

/** A publish that waits for its confirm. */
export interface Outboxed {
  readonly messageId: string;
  readonly topic: string;
  readonly payload: unknown;
  readonly metadata: Envelope['metadata'];
  /** Whether it outlives the page. */
  readonly kept: boolean;
  /** Whether the gateway may have seen it. */
  readonly sent: boolean;
  /** Why the gateway refused it for good: it waits for `retry` or `withdraw`, and what stands behind it on its topic waits too. */
  readonly wedged: { readonly code: number; readonly message: string } | null;
}

/** The core's `outbox`; nothing where the client ended before it answered. */
export function outboxed(text: string): Outboxed[] {
  type Row = [string, Envelope, boolean, boolean, number?, string?];
  return (JSON.parse(text || '[]') as Row[]).map(([messageId, { metadata, payload }, kept, sent, code, message = '']) => ({
    messageId,
    topic: metadata.topic,
    payload,
    metadata,
    kept,
    sent,
    wedged: code === undefined ? null : { code, message },
  }));
}
