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
  readonly event?: SubscriptionEvent;
  readonly position?: string;
  readonly cursor?: string;
  readonly bytes: number;
}

const DEFAULT_BUFFER_BYTES = 4 * 1024 * 1024;

/** What stands behind a `Subscription`: the buffer, the cursor of what the app has taken, and freshness. */
export class Delivery implements Subscription {
  private readonly queue: Item[] = [];
  private queuedBytes = 0;
  private inHand: Item | undefined;
  private waiting: ((result: IteratorResult<SubscriptionEvent>) => void)[] = [];
  private taken: Cursor | undefined;
  /** Whether `begin` was called. */
  begun = false;
  /** Whether it goes on from where an earlier page was. */
  resumes = false;
  private isHeld = false;
  private done = false;
  private live = false;
  private freshUntil: number | null = null;
  private readonly abort = () => this.close();

  constructor(
    readonly filter: string,
    readonly start: Start | undefined,
    private wished: Snapshot | undefined,
    private readonly host: Host,
    private readonly callback?: (event: SubscriptionEvent) => void,
    private readonly signal?: AbortSignal,
    private readonly bufferBytes = DEFAULT_BUFFER_BYTES,
    private maxHz?: number,
    /** The name under which the app's place is kept. */
    readonly name?: string,
  ) {
    if (start !== undefined && typeof start === 'object' && 'cursor' in start) this.taken = Cursor.parse(start.cursor);
    signal?.addEventListener('abort', this.abort, { once: true });
  }

  get cursor(): string | undefined {
    return this.taken?.toString();
  }

  /** What it is to begin with, unless told: all where the page has forgotten what it showed. */
  get snapshot(): Snapshot {
    const past = this.start === 'earliest' || (typeof this.start === 'object' && 'sinceMs' in this.start);
    return this.wished ?? (past ? 'none' : this.resumes ? 'always' : 'if_new');
  }

  /** Where it stands before it is opened for the first time, of an earlier page; and what that has left, for a first paint. */
  begin(cursor: string, cached: MessageEvent[]): void {
    this.begun = true;
    if (cursor !== '') {
      this.taken = Cursor.parse(cursor);
      this.resumes = true;
    }
    for (const event of cached) {
      // What lies behind the cursor comes again.
      if (this.taken?.covers(event.position) ?? true) this.push({ event: { ...event, type: 'cached' }, bytes: 0 });
    }
  }

  get freshAsOf(): number | null {
    return this.live ? this.host.heardAt() : this.freshUntil;
  }

  get stale(): boolean {
    return !this.live;
  }

  /** Whether its buffer is full, and the stream stopped. */
  get held(): boolean {
    return this.isHeld;
  }

  /** Milliseconds between two values of its state topics, at least; 0 for no bound. */
  get conflateMs(): number {
    const ms = 1000 / (this.maxHz ?? 0);
    return ms > 0 && Number.isFinite(ms) ? Math.min(Math.ceil(ms), 60_000) : 0;
  }

  setMaxHz(hz: number | undefined): void {
    this.maxHz = hz;
    if (!this.done) this.host.paced(this);
  }

  get closed(): boolean {
    return this.done;
  }

  close(): void {
    if (this.done) return;
    this.queue.length = 0;
    this.finish();
    this.host.ended(this);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<SubscriptionEvent>> {
    if (this.callback) return Promise.reject(new TypeError('this subscription delivers to a callback'));
    if (this.inHand) this.take(this.inHand);
    this.inHand = this.dequeue();
    if (this.inHand?.event) return Promise.resolve({ value: this.inHand.event, done: false });
    if (this.done) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  /** Called by `for await` when the loop is left. */
  return(): Promise<IteratorResult<SubscriptionEvent>> {
    if (this.inHand) this.take(this.inHand);
    this.inHand = undefined;
    this.close();
    return Promise.resolve({ value: undefined, done: true });
  }

  /** The next thing in the order of the stream. */
  push(item: Item): void {
    if (this.done) return;
    if (item.event?.type === 'subscribed') this.lost();
    if (item.event?.type === 'live') this.live = true;
    if (this.callback) {
      if (item.event) this.hand(item.event);
      this.take(item);
      return;
    }
    if (!item.event && this.queue.length === 0 && !this.inHand) return this.take(item);
    if (item.event && this.queue.length === 0) {
      const resolve = this.waiting.shift();
      if (resolve) {
        this.inHand = item;
        return resolve({ value: item.event, done: false });
      }
    }
    this.queue.push(item);
    this.queuedBytes += item.bytes;
    if (this.queuedBytes > this.bufferBytes && !this.isHeld) {
      this.isHeld = true;
      this.lost();
      this.queue.push({ event: { type: 'lagging' }, bytes: 0 });
      this.host.hold(this);
    }
  }

  /** Something that comes once and is not kept: an app that does not keep up misses it. */
  pass(event: SubscriptionEvent, bytes: number): void {
    if (!this.isHeld) this.push({ event, bytes });
  }

  /** The stream is not live any more. */
  lost(): void {
    if (this.live) this.freshUntil = this.host.heardAt();
    this.live = false;
  }

  /** Its last event, from the client's side. */
  end(error: AnabranchError): void {
    if (this.done) return;
    this.push({ event: { type: 'closed', error }, bytes: 0 });
    this.finish();
  }

  /** The cursor after everything that arrived, taken or not. */
  get received(): string | undefined {
    let cursor = this.taken && Cursor.parse(this.taken.toString());
    for (const item of this.inHand ? [this.inHand, ...this.queue] : this.queue) cursor = step(cursor, item);
    return cursor?.toString();
  }

  private finish(): void {
    this.lost();
    this.done = true;
    this.signal?.removeEventListener('abort', this.abort);
    for (const resolve of this.waiting.splice(0)) resolve({ value: undefined, done: true });
  }

  private hand(event: SubscriptionEvent): void {
    try {
      this.callback?.(event);
    } catch (error) {
      this.host.threw(error, `the handler of ${this.filter}`);
    }
  }

  /** Takes from the queue up to and including the next event. */
  private dequeue(): Item | undefined {
    for (let item = this.queue.shift(); item; item = this.queue.shift()) {
      this.queuedBytes -= item.bytes;
      if (this.isHeld && !this.done && this.queuedBytes <= this.bufferBytes / 2) {
        this.isHeld = false;
        this.inHand = item;
        this.host.release(this);
      }
      if (item.event) return item;
      this.take(item);
    }
    return undefined;
  }

  private take(item: Item): void {
    const next = step(this.taken, item);
    if (next === undefined || (item.position === undefined && item.cursor === undefined)) return;
    this.taken = next;
    this.host.taken(this);
  }
}

function step(cursor: Cursor | undefined, item: Item): Cursor | undefined {
  if (item.cursor !== undefined) return Cursor.parse(item.cursor);
  if (item.position !== undefined) cursor?.advance(item.position);
  return cursor;
}
