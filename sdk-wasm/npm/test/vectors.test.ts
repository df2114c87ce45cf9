/** The protocol's delivery vectors, through the shell and the wasm core: what the app sees, and what a reload would resume. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { SubscriptionEvent } from '../src/index.ts';
import type { Subscription } from '../src/subscription.ts';
import { settle, Stage, type FakeSocket } from './stage.ts';

interface Wanted {
  id: number;
  filter: string;
  cursor?: string;
  snapshot?: 'none' | 'if_new' | 'always';
  state?: string;
}
interface Step {
  connect?: Wanted[];
  receive?: unknown;
  subscribe?: Wanted;
  unsubscribe?: number;
  disconnect?: true;
  events?: Record<string, unknown>[];
  cursors?: Record<string, string | null>;
}
interface Case {
  name: string;
  subscriptions: Wanted[];
  steps: Step[];
  resume: Wanted[];
}

const file = new URL('../../../protocol/vectors/delivery.json', import.meta.url);
const { cases } = JSON.parse(readFileSync(file, 'utf8')) as { cases: Case[] };

/** Runs one script. Our subscriptions are numbered from 0, the vectors' from 1. */
async function play({ subscriptions, steps, resume }: Case): Promise<void> {
  const stage = new Stage();
  const client = stage.client();
  const open = new Map<number, Subscription>();
  let seen: Record<string, unknown>[] = [];
  const subscribe = ({ id, filter, cursor, snapshot = 'none' }: Wanted): void => {
    const start = cursor === undefined ? {} : { from: { cursor } };
    open.set(id, client.on(filter, (event) => seen.push(...told(id, event)), { ...start, snapshot }));
  };
  subscriptions.forEach(subscribe);
  let socket: FakeSocket | undefined;
  const connect = async (): Promise<unknown> => {
    socket = await stage.dialled();
    socket.onopen?.();
    await settle();
    return hello(socket);
  };
  for (const step of steps) {
    seen = [];
    if (step.connect) assert.deepEqual(await connect(), step.connect.map(sent));
    if (step.subscribe) subscribe(step.subscribe);
    if (step.unsubscribe !== undefined) open.get(step.unsubscribe)?.close();
    if (step.disconnect) socket?.drop();
    if (step.receive !== undefined) {
      const frame = typeof step.receive === 'string' ? step.receive : JSON.stringify(step.receive);
      socket?.receive(renumber(frame));
    }
    await settle();
    if (step.events) assert.deepEqual(bySubscription(seen), bySubscription(step.events));
    for (const [id, cursor] of Object.entries(step.cursors ?? {})) {
      // Before the gateway has answered, an unreadable cursor is none.
      const expected = cursor === null || !cursor.includes('/') ? undefined : cursor;
      assert.equal(open.get(Number(id))?.cursor, expected, `the cursor of ${id}`);
    }
  }
  if (socket?.closedWith === undefined) socket?.drop();
  assert.deepEqual(await connect(), resume.map(sent));
  client.close();
}

/** What the hello says of its subscriptions. `from: 'now'` is what the absence of a start means. */
function hello(socket: FakeSocket): unknown {
  const [frame] = socket.of('hello');
  return (frame?.['subscriptions'] as Record<string, unknown>[]).map(({ from, ...rest }) =>
    from === undefined || from === 'now' ? rest : { from, ...rest },
  );
}

/** What is said of a subscription in a hello. What is no cursor is not sent: it starts anew. */
function sent({ id, filter, cursor, ...rest }: Wanted): Record<string, unknown> {
  const readable = cursor?.includes('/');
  return { id: id - 1, filter, ...(readable ? { cursor } : {}), ...rest };
}

function renumber(text: string): string {
  return text.replace(/("subscription"\s*:\s*)(\d+)/, (_, key: string, id: string) => key + (Number(id) - 1));
}

/** An event as the vectors tell it. A reset is ours in two parts: how it was subscribed, and what is gone. */
function told(id: number, event: SubscriptionEvent): Record<string, unknown>[] {
  const about = { subscription: id, event: event.type };
  switch (event.type) {
    case 'message':
      return [{ ...about, position: event.position, topic: event.topic, payload: event.payload, ...(event.snapshot ? { snapshot: true } : {}) }];
    case 'subscribed':
      return event.outcome === 'reset' ? [{ ...about, event: 'reset' }] : [];
    case 'gap': {
      const { partition, after, before, reason } = event;
      return reason === 'reset' ? [] : [{ ...about, partition, after, before, reason }];
    }
    case 'snapshot_ends':
      return [{ ...about, complete: event.complete }];
    case 'closed':
      return [{ ...about, code: event.error.code }];
    default:
      return [about];
  }
}

function bySubscription(events: Record<string, unknown>[]): unknown {
  const sorted: Record<string, unknown[]> = {};
  for (const event of events) {
    const { code, ...rest } = event;
    const one = event['event'] === 'reset' ? rest : event;
    (sorted[String(event['subscription'])] ??= []).push(one);
  }
  return sorted;
}

for (const one of cases) test(`delivery: ${one.name}`, () => play(one));
