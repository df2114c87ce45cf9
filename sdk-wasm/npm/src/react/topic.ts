import type { Client } from '../client.ts';
import type { AnabranchError } from '../errors.ts';
import type { CachedEvent, GapEvent, MessageEvent } from '../events.ts';
import type { SubscribeOptions } from '../options.ts';
import type { Source } from './registry.ts';

/** What a component sees of a filter. The same object until something changes. */
export interface TopicView<Payload = unknown> {
  /** The newest messages, oldest first; cached ones too. */
  readonly items: readonly (MessageEvent<Payload> | CachedEvent<Payload>)[];
  /** The newest value of each topic that has one. */
  readonly latest: ReadonlyMap<string, Payload>;
  /** `idle`: on a server, or not mounted yet; `waiting`: nothing is known; `cached`: of an earlier page; `stale`: was live, and newer may exist. */
  readonly status: 'idle' | 'waiting' | 'cached' | 'live' | 'stale' | 'closed';
  /** The newest gap: some messages before the next one are gone. */
  readonly gap: GapEvent | null;
  /** Why it is closed. */
  readonly error: AnabranchError | null;
}

export interface TopicOptions extends Omit<SubscribeOptions, 'signal' | 'bufferBytes'> {
  /** Most messages in `items`; 100 unless told. */
  readonly keep?: number;
}

export const IDLE_TOPIC: TopicView<never> = Object.freeze({ items: [], latest: new Map<string, never>(), status: 'idle', gap: null, error: null });

export function openTopic(client: Client, changed: () => void, filter: string, { keep = 100, ...options }: TopicOptions): Source<TopicView> {
  let items: TopicView['items'] = [];
  let latest = new Map<string, unknown>();
  let named: Set<string> | undefined;
  let gap: GapEvent | null = null;
  let error: AnabranchError | null = null;
  let wasLive = false;
  let view: TopicView | undefined;
  const touch = (): void => {
    view = undefined;
    changed();
  };
  const value = (topic: string, payload: unknown): void => {
    latest = new Map(latest);
    if (payload === null) latest.delete(topic);
    else latest.set(topic, payload);
  };
  const subscription = client.on(
    filter,
    (event) => {
      if (event.type === 'message' || event.type === 'cached') {
        items = [...items, event].slice(-keep);
        if (!event.patch) value(event.topic, event.payload);
        if (event.type === 'message') named?.add(event.topic);
      } else if (event.type === 'snapshot_begins') named = new Set();
      else if (event.type === 'snapshot_ends') {
        const seen = named;
        // Values that the snapshot did not name are none any more; events have no values that could end.
        if (seen && event.complete && seen.size > 0) latest = new Map([...latest].filter(([topic]) => seen.has(topic)));
        named = undefined;
      } else if (event.type === 'gap') gap = event;
      else if (event.type === 'live') wasLive = true;
      else if (event.type === 'closed') ({ error } = event);
      touch();
    },
    options,
  );
  const stopWatching = client.state.subscribe(touch);
  const status = (): TopicView['status'] => {
    if (error) return 'closed';
    if (!subscription.stale) return 'live';
    if (wasLive) return 'stale';
    return items.length > 0 ? 'cached' : 'waiting';
  };
  return {
    get: () => (view ??= Object.freeze({ items, latest, status: status(), gap, error })),
    close: () => {
      stopWatching();
      subscription.close();
    },
  };
}
