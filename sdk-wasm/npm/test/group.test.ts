/** A page among tabs that share a connection, with the other tabs in the test's hands. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Group, GroupNeeds, Role, Tabs } from '../src/group.ts';
import type { Keeping } from '../src/keeping.ts';
import type { Effect } from '../src/shell/core.ts';
import type { Brain, Local, Question } from '../src/shell/local.ts';
import { Batches } from '../src/store/keeper.ts';
import { Hub } from '../src/tabs/hub.ts';
import { MemoryStore } from './memory-store.ts';
import { settle, Stage } from './stage.ts';
import { trapping } from './trapping.ts';

/** A page's part in a group of which the test plays all others. */
class Others implements Group {
  readonly exclusive = true;
  role: Role = 'waiting';
  readonly hubs: Hub[] = [];
  readonly said: (readonly unknown[])[] = [];

  constructor(
    readonly needs: GroupNeeds,
    private readonly leads: boolean,
  ) {}

  join(): void {
    this.role = this.leads ? 'leader' : 'follower';
    if (this.leads) this.needs.lead();
  }
  serve(local: Local): Brain {
    const hub = new Hub(`core ${this.hubs.length}`, local, (...words) => void this.said.push(words), () => {});
    this.hubs.push(hub);
    return hub;
  }
  route(effect: Effect, bytes: number): Effect | undefined {
    return this.hubs.at(-1)?.route(effect, bytes) ?? (this.hubs.length > 0 ? undefined : effect);
  }
  leave(): void {}
  pause(): void {}
  stored(): void {}
  token(): Promise<undefined> {
    return Promise.resolve(undefined);
  }
  logout(): Promise<boolean> {
    return Promise.resolve(false);
  }
}

function tabs(leads: boolean): { make: Tabs; get group(): Others } {
  let made: Others | undefined;
  return {
    make: (needs) => (made = new Others(needs, leads)),
    get group() {
      assert.ok(made);
      return made;
    },
  };
}

const keeping = (store: MemoryStore): Keeping => (needs) => new Batches(needs, () => Promise.resolve(store));

test('what another tab says while the core is replaced reaches the new one once it has what the store has', async () => {
  const stage = new Stage(() => trapping());
  const store = new MemoryStore();
  const shared = tabs(true);
  const client = stage.client({ user: 'u', store: keeping(store), tabs: shared.make });
  client.connect();
  const socket = await stage.accept();
  const { group } = shared;
  const [first] = group.hubs;
  assert.ok(first);
  first.wants('other', true);
  const envelope = JSON.stringify({ metadata: { messageId: 'm-1', topic: 'a' }, payload: 1 });
  const publish = (hub: Hub): void => hub.called('other', 'publish', ['m-1', envelope, true, -1, 0]);
  socket.receive({ type: 'trap' });
  // It does not know yet.
  publish(first);
  assert.equal(client.state.get().phase, 'connecting', 'there is no connection');
  assert.ok(group.said.some((words) => JSON.stringify(words[2]).includes('"connecting"')), 'which the other tab is told, too');
  await settle();
  const [, second] = group.hubs;
  assert.ok(second);
  assert.deepEqual(await client.outbox(), [], 'what was said to no core is nowhere');
  // It is told of the new one, and says again what it does not know to be stored.
  publish(second);
  await client.flush();
  assert.deepEqual(store.publishes.map(({ messageId }) => messageId), ['m-1']);
  client.close();
});

test('what was asked of a leader that ended is asked of the next', async () => {
  const stage = new Stage();
  const shared = tabs(false);
  const client = stage.client({ user: 'u', tabs: shared.make });
  client.connect();
  await settle();
  /** The core of another tab, which answers or does not. */
  const brain = (answers: boolean): Brain => ({
    call: () => {},
    ask: (question: Question, answer: (text: string) => void) => answers && answer(question[0] === 'flush' ? '' : '[]'),
    want: () => {},
    hide: () => {},
    place: () => {},
    whenIdle: (run) => run(),
    stop: () => {},
  });
  const { group } = shared;
  group.needs.follow(brain(false));
  const asked = Promise.all([client.outbox(), client.cached('a'), client.flush()]);
  await settle();
  group.needs.follow(brain(true));
  assert.deepEqual(await Promise.race([asked, settle().then(() => 'no answer')]), [[], [], undefined]);
  const last = client.outbox();
  client.close();
  assert.deepEqual(await last, []);
});

test('what was taken back in one tab, nobody says again, and whoever waits for it is told', async () => {
  const stage = new Stage();
  const store = new MemoryStore();
  const shared = tabs(true);
  const client = stage.client({ user: 'u', store: keeping(store), tabs: shared.make });
  const queued = await client.publish('a', 1, { queue: true, messageId: 'm-1' });
  const { group } = shared;
  const [hub] = group.hubs;
  assert.ok(hub);
  hub.wants('other', false);
  hub.asked('other', 7, ['withdraw', 'm-1']);
  await assert.rejects(queued.confirmed(), { code: 'withdrawn' });
  const said = group.said.map((words) => JSON.stringify(words));
  const did = said.findIndex((words) => words.includes('["did","withdraw","m-1"]'));
  assert.ok(did >= 0 && did < said.findIndex((words) => words.startsWith('["answer"') && words.includes('7,"true"')), 'all tabs, and before the answer');
  assert.deepEqual([await client.outbox(), await client.flush(), store.publishes], [[], undefined, []]);
  assert.equal(await client.withdraw('m-1'), false);
  client.close();
});

