import type { Client } from './client.ts';
import { AnabranchError } from './errors.ts';
import type { SubscriptionEvent } from './events.ts';
import { delta, isObject, type JsonObject } from './shadow/json.ts';
import { deltaBetween, type Pending, type Settled, type ShadowDelta, type ShadowDocument, ShadowState } from './shadow/state.ts';
import type { Subscription } from './subscription.ts';

/** A part of a state: any of its fields, at any depth; `null` removes one. */
export type Patch<T> = { readonly [K in keyof T]?: (T[K] extends readonly unknown[] ? T[K] : T[K] extends object ? Patch<T[K]> : T[K]) | null };

type Part<T> = { readonly [K in keyof T]?: T[K] extends readonly unknown[] ? T[K] : T[K] extends object ? Part<T[K]> : T[K] };

/** A shadow as it is known. The same object until something changes. */
export interface ShadowView<T = JsonObject> {
  /** What the device says of itself. */
  readonly reported: Part<T>;
  /** What is desired, this client's changes on their way included. */
  readonly desired: Part<T>;
  /** The desired fields that differ from the reported ones; null if none do. */
  readonly delta: Part<T> | null;
  /** This client's changes by field, as JSON pointers: `{ '/fan/rpm': { stage: 'sent' } }`. */
  readonly pending: Readonly<Record<string, Pending>>;
  /** The truth as the gateway keeps it; null if there is no shadow, or nothing is known. */
  readonly document: ShadowDocument | null;
  /** 0 if there is no shadow. */
  readonly version: number;
  /** Whether it is known what the shadow is, or that there is none. */
  readonly known: boolean;
  /** Whether this is the newest there is. */
  readonly live: boolean;
  /** Unix milliseconds at which this was the newest there was; null if it never was. */
  readonly asOf: number | null;
  /** Why nothing comes any more. */
  readonly closed: AnabranchError | null;
}

/** A change on its way. */
export interface ShadowChange {
  /** The id of the message that carries it, by which the outbox knows it: that of an earlier change, once both have become one message. */
  readonly messageId: string;
  /** Resolves when the client's store has it, if it is queued; else when the log has it. */
  stored(): Promise<void>;
  /** How it has ended; after `timeoutMs`, or when the shadow is closed, `{ outcome: 'pending' }`. Without a time it waits for ever. */
  settled(options?: { readonly timeoutMs?: number }): Promise<Settled>;
}

/** A device's shadow, live. Made by `client.shadow`. */
export class Shadow<T = JsonObject> implements Disposable {
  private readonly state = new ShadowState();
  private readonly subscriptions: Subscription[];
  private readonly watchers = new Set<() => void>();
  private readonly waiting = new Map<string, ((settled: Settled) => void)[]>();
  private readonly stopWatching: () => void;
  private view: ShadowView<T> | undefined;
  private seen = false;
  private known = false;
  private live = false;
  private asOf: number | null = null;
  private ended: AnabranchError | null = null;
  /** The `messageId` of the question of what the shadow is. */
  private asked = '';

  /** @internal */
  constructor(
    private readonly client: Client,
    readonly device: string,
    private readonly prefix: string,
    private readonly wall: () => number,
    private readonly uuid: () => string,
    /** Whose changes become one message: those of this page's, and nobody else's. */
    private readonly author: number,
    private readonly released: () => void,
  ) {
    this.subscriptions = [
      client.on(`${prefix}document`, (event) => this.onDocument(event)),
      // Open from the beginning: an answer may come before whoever asked is back.
      client.on(`${prefix}accepted`, (event) => this.onAnswer(event)),
      client.on(`${prefix}rejected`, (event) => this.onAnswer(event)),
    ];
    void this.recall();
    this.stopWatching = client.state.subscribe(({ phase }) => {
      if (this.live && phase !== 'live' && phase !== 'syncing') {
        this.live = false;
        this.changed();
      }
    });
  }

