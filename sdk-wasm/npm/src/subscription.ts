import type { SubscriptionEvent } from './events.ts';

/**
 * A filter's stream. Either a callback takes each event as it comes, or `for await` takes them in its own time; a callback's
 * cursor moves when it returns, the loop's when it asks for the next event. So an event whose handling was cut short by a
 * reload comes again, and no other does.
 */
export interface Subscription<Payload = unknown> extends AsyncIterableIterator<SubscriptionEvent<Payload>>, Disposable {
  readonly filter: string;
  /** Everything up to here has been taken by the app. Start another subscription `from: { cursor }` to go on from it. */
  readonly cursor: string | undefined;
  /** Unix milliseconds up to which this stream is known to be whole; null before it was live for the first time. */
  readonly freshAsOf: number | null;
  /** Whether newer messages may exist that have not come: not live yet, or not connected any more. Grey the widget. */
  readonly stale: boolean;
  readonly closed: boolean;
  /** State topics come at most so many times a second from now on; without a number, each value as it comes. */
  setMaxHz(hz: number | undefined): void;
  /** Ends the subscription and forgets its cursor. Events that wait in the buffer are dropped. */
  close(): void;
  /** The next event. Asking for it says that the one before has been dealt with. */
  next(): Promise<IteratorResult<SubscriptionEvent<Payload>>>;
}