test('what a leader did and could not answer is true all the same', async () => {
  const stage = new Stage();
  const shared = tabs(false);
  const client = stage.client({ user: 'u', tabs: shared.make });
  client.connect();
  await settle();
  const published: unknown[] = [];
  /** A leader that answers so. */
  const brain = (answers: Record<string, string>): Brain => ({
    call: (name, ...args) => name === 'publish' && published.push(args[0]),
    ask: ([what]: Question, answer: (text: string) => void) => answers[what] !== undefined && answer(answers[what]),
    want: () => {},
    hide: () => {},
    place: () => {},
    whenIdle: (run) => run(),
    stop: () => {},
  });
  const { needs } = shared.group;
  needs.follow(brain({ flush: '' }));
  const [mine, sent] = await Promise.all(['m-1', 'm-2'].map((messageId) => client.publish('a', 1, { queue: true, messageId })));
  const asked = Promise.all([client.withdraw('m-1'), client.retry('another tab\'s'), client.withdraw('m-2'), client.withdraw('nothing')]);
  needs.effect(['did', 'withdraw', 'm-1'], 0);
  needs.effect(['did', 'retry', 'another tab\'s'], 0);
  await assert.rejects(mine?.confirmed() ?? Promise.resolve(), { code: 'withdrawn' });
  // It ends, and the next one has neither.
  needs.follow(brain({ withdraw: 'false', retry: 'false' }));
  assert.deepEqual(await asked, [true, true, false, false]);
  assert.deepEqual(published, ['m-1', 'm-2', 'm-2'], 'what is taken back is not said again');
  assert.ok(sent);
  client.close();
});

test('what an earlier core may have sent is not taken back', async () => {
  const stage = new Stage(() => trapping());
  const client = stage.client();
  const published = client.publish('a', 1, { messageId: 'm-1' });
  const socket = await stage.live();
  assert.equal(socket.of('publish').length, 1);
  socket.receive({ type: 'trap' });
  await settle();
  assert.deepEqual((await client.outbox()).map(({ messageId, sent }) => [messageId, sent]), [['m-1', true]]);
  assert.equal(await client.withdraw('m-1'), false);
  const next = await stage.live();
  next.receive({ type: 'published', messageId: 'm-1', position: '0:99:00000063', duplicate: true });
  assert.equal((await published).duplicate, true);
  client.close();
});

test('a core that traps while it takes something back has not done it', async () => {
  let traps = 1;
  const stage = new Stage(() => {
    const Core = trapping();
    return class extends Core {
      override withdraw(messageId: string, now: number, wall: number): string {
        if (traps-- > 0) throw new WebAssembly.RuntimeError('unreachable');
        return super.withdraw(messageId, now, wall);
      }
    };
  });
  const store = new MemoryStore();
  const client = stage.client({ user: 'u', store: keeping(store) });
  await client.publish('a', 1, { queue: true, messageId: 'm-1' });
  const gone = await client.withdraw('m-1');
  await client.flush();
  const waits = store.publishes.map(({ messageId }) => messageId);
  assert.deepEqual([gone, waits, (await client.outbox()).length], [false, ['m-1'], 1]);
  assert.equal((await stage.live()).of('publish').length, 1);
  client.close();
});

test('a change that the tabs\' store keeps becomes part of no other, as the next leader could not know of it', async () => {
  const stage = new Stage();
  const shared = tabs(false);
  const client = stage.client({ user: 'u', tabs: shared.make });
  client.connect();
  await settle();
  const authors: unknown[] = [];
  shared.group.needs.follow({
    call: (name, ...args) => name === 'publish' && authors.push(args[4]),
    ask: () => {},
    want: () => {},
    hide: () => {},
    place: () => {},
    whenIdle: (run) => run(),
    stop: () => {},
  });
  const shadow = client.shadow('d1');
  shadow.setDesired({ x: 1 }, { queue: true });
  shadow.setDesired({ x: 2 });
  await settle();
  assert.deepEqual(authors.map((author) => author !== 0), [false, true], 'what ends with the page merges as ever');
  client.close();
});

test('what waits is read once, whatever the others publish', async () => {
  let reads = 0;
  const stage = new Stage(() => {
    const Core = trapping();
    return class extends Core {
      override outbox(): string {
        reads += 1;
        return super.outbox();
      }
    };
  });
  const shared = tabs(true);
  const client = stage.client({ user: 'u', tabs: shared.make });
  client.publish('a', 0, { messageId: 'own' }).catch(() => {});
  const socket = await stage.live();
  const { group } = shared;
  const [hub] = group.hubs;
  assert.ok(hub);
  hub.wants('other', true);
  const publish = (messageId: string): void => {
    const envelope = JSON.stringify({ metadata: { messageId, topic: 'a' }, payload: 1 });
    hub.called('other', 'publish', [messageId, envelope, false, -1, 0]);
  };
  reads = 0;
  for (let i = 0; i < 50; i += 1) publish(`m-${i}`);
  for (const again of ['own', 'm-7', 'm-49']) publish(again);
  const failed = (): unknown[] => group.said.filter((words) => JSON.stringify(words[2]).startsWith('["failed"'));
  assert.deepEqual([reads, failed(), socket.of('publish').length], [1, [], 51]);
  socket.receive({ type: 'published', messageId: 'm-7', position: '0:99:00000063', duplicate: false });
  publish('m-7');
  assert.equal(socket.of('publish').length, 52, 'what waits no longer may be said again');
  client.close();
});