  /** How it is now. */
  get(): ShadowView<T> {
    if (this.live) this.asOf = this.wall();
    return (this.view ??= this.look());
  }

  /** Calls `watch` after each change. Returns how to stop. */
  subscribe(watch: () => void): () => void {
    const entry = (): void => watch();
    this.watchers.add(entry);
    return () => void this.watchers.delete(entry);
  }

  /** Resolves when it is known what the shadow is, or that there is none; rejects if the gateway does not grant it. */
  async ready(): Promise<ShadowView<T>> {
    while (!this.known && !this.ended) await this.next();
    if (this.ended) throw this.ended;
    return this.get();
  }

  /**
   * Changes what is desired by a merge patch. It shows at once, and is sent when there is a connection, under one message id however often that is lost. With `queue` it
   * outlives the page, where there is a store, and shows again in the next one; else a reload before the log has it loses it.
   */
  setDesired(patch: Patch<T>, options: { readonly queue?: boolean; readonly timeToLiveMs?: number } = {}): ShadowChange {
    if (!isObject(patch)) throw new AnabranchError('bad_patch', 'A patch of a shadow is an object.', false, 'Give the fields that are to change.');
    // What is sent, and no other: a value that JSON has not is refused here, and what the app does to its object later changes nothing.
    const sent = JSON.parse(JSON.stringify(patch)) as JsonObject;
    const messageId = this.uuid();
    this.state.set(messageId, sent);
    const settled = new Promise<Settled>((resolve) => this.waiting.set(messageId, [resolve]));
    this.changed();
    const { queue = false, ...more } = options;
    const topic = `${this.prefix}desired`;
    let carrier = messageId;
    const merged = (into: string): void => this.state.merged(messageId, (carrier = into));
    const how = { messageId, patch: { author: this.author, merged }, ...more };
    const queued = queue ? this.client.publish(topic, sent, { queue, ...how }) : undefined;
    const published = queued ? queued.then((one) => one.confirmed()) : this.client.publish(topic, sent, how);
    const stored: Promise<void> = (queued ?? published).then(() => {});
    stored.catch(() => {});
    published.then(
      () => this.change(() => this.state.sent(carrier) && this.ask()),
      (error: unknown) => {
        // It is on its way all the same.
        if (error instanceof AnabranchError && error.code === 'not_kept') return;
        const { code, message } = error instanceof AnabranchError ? error : { code: 'internal', message: String(error) };
        this.change(() => this.state.rejected(carrier, typeof code === 'number' ? code : 0, message));
      },
    );
    return {
      get messageId() {
        return carrier;
      },
      stored: () => stored,
      settled: ({ timeoutMs } = {}) => {
        if (timeoutMs === undefined) return settled;
        let timer: ReturnType<typeof setTimeout> | undefined;
        const late = new Promise<Settled>((resolve) => (timer = setTimeout(() => resolve({ outcome: 'pending' }), timeoutMs)));
        return Promise.race([settled, late]).finally(() => clearTimeout(timer));
      },
    };
  }

  /** What changes in the truth from now on, each upon the one before. Ends with the signal, or when the shadow is closed. */
  async *deltas({ signal }: { readonly signal?: AbortSignal } = {}): AsyncGenerator<ShadowDelta, void> {
    let before = this.state.document;
    while (!this.ended && !signal?.aborted) {
      const now = this.state.document;
      const delta = deltaBetween(before, now);
      before = now;
      if (delta) yield delta;
      else await this.next(signal);
    }
  }

