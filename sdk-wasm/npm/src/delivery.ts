import { Cursor } from './cursor.ts';
import type { AnabranchError } from './errors.ts';
import type { MessageEvent, SubscriptionEvent } from './events.ts';
import type { Snapshot, Start } from './options.ts';
import type { Subscription } from './subscription.ts';

/** What a subscription needs of its client. */
export interface Host {
  /** The app has taken what the cursor covers: it may be stored. */
  taken(delivery: Delivery): void;
  /** The buffer is full: stop the stream on the wire. */
  hold(delivery: Delivery): void;
  /** There is room again: go on. */
  release(delivery: Delivery): void;
  /** It wants its state topics more or less often. */
  paced(delivery: Delivery): void;
  ended(delivery: Delivery): void;
  /** Unix milliseconds of the last frame from the gateway. */
  heardAt(): number | null;
  /** A handler of the app threw. */
  threw(error: unknown, what: string): void;
}

/** One thing in the order of the stream: an event, a step of the cursor, or both. */
interface Item {
  readonly event?: SubscriptionEvent | undefined;
  readonly position?: string;
  readonly cursor?: string;
  readonly bytes: number;
}

const DEFAULT_BUFFER_BYTES = 4 * 1024 * 1024;

/** What stands behind a `Subscription`: the buffer, the cursor of what the app has taken, and freshness. */
export class Delivery implements Subscription {
  private readonly _queue: Item[] = [];
  private _queuedBytes = 0;
  private _inHand: Item | undefined;
  private _waiting: ((result: IteratorResult<SubscriptionEvent>) => void)[] = [];
  private _taken: Cursor | undefined;
  /** Whether `begin` was called. */
  begun = false;
  /** Whether it goes on from where an earlier page was. */
  resumes = false;
  private _isHeld = false;
  private _done = false;
  private _live = false;
  private _freshUntil: number | null = null;
  private readonly _abort = () => this.close();

  constructor(
    readonly filter: string,
    readonly start: Start | undefined,
    private _wished: Snapshot | undefined,
    private readonly _host: Host,
    private readonly _callback?: (event: SubscriptionEvent) => void,
    private readonly _signal?: AbortSignal,
    private readonly _bufferBytes = DEFAULT_BUFFER_BYTES,
    private _maxHz?: number,
    /** The name under which the app's place is kept. */
    readonly name?: string,
  ) {
    if (start !== undefined && typeof start === 'object' && 'cursor' in start) this._taken = Cursor.parse(start.cursor);
    _signal?.addEventListener('abort', this._abort);
  }

  get cursor(): string | undefined {
    return this._taken?.toString();
  }

  /** What it is to begin with, unless told: all where the page has forgotten what it showed. */
  get snapshot(): Snapshot {
    const past = this.start === 'earliest' || (typeof this.start === 'object' && 'sinceMs' in this.start);
    return this._wished ?? (past ? 'none' : this.resumes ? 'always' : 'if_new');
  }

  /** Where it stands before it is opened for the first time, of an earlier page; and what that has left, for a first paint. */
  begin(cursor: string, cached: MessageEvent[]): void {
    this.begun = true;
    if (cursor !== '') {
      this._taken = Cursor.parse(cursor);
      this.resumes = true;
    }
    for (const event of cached) {
      // What lies behind the cursor comes again.
      if (this._taken?.covers(event.position) ?? true) this.push({ event: { ...event, type: 'cached' }, bytes: 0 });
    }
  }

  get freshAsOf(): number | null {
    return this._live ? this._host.heardAt() : this._freshUntil;
  }

  get stale(): boolean {
    return !this._live;
  }

  /** Whether its buffer is full, and the stream stopped. */
  get held(): boolean {
    return this._isHeld;
  }

  /** Milliseconds between two values of its state topics, at least; 0 for no bound. */
  get conflateMs(): number {
    const hz = this._maxHz ?? 0;
    return hz > 0 ? Math.min(Math.ceil(1000 / hz), 60_000) : 0;
  }

