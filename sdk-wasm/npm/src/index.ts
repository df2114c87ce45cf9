export { Client, createClient } from './client.ts';
export type { CommandOptions, CommandProgress, Commands, Job } from './commands.ts';
export { AnabranchError } from './errors.ts';
export type {
  CachedEvent,
  ClosedEvent,
  GapEvent,
  LaggingEvent,
  LiveEvent,
  MessageEvent,
  SnapshotBeginsEvent,
  SnapshotEndsEvent,
  SubscribedEvent,
  SubscriptionEvent,
  TransientEvent,
} from './events.ts';
export type {
  ClientOptions,
  PublishOptions,
  Published,
  QueueOptions,
  Snapshot,
  Start,
  SubscribeOptions,
  TokenFunction,
  WasmSource,
  WebSocketClass,
} from './options.ts';
export type { ConnectionState, Envelope, GapRange, Outcome, Phase, TokenReason } from './shell/core.ts';
export type { Patch, Shadow, ShadowChange, ShadowView } from './shadow.ts';
export type { Json, JsonObject } from './shadow/json.ts';
export type { Pending, Settled, ShadowDelta, ShadowDocument } from './shadow/state.ts';
export type { Observable } from './state.ts';
export type { CursorStore } from './cursors.ts';
export type { Role, Tabs } from './group.ts';
export type { Keeping, Storage } from './keeping.ts';
export type { Outboxed, Queued } from './outbox.ts';
export type { Subscription } from './subscription.ts';
