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
  /**
   * Whether the payload is the whole newest value of its topic: one of a snapshot, or sent in the place of messages that it
   * has replaced and that did not come. `null` means that the topic has no value any more.
   */
  readonly snapshot: boolean;
  /** Of such a value: whether a newer one may have been lost. */
  readonly stale: boolean;
  /** Whether the payload is a merge patch (RFC 7396) of the topic's value before. */
  readonly patch: boolean;
}

/** `flags` as in the core's `message` effect. */
export function messageEvent(position: string, { metadata, payload }: Envelope, flags = 0): MessageEvent {
  const about = { snapshot: (flags & 1) > 0, stale: (flags & 2) > 0, patch: (flags & 4) > 0 };
  return { type: 'message', topic: metadata.topic, payload, metadata, position, ...about };
}

/** A message that this client has kept, of an earlier page perhaps: for a first paint. What the gateway has comes behind it. */
export interface CachedEvent<Payload = unknown> extends Omit<MessageEvent<Payload>, 'type'> {
  readonly type: 'cached';
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

/**
 * Every value that the filter's state topics have comes from here on, among other messages, until `snapshot_ends`. Topics that
 * do not come until then have no value: forget them at the end. After a reconnect it goes on where it stood; if that cannot
 * be, it begins again with this event.
 */
export interface SnapshotBeginsEvent {
  readonly type: 'snapshot_begins';
}

/** The snapshot is whole. Not `complete`: the gateway does not know every value, and what did not come may have one. */
export interface SnapshotEndsEvent {
  readonly type: 'snapshot_ends';
  readonly complete: boolean;
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
  | CachedEvent<Payload>
  | TransientEvent<Payload>
  | GapEvent
  | SubscribedEvent
  | SnapshotBeginsEvent
  | SnapshotEndsEvent
  | LiveEvent
  | LaggingEvent
  | ClosedEvent;
