import type { Client } from './client.ts';
import { AnabranchError } from './errors.ts';
import type { SubscriptionEvent } from './events.ts';
import { delta, isObject, type JsonObject } from './shadow/json.ts';
import { deltaBetween, type Pending, type Settled, type ShadowDelta, type ShadowDocument, ShadowState } from './shadow/state.ts';
import { isUp } from './state.ts';
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
  private readonly _state = new ShadowState();
  private readonly _subscriptions: Subscription[];
  private readonly _watchers = new Set<() => void>();
  private readonly _waiting = new Map<string, ((settled: Settled) => void)[]>();
  private readonly _stopWatching: () => void;
  private _view: ShadowView<T> | undefined;
  private _seen = false;
  private _known = false;
  private _live = false;
  private _asOf: number | null = null;
  private _ended: AnabranchError | null = null;
  /** The `messageId` of the question of what the shadow is. */
  private _asked = '';

  /** @internal */
  constructor(
    private readonly _client: Client,
    readonly device: string,
    private readonly _prefix: string,
    private readonly _wall: () => number,
    private readonly _uuid: () => string,
    /** Whose changes become one message: those of this page's, and nobody else's. */
    private readonly _author: number,
    private readonly _released: () => void,
  ) {
    this._subscriptions = [
      _client.on(`${_prefix}document`, (event) => this._onDocument(event)),
      // Open from the beginning: an answer may come before whoever asked is back.
      _client.on(`${_prefix}accepted`, (event) => this._onAnswer(event)),
      _client.on(`${_prefix}rejected`, (event) => this._onAnswer(event)),
    ];
    void this._recall();
    this._stopWatching = _client.state.subscribe((state) => {
      if (this._live && !isUp(state)) {
        this._live = false;
        this._changed();
      }
    });
  }

  /** How it is now. */
  get(): ShadowView<T> {
    if (this._live) this._asOf = this._wall();
    return (this._view ??= this._look());
  }

  /** Calls `watch` after each change. Returns how to stop. */
  subscribe(watch: () => void): () => void {
    const entry = (): void => watch();
    this._watchers.add(entry);
    return () => void this._watchers.delete(entry);
  }

  /** Resolves when it is known what the shadow is, or that there is none; rejects if the gateway does not grant it. */
  async ready(): Promise<ShadowView<T>> {
    while (!this._known && !this._ended) await this._next();
    if (this._ended) throw this._ended;
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
    const messageId = this._uuid();
    this._state.set(messageId, sent);
    const settled = new Promise<Settled>((resolve) => this._waiting.set(messageId, [resolve]));
    this._changed();
    const { queue = false, ...more } = options;
    const topic = `${this._prefix}desired`;
    let carrier = messageId;
    const merged = (into: string): void => this._state.merged(messageId, (carrier = into));
    const how = { messageId, patch: { author: this._author, merged }, ...more };
    const queued = queue ? this._client.publish(topic, sent, { queue, ...how }) : undefined;
    const published = queued ? queued.then((one) => one.confirmed()) : this._client.publish(topic, sent, how);
    const stored: Promise<void> = (queued ?? published).then(() => {});
    stored.catch(() => {});
    published.then(
      () => this._change(() => this._state.sent(carrier) && this._ask()),
      (error: unknown) => {
        // It is on its way all the same.
        if (error instanceof AnabranchError && error.code === 'not_kept') return;
        const { code, message } = error instanceof AnabranchError ? error : { code: 'internal', message: String(error) };
        this._change(() => this._state.rejected(carrier, typeof code === 'number' ? code : 0, message));
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
    let before = this._state.document;
    while (!this._ended && !signal?.aborted) {
      const now = this._state.document;
      const delta = deltaBetween(before, now);
      before = now;
      if (delta) yield delta;
      else await this._next(signal);
    }
  }

  /** Ends the watching, if nobody else has asked for this device's shadow. Changes that were made are sent all the same. */
  close(): void {
    this._released();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** @internal */
  end(): void {
    for (const subscription of this._subscriptions) subscription.close();
    this._stopWatching();
    this._ended ??= new AnabranchError('closed', 'The shadow was closed.', false, 'Ask the client for it again.');
    this._live = false;
    for (const waiting of this._waiting.values()) for (const resolve of waiting) resolve({ outcome: 'pending' });
    this._waiting.clear();
    this._changed();
  }

  /** Changes that wait in the outbox, those of an earlier page included, show again. */
  private async _recall(): Promise<void> {
    const topic = `${this._prefix}desired`;
    const waiting = (await this._client.outbox()).filter((one) => one.topic === topic && !this._waiting.has(one.messageId));
    if (waiting.length === 0 || this._ended) return;
    this._change(() => {
      for (const { messageId, payload, wedged } of waiting) {
        if (!isObject(payload)) continue;
        this._state.set(messageId, payload);
        if (wedged) this._state.rejected(messageId, wedged.code, wedged.message);
      }
    });
  }

  private _look(): ShadowView<T> {
    const { document, desired, pending } = this._state;
    const reported = document?.reported ?? {};
    return Object.freeze({
      reported: reported as Part<T>,
      desired: desired as Part<T>,
      delta: delta(desired, reported) as Part<T> | null,
      pending,
      document,
      version: document?.version ?? 0,
      known: this._known,
      live: this._live,
      asOf: this._asOf,
      closed: this._ended,
    });
  }

  private _onDocument(event: SubscriptionEvent): void {
    this._change(() => {
      if (event.type === 'cached') this._known = this._state.take(event.payload) || this._known;
      else if (event.type === 'message') {
        this._state.take(event.payload);
        this._known = this._seen = true;
      } else if (event.type === 'snapshot_begins' || (event.type === 'subscribed' && event.outcome === 'reset')) {
        this._state.begin();
        this._seen = false;
      } else if (event.type === 'snapshot_ends') {
        if (event.complete) {
          if (!this._seen) this._state.take(null);
          this._known = true;
        } else if (!this._seen) this._ask();
      } else if (event.type === 'live') this._live = true;
      else if (event.type === 'closed') this._fail(event.error);
    });
  }

  private _onAnswer(event: SubscriptionEvent): void {
    if (event.type === 'closed') return this._change(() => this._fail(event.error));
    if (event.type === 'gap' || (event.type === 'subscribed' && event.outcome !== 'live' && event.outcome !== 'resumed'))
      return this._change(() => this._state.unsure() && this._ask());
    if (event.type !== 'message' || !isObject(event.payload)) return;
    const { incarnation, version, code, message } = event.payload;
    const id = String(event.metadata.correlationId ?? '');
    this._change(() => {
      if (id !== '' && id === this._asked) {
        this._asked = '';
        if (!this._known) this._known = this._state.take(version === 0 ? null : event.payload) || version === 0;
        this._state.decided(Number(incarnation), Number(version));
      } else if (typeof code === 'number') this._state.rejected(id, code, String(message));
      else this._state.accepted(id, Number(incarnation), Number(version));
    });
  }

  /** Asks the gateway what the shadow is, where the document or answers may be lost. It answers behind all that was sent before. Who may not ask goes on in doubt. */
  private _ask(): void {
    this._asked = this._uuid();
    this._client.publish(`${this._prefix}get`, null, { messageId: this._asked }).catch(() => {});
  }

  private _fail(error: AnabranchError): void {
    this._ended ??= error;
    this._live = false;
  }

  private _change(change: () => void): void {
    change();
    for (const [id, settled] of this._state.settle()) {
      for (const resolve of this._waiting.get(id) ?? []) resolve(settled);
      this._waiting.delete(id);
    }
    if (this._live) this._asOf = this._wall();
    this._changed();
  }

  private _changed(): void {
    this._view = undefined;
    for (const watch of [...this._watchers]) watch();
  }

  /** Resolves at the next change, or with the signal. */
  private _next(signal?: AbortSignal): Promise<void> {
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
