/** `@anabranch/client/react`: hooks. Components that name the same thing share it; it opens with the first and closes a second after the last. */
import { createContext, createElement, type ReactNode, useCallback, useContext, useMemo, useRef, useState, useSyncExternalStore } from 'react';
import type { Client } from '../client.ts';
import type { CommandOptions, CommandProgress, Commands, Job } from '../commands.ts';
import type { Role } from '../group.ts';
import type { JsonObject } from '../shadow/json.ts';
import type { Patch, Shadow, ShadowChange, ShadowView } from '../shadow.ts';
import type { ConnectionState } from '../shell/core.ts';
import { shared, type Source } from './registry.ts';
import { IDLE_TOPIC, openTopic, type TopicOptions, type TopicView } from './topic.ts';

export type { TopicOptions, TopicView } from './topic.ts';

const Context = createContext<Client | null>(null);

/** Gives its children the client. It neither makes nor closes one. */
export function AnabranchProvider({ client, children }: { readonly client: Client; readonly children?: ReactNode }): ReactNode {
  return createElement(Context.Provider, { value: client }, children);
}

/** The client of the nearest provider. */
export function useClient(): Client {
  const client = useContext(Context);
  if (!client) throw new Error('There is no <AnabranchProvider client={…}> around this component.');
  return client;
}

export interface Connection extends ConnectionState {
  readonly role: Role;
  /** Tries now, where the client waits. */
  reconnectNow(): void;
}

const IDLE: ConnectionState = Object.freeze({ phase: 'idle', attempt: 0, retryInMs: null, since: 0, code: null, upstream: true });

/** The connection's state. Does not connect by itself. */
export function useConnection(): Connection {
  const client = useClient();
  const state = useSyncExternalStore(client.state.subscribe, client.state.get, () => IDLE);
  return useMemo(() => ({ ...state, role: client.role, reconnectNow: () => client.connect() }), [client, state]);
}

/** What a filter has. Options are read when the first component asks for the filter with them. */
export function useTopic<Payload = unknown>(filter: string, options: TopicOptions = {}): TopicView<Payload> {
  const client = useClient();
  const key = `topic ${filter} ${JSON.stringify(options)}`;
  const source = useMemo(() => shared<TopicView>(client, key, (client, changed) => openTopic(client, changed, filter, options), IDLE_TOPIC), [client, key]);
  return useSyncExternalStore(source.subscribe, source.get, () => IDLE_TOPIC) as TopicView<Payload>;
}

export interface ShadowHook<T> extends ShadowView<T> {
  /** Changes what is desired; see `Shadow.setDesired`. Only while the component is mounted. */
  setDesired: Shadow<T>['setDesired'];
}

interface ShadowOptions {
  readonly root?: string;
}

const IDLE_SHADOW: ShadowView = Object.freeze({
  reported: {},
  desired: {},
  delta: null,
  pending: {},
  document: null,
  version: 0,
  known: false,
  live: false,
  asOf: null,
  closed: null,
});

interface ShadowSource extends Source<ShadowView> {
  readonly shadow: Shadow;
}

/** The shadow of a device; or, with a selector, a part of it, which is the same object while it is equal: a component is rendered only when that changes. */
export function useShadow<T = JsonObject>(device: string): ShadowHook<T>;
export function useShadow<T = JsonObject, Selected = unknown>(device: string, select: (view: ShadowView<T>) => Selected, options?: ShadowOptions): Selected;
export function useShadow<T, Selected>(device: string, select?: (view: ShadowView<T>) => Selected, { root }: ShadowOptions = {}): ShadowHook<T> | Selected {
  const client = useClient();
  const source = useMemo(() => {
    const open = (client: Client, changed: () => void): ShadowSource => {
      const shadow = client.shadow<JsonObject>(device, root === undefined ? {} : { root });
      const stop = shadow.subscribe(changed);
      return {
        shadow,
        get: () => shadow.get(),
        close: () => {
          stop();
          shadow.close();
        },
      };
    };
    return shared<ShadowView>(client, `shadow ${root ?? ''} ${device}`, open, IDLE_SHADOW);
  }, [client, device, root]);
  const setDesired = useCallback(
    (patch: Patch<T>, options?: { readonly queue?: boolean; readonly timeToLiveMs?: number }): ShadowChange => {
      const open = source.source() as ShadowSource | undefined;
      if (!open) throw new Error('setDesired works in event handlers and effects of a mounted component.');
      return open.shadow.setDesired(patch as Patch<JsonObject>, options);
    },
    [source],
  );
  const last = useRef<{ view: ShadowView; select: unknown; selected: unknown } | undefined>(undefined);
  const pick = (view: ShadowView): unknown => {
    const before = last.current;
    if (before && before.view === view && (before.select === select || !select)) return before.selected;
    let selected: unknown = select ? select(view as unknown as ShadowView<T>) : { ...view, setDesired };
    if (select && before && same(before.selected, selected)) selected = before.selected;
    last.current = { view, select, selected };
    return selected;
  };
  return useSyncExternalStore(source.subscribe, () => pick(source.get()), () => pick(IDLE_SHADOW)) as ShadowHook<T> | Selected;
}

const NO_PROGRESS: CommandProgress | null = null;
const noProgress = (): CommandProgress | null => NO_PROGRESS;

/** Gives a command to a device in the name of `subject`, whom the token speaks for; and how far the one given last has come. */
export function useCommand<Result = unknown>(
  device: string,
  name: string,
  { subject, root }: { readonly subject: string; readonly root?: string },
): readonly [send: (args?: unknown, options?: CommandOptions) => Job<Result>, progress: CommandProgress | null] {
  const client = useClient();
  const source = useMemo(() => {
    const open = (client: Client): Source<Commands> => {
      const commands = client.commands(subject, root === undefined ? {} : { root });
      return { get: () => commands, close: () => commands.close() };
    };
    return shared<Commands | null>(client, `commands ${root ?? ''} ${subject}`, open, null);
  }, [client, subject, root]);
  // Answers are listened for as long as the component is mounted.
  const commands = useSyncExternalStore(source.subscribe, source.get, () => null);
  const [job, setJob] = useState<Job<Result> | null>(null);
  const send = useCallback(
    (args?: unknown, options?: CommandOptions): Job<Result> => {
      if (!commands) throw new Error('A command is given in event handlers and effects of a mounted component.');
      const next = commands.send<Result>(device, name, args, options);
      setJob(next);
      return next;
    },
    [commands, device, name],
  );
  const progress = useSyncExternalStore(job?.progress.subscribe ?? never, job?.progress.get ?? noProgress, noProgress);
  return [send, progress];
}

const never = (): (() => void) => () => {};

/** Whether two values have the same content. */
function same(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null || Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = Object.keys(a);
  const has = (key: string): boolean => Object.hasOwn(b, key) && same((a as JsonObject)[key], (b as JsonObject)[key]);
  return keys.length === Object.keys(b).length && keys.every(has);
}