  /** Ends the watching, if nobody else has asked for this device's shadow. Changes that were made are sent all the same. */
  close(): void {
    this.released();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** @internal */
  end(): void {
    for (const subscription of this.subscriptions) subscription.close();
    this.stopWatching();
    this.ended ??= new AnabranchError('closed', 'The shadow was closed.', false, 'Ask the client for it again.');
    this.live = false;
    for (const waiting of this.waiting.values()) for (const resolve of waiting) resolve({ outcome: 'pending' });
    this.waiting.clear();
    this.changed();
  }

  /** Changes that wait in the outbox, those of an earlier page included, show again. */
  private async recall(): Promise<void> {
    const topic = `${this.prefix}desired`;
    const waiting = (await this.client.outbox()).filter((one) => one.topic === topic && !this.waiting.has(one.messageId));
    if (waiting.length === 0 || this.ended) return;
    this.change(() => {
      for (const { messageId, payload, wedged } of waiting) {
        if (!isObject(payload)) continue;
        this.state.set(messageId, payload);
        if (wedged) this.state.rejected(messageId, wedged.code, wedged.message);
      }
    });
  }

  private look(): ShadowView<T> {
    const { document, desired, pending } = this.state;
    const reported = document?.reported ?? {};
    return Object.freeze({
      reported: reported as Part<T>,
      desired: desired as Part<T>,
      delta: delta(desired, reported) as Part<T> | null,
      pending,
      document,
      version: document?.version ?? 0,
      known: this.known,
      live: this.live,
      asOf: this.asOf,
      closed: this.ended,
    });
  }

  private onDocument(event: SubscriptionEvent): void {
    this.change(() => {
      if (event.type === 'cached') this.known = this.state.take(event.payload) || this.known;
      else if (event.type === 'message') {
        this.state.take(event.payload);
        this.known = this.seen = true;
      } else if (event.type === 'snapshot_begins' || (event.type === 'subscribed' && event.outcome === 'reset')) {
        this.state.begin();
        this.seen = false;
      } else if (event.type === 'snapshot_ends') {
        if (event.complete) {
          if (!this.seen) this.state.take(null);
          this.known = true;
        } else if (!this.seen) this.ask();
      } else if (event.type === 'live') this.live = true;
      else if (event.type === 'closed') this.fail(event.error);
    });
  }

  private onAnswer(event: SubscriptionEvent): void {
    if (event.type === 'closed') return this.change(() => this.fail(event.error));
    if (event.type === 'gap' || (event.type === 'subscribed' && event.outcome !== 'live' && event.outcome !== 'resumed'))
      return this.change(() => this.state.unsure() && this.ask());
    if (event.type !== 'message' || !isObject(event.payload)) return;
    const { incarnation, version, code, message } = event.payload;
    const id = String(event.metadata.correlationId ?? '');
    this.change(() => {
      if (id !== '' && id === this.asked) {
        this.asked = '';
        if (!this.known) this.known = this.state.take(version === 0 ? null : event.payload) || version === 0;
        this.state.decided(Number(incarnation), Number(version));
      } else if (typeof code === 'number') this.state.rejected(id, code, String(message));
      else this.state.accepted(id, Number(incarnation), Number(version));
    });
  }

  /** Asks the gateway what the shadow is, where the document or answers may be lost. It answers behind all that was sent before. Who may not ask goes on in doubt. */
  private ask(): void {
    this.asked = this.uuid();
    this.client.publish(`${this.prefix}get`, null, { messageId: this.asked }).catch(() => {});
  }

  private fail(error: AnabranchError): void {
    this.ended ??= error;
    this.live = false;
  }

  private change(change: () => void): void {
    change();
    for (const [id, settled] of this.state.settle()) {
      for (const resolve of this.waiting.get(id) ?? []) resolve(settled);
      this.waiting.delete(id);
    }
    if (this.live) this.asOf = this.wall();
    this.changed();
  }

  private changed(): void {
    this.view = undefined;
    for (const watch of [...this.watchers]) watch();
  }

  /** Resolves at the next change, or with the signal. */
  private next(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        stop();
        signal?.removeEventListener('abort', done);
        resolve();
      };
      const stop = this.subscribe(done);
      signal?.addEventListener('abort', done);
    });
  }
}
