import type { Client, MessageEvent, Subscription } from '@anabranch/client';
import { number, record, shadowOf } from './topics.ts';
import type { SettingsPatch } from './fields.ts';

/** The shadow that a writer looked at. Version 0: there was none. */
export interface Base {
  readonly version: number;
  readonly incarnation: number;
}

/** What the gateway answered. */
export type Answer =
  | { readonly outcome: 'accepted'; readonly version: number }
  | { readonly outcome: 'rejected'; readonly code: number; readonly message: string; readonly version: number };

/** The code of an update that expected another version. */
export const CONFLICT = 4410;

/** Writes what is desired only if the shadow is still the one that was looked at; else the gateway refuses, and says which one it is now. */
export class Careful {
  private readonly subscriptions: Subscription[];
  private readonly waiting = new Map<string, (answer: Answer) => void>();

  constructor(
    private readonly client: Client,
    private readonly device: string,
  ) {
    const listen = (leaf: 'accepted' | 'rejected'): Subscription =>
      client.on(shadowOf(device, leaf), (event) => event.type === 'message' && this.take(leaf, event), { from: 'now' });
    this.subscriptions = [listen('accepted'), listen('rejected')];
  }

  /** Resolves with the gateway's answer; `stored` is called when the log has the update. */
  async write(desired: SettingsPatch, base: Base, stored: () => void): Promise<Answer> {
    const messageId = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
    const answer = new Promise<Answer>((resolve) => this.waiting.set(messageId, resolve));
    const expected = base.version === 0 ? { version: 0 } : { version: base.version, incarnation: base.incarnation };
    try {
      await this.client.publish(shadowOf(this.device, 'update'), { state: { desired }, ...expected }, { messageId });
      stored();
      return await answer;
    } finally {
      this.waiting.delete(messageId);
    }
  }

  close(): void {
    for (const subscription of this.subscriptions) subscription.close();
  }

  private take(outcome: 'accepted' | 'rejected', { metadata, payload }: MessageEvent): void {
    const { version, code, message } = record(payload);
    const at = number(version) ?? 0;
    const answer: Answer = outcome === 'accepted' ? { outcome, version: at } : { outcome, code: number(code) ?? 0, message: String(message), version: at };
    this.waiting.get(String(metadata.correlationId ?? ''))?.(answer);
  }
}