  setMaxHz(hz: number | undefined): void {
    this._maxHz = hz;
    if (!this._done) this._host.paced(this);
  }

  get closed(): boolean {
    return this._done;
  }

  close(): void {
    if (this._done) return;
    this._queue.length = 0;
    this._finish();
    this._host.ended(this);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<SubscriptionEvent>> {
    if (this._callback) return Promise.reject(new TypeError('this subscription delivers to a callback'));
    if (this._inHand) this._take(this._inHand);
    this._inHand = this._dequeue();
    if (this._inHand?.event) return Promise.resolve({ value: this._inHand.event, done: false });
    if (this._done) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => this._waiting.push(resolve));
  }

  /** Called by `for await` when the loop is left. */
  return(): Promise<IteratorResult<SubscriptionEvent>> {
    if (this._inHand) this._take(this._inHand);
    this._inHand = undefined;
    this.close();
    return Promise.resolve({ value: undefined, done: true });
  }

  /** The next thing in the order of the stream. */
  push(item: Item): void {
    if (this._done) return;
    if (item.event?.type === 'subscribed') this.lost();
    if (item.event?.type === 'live') this._live = true;
    if (this._callback) {
      if (item.event) this._hand(item.event);
      this._take(item);
      return;
    }
    if (!item.event && this._queue.length === 0 && !this._inHand) return this._take(item);
    if (item.event && this._queue.length === 0) {
      const resolve = this._waiting.shift();
      if (resolve) {
        this._inHand = item;
        return resolve({ value: item.event, done: false });
      }
    }
    this._queue.push(item);
    this._queuedBytes += item.bytes;
    if (this._queuedBytes > this._bufferBytes && !this._isHeld) {
      this._isHeld = true;
      this.lost();
      this._queue.push({ event: { type: 'lagging' }, bytes: 0 });
      this._host.hold(this);
    }
  }

  /** Something that comes once and is not kept: an app that does not keep up misses it. */
  pass(event: SubscriptionEvent, bytes: number): void {
    if (!this._isHeld) this.push({ event, bytes });
  }

  /** The stream is not live any more. */
  lost(): void {
    if (this._live) this._freshUntil = this._host.heardAt();
    this._live = false;
  }

  /** Its last event, from the client's side. */
  end(error: AnabranchError): void {
    if (this._done) return;
    this.push({ event: { type: 'closed', error }, bytes: 0 });
    this._finish();
  }

  /** The cursor after everything that arrived, taken or not. */
  get received(): string | undefined {
    let cursor = this._taken && Cursor.parse(this._taken.toString());
    for (const item of this._inHand ? [this._inHand, ...this._queue] : this._queue) cursor = step(cursor, item);
    return cursor?.toString();
  }

  private _finish(): void {
    this.lost();
    this._done = true;
    this._signal?.removeEventListener('abort', this._abort);
    for (const resolve of this._waiting.splice(0)) resolve({ value: undefined, done: true });
  }

  private _hand(event: SubscriptionEvent): void {
    try {
      this._callback?.(event);
    } catch (error) {
      this._host.threw(error, `the handler of ${this.filter}`);
    }
  }

  /** Takes from the queue up to and including the next event. */
  private _dequeue(): Item | undefined {
    for (let item = this._queue.shift(); item; item = this._queue.shift()) {
      this._queuedBytes -= item.bytes;
      if (this._isHeld && !this._done && this._queuedBytes <= this._bufferBytes / 2) {
        this._isHeld = false;
        this._inHand = item;
        this._host.release(this);
      }
      if (item.event) return item;
      this._take(item);
    }
    return undefined;
  }

  private _take(item: Item): void {
    const next = step(this._taken, item);
    if (next === undefined || (item.position === undefined && item.cursor === undefined)) return;
    this._taken = next;
    this._host.taken(this);
  }
}

function step(cursor: Cursor | undefined, item: Item): Cursor | undefined {
  if (item.cursor !== undefined) return Cursor.parse(item.cursor);
  if (item.position !== undefined) cursor?.advance(item.position);
  return cursor;
}
