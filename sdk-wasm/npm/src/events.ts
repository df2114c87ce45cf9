import type { Envelope, GapRange, Outcome } from './shell/core.ts';
import type { AnabranchError } from './errors.ts';

/** One message. `payload` is shared by all subscriptions that match: treat it as read-only. */
export interface MessageEvent<Payload = unknown> {
  readonly type: 'message';
  readonly topic: string;
  readonly payload: Payload;
  readonly metadata: Envelope['metadata'];
  /** Where it lies in the log, `partition:offset:fingerprint`. The same for every client. */
  readonly position: string;
}

/** One message that no log keeps: presence, typing. It has no position, and whoever is not there misses it. */
export interface TransientEvent<Payload = unknown> {
  readonly type: 'transient';
  readonly topic: string;
  readonly payload: Payload;
  readonly metadata: Envelope['metadata'];
}

/** Records strictly between `after` and `before` are gone and this client has not seen them. */
export interface GapEvent extends GapRange {
  readonly type: 'gap';
}

/** How the gateway took the subscription: at first, and after each reconnect. After `reset`, forget what you hold. */
export interface SubscribedEvent {
  readonly type: 'subscribed';
  readonly outcome: Outcome;
}

/** Everything up to now has been delivered; what follows comes as it happens. */
export interface LiveEvent {
  readonly type: 'live';
}

/** The app is slower than the stream and the buffer is full. Nothing is lost: it goes on from the cursor once there is room. */
export interface LaggingEvent {
  readonly type: 'lagging';
}

/** The last event: refused, revoked, or the client was closed. */
export interface ClosedEvent {
  readonly type: 'closed';
  readonly error: AnabranchError;
}

export type SubscriptionEvent<Payload = unknown> =
  | MessageEvent<Payload>
  | TransientEvent<Payload>
  | GapEvent
  | SubscribedEvent
  | LiveEvent
  | LaggingEvent
  | ClosedEvent;
