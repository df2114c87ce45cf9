/** Tabs that share a connection: who leads, and what the others are told, with the browser in the test's hands. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Client } from '../src/client.ts';
import type { ClientOptions } from '../src/options.ts';
import { Batches } from '../src/store/keeper.ts';
import { MemoryStore } from './memory-store.ts';
import { cursor, message, settle, Stage, subscribed } from './stage.ts';
import { Browser, lockOf } from './tabs.ts';

let browser: Browser;
let uninstall: () => void;
before(() => {
  browser = new Browser();
  uninstall = browser.install();
});
after(() => uninstall());

interface Tab {
  readonly name: string;
  readonly client: Client;
  readonly phases: string[];
}

let users = 0;

/** Tabs of one user. */
class Tabs {
  readonly user = `u${(users += 1)}`;
  readonly stage = new Stage();
  readonly store = new MemoryStore();
  /** How long the store takes to load, in milliseconds, and how often it was. */
  loadMs = 0;
  loads = 0;

  open(options: Partial<ClientOptions> = {}): Tab {
    const { name, tabs } = browser.tab();
    const { stage, store } = this;
    const load = async () => {
      this.loads += 1;
      if (this.loadMs > 0) await new Promise<void>((resolve) => stage.setTimer(resolve, this.loadMs));
      return store.load();
    };
    const kept = { load, commit: (writes: Parameters<MemoryStore['commit']>[0]) => store.commit(writes), wipe: () => store.wipe(), close: () => {} };
    const client = stage.client({ user: this.user, tabs, store: (needs) => new Batches(needs, () => Promise.resolve(kept)), ...options });
    const phases: string[] = [];
    client.state.subscribe(({ phase }) => phase !== phases.at(-1) && phases.push(phase));
    return { name, client, phases };
  }

  /** So many, all live; the first one leads. */
  async live(many: number, options: Partial<ClientOptions> = {}): Promise<Tab[]> {
    const all: Tab[] = [];
    for (let i = 0; i < many; i += 1) {
      const tab = this.open(options);
      all.push(tab);
      tab.client.connect();
      await settle();
      if (i === 0) await this.stage.live();
    }
    assert.deepEqual(all.map(({ client }) => `${client.role} ${client.state.get().phase}`), all.map((_, i) => `${i === 0 ? 'leader' : 'follower'} live`));
    return all;
  }
}

test('a leader whose store takes long to open is waited for, and nobody says that there is a connection', async () => {
  const tabs = new Tabs();
  const [first, ...rest] = await tabs.live(4);
  tabs.loadMs = 8_000;
  tabs.loads = 0;
  for (const { phases } of rest) phases.length = 0;
  browser.kill(first?.name ?? '');
  await tabs.stage.pass(100);
  assert.deepEqual(rest.map(({ client }) => client.state.get().phase), ['connecting', 'connecting', 'connecting']);
  assert.deepEqual(rest.map(({ client }) => client.role).sort(), ['leader', 'waiting', 'waiting']);
  const late = tabs.open();
  late.client.connect();
  await tabs.stage.pass(7_400);
  assert.deepEqual([tabs.loads, tabs.stage.sockets.length], [1, 1], 'one opens it, and nobody disturbs it');
  await tabs.stage.live();
  await settle();
  for (const { client } of [...rest, late]) assert.equal(client.state.get().phase, 'live');
  for (const { phases } of rest) assert.deepEqual(phases, ['connecting', 'live']);
  assert.deepEqual([tabs.loads, tabs.stage.sockets.length], [1, 2]);
  for (const { client } of [...rest, late]) client.close();
});

test('a tab that is robbed while it opens its store, and hangs, does not say that it leads', async () => {
  const tabs = new Tabs();
  tabs.loadMs = 2_000;
  const { name, client } = tabs.open();
  client.connect();
  await tabs.stage.pass(100);
  assert.equal(client.role, 'leader');
  const thief = browser.tab();
  browser.hang(name);
  void thief.locks.request(lockOf(tabs.user), { steal: true }, () => new Promise(() => {}));
  browser.said.length = 0;
  // It has what it has read before it sees that it was robbed.
  tabs.stage.skip(5_000);
  await tabs.stage.pass(0);
  assert.deepEqual(browser.said.filter(([word]) => word === 'lead'), []);
  browser.goOn(name);
  await settle();
  assert.equal(client.role, 'waiting');
  client.close();
});

test('what was said before somebody took the lead changes nothing for long', async () => {
  const tabs = new Tabs();
  const [leader, follower] = (await tabs.live(2)) as [Tab, Tab];
  const got: unknown[] = [];
  follower.client.on('a', (event) => event.type === 'message' && got.push(event.payload));
  await settle();
  const { last: socket } = tabs.stage;
  const open = (): number => socket.of('subscribe').length - socket.of('unsubscribe').length;
  assert.equal(open(), 1);
  const stranger = new BroadcastChannel(lockOf(tabs.user));
  stranger.postMessage(['lead', 'another 1', null, { kind: 'durable' }, null]);
  stranger.postMessage(['opening']);
  await settle();
  const { loads } = tabs;
  await tabs.stage.pass(1_000);
  assert.deepEqual([leader, follower].map(({ client }) => `${client.role} ${client.state.get().phase}`), ['leader live', 'follower live']);
  assert.deepEqual([tabs.loads, tabs.stage.sockets.length, open()], [loads, 1, 1], 'and the leader has nothing twice');
  socket.receive(subscribed(socket.of('subscribe').at(-1)?.['id'] as number, 10));
  socket.receive(message(11, 'a', 'new'));
  await settle();
  assert.deepEqual(got, ['new']);
  stranger.close();
  for (const { client } of [follower, leader]) client.close();
});

test('a tab that hangs is given its share of the time to find a token, and asked last from then on', async () => {
  const tabs = new Tabs();
  const asked: string[] = [];
  const token = (name: string) => () => {
    asked.push(name);
    if (name === 'leader') throw new Error('signed out');
    return `${name} ${asked.length}`;
  };
  const all: Tab[] = [];
  for (const name of ['leader', 'hangs', 'other']) {
    const tab = tabs.open({ token: token(name) });
    all.push(tab);
    // That nobody sees it is what the leader knows it by.
    tabs.stage.page?.hide(true);
    await tab.client.outbox();
  }
  const [leader, hangs, other] = all as [Tab, Tab, Tab];
  assert.deepEqual(all.map(({ client }) => client.role), ['leader', 'follower', 'follower']);
  browser.hang(hangs.name);
  const begun = tabs.stage.now();
  other.client.connect();
  await tabs.stage.accept({ tokenTtlMs: 30_000 });
  const took = tabs.stage.now() - begun;
  assert.ok(took >= 4_000 && took <= 5_000, `${took}`);
  assert.deepEqual(asked, ['leader', 'other']);
  browser.said.length = 0;
  for (let waited = 0; asked.length < 4 && waited < 60_000; waited += 100) await tabs.stage.pass(100);
  const rounds = browser.said.filter(([word]) => word === 'token').map(([, , tab]) => tab);
  const answers = browser.said.filter(([word]) => word === 'token of').map(([, , tab]) => tab);
  assert.deepEqual(rounds, answers, 'the one that answers is the only one that is asked');
  browser.goOn(hangs.name);
  for (const { client } of [other, hangs, leader]) client.close();
});

test('a client listens to other tabs while it is one of them, and not before or after', async () => {
  const tabs = new Tabs();
  const { opened } = browser;
  const before = browser.channels.size;
  const first = tabs.open();
  const never = tabs.open();
  never.client.close();
  assert.equal(browser.opened, opened, 'a client opens nothing yet');
  first.client.connect();
  await tabs.stage.live();
  const second = tabs.open();
  second.client.connect();
  await settle();
  assert.equal(browser.channels.size, before + 2);
  const channels = [...browser.channels].slice(before);
  await second.client.logout();
  await settle();
  assert.deepEqual([first.client.state.get().phase, second.client.state.get().phase], ['closed', 'closed']);
  assert.equal(browser.channels.size, before);
  assert.deepEqual(channels.map(({ onmessage }) => onmessage), [null, null]);
  assert.ok(browser.said.some(([word]) => word === 'wiped'), 'whoever logged out is told all the same');
});

test('a follower is told when its publish leaves', async () => {
  const tabs = new Tabs();
  const [leader, follower] = (await tabs.live(2)) as [Tab, Tab];
  const sent: string[] = [];
  void follower.client.publish('a', 1, { messageId: 'm-1', timeToLiveMs: 5_000, sent: () => sent.push('m-1') }).catch(() => {});
  await settle();
  assert.deepEqual(tabs.stage.last.of('publish').length, 1);
  assert.deepEqual(sent, ['m-1']);
  for (const { client } of [follower, leader]) client.close();
});

for (const [who, paused, goesOn] of [['a follower', 1, 0], ['the leader', 0, 1]] as const) {
  test(`${who} that the app pauses keeps what it is told, and answers`, async () => {
    const tabs = new Tabs();
    const all = await tabs.live(2);
    const [still, other] = [all[paused], all[goesOn]] as [Tab, Tab];
    const got: [string, unknown][] = [];
    const on = (tab: Tab, name: string) => tab.client.on('a', (event) => event.type === 'message' && got.push([name, event.payload]));
    const watched = on(still, 'still');
    on(other, 'other');
    await settle();
    const socket = tabs.stage.last;
    const subscribe = (): number[] => socket.of('subscribe').map(({ id }) => id as number);
    assert.equal(subscribe().length, 2);
    still.client.pause('x');
    assert.deepEqual([still.client.state.get().phase, watched.stale], ['paused', true]);
    await settle();
    assert.equal(socket.of('unsubscribe').length, 1, 'its stream stops');
    // All of this hangs where a paused tab has no core.
    const queued = still.client.publish('b', 1, { queue: true, messageId: 'm-1' });
    assert.equal((await queued).messageId, 'm-1');
    assert.deepEqual(tabs.store.publishes.map(({ messageId }) => messageId), ['m-1']);
    const answers = [(await still.client.outbox()).length, await still.client.flush(), await still.client.cached('a')];
    assert.deepEqual(answers, [1, undefined, []]);
    on(still, 'late');
    await settle();
    assert.equal(subscribe().length - socket.of('unsubscribe').length, 1, 'and no other begins');
    assert.equal(socket.closedWith, undefined, 'the other tab has the connection still');
    assert.equal(other.client.state.get().phase, 'live');
    assert.equal(still.client.state.get().phase, 'paused');
    other.client.pause('y');
    await settle();
    assert.equal(socket.closedWith, 1000, 'nobody wants it');
    still.client.resume('x');
    const next = await tabs.stage.live();
    await settle();
    assert.equal((next.of('hello')[0]?.['subscriptions'] as unknown[]).length, 2, 'its own two, and not that of the other');
    assert.deepEqual([still.client.state.get().phase, other.client.state.get().phase], ['live', 'paused']);
    next.receive(message(11, 'a', 'new'));
    await settle();
    assert.deepEqual(got, [['still', 'new'], ['late', 'new']]);
    for (const { client } of [...all].reverse()) client.close();
  });
}

test('who is paused is so whoever leads, until the app says otherwise', async () => {
  const tabs = new Tabs();
  const [leader, follower] = (await tabs.live(2)) as [Tab, Tab];
  follower.client.pause('x');
  browser.kill(leader.name);
  await tabs.stage.pass(2_000);
  assert.deepEqual([follower.client.role, follower.client.state.get().phase, tabs.stage.sockets.length], ['leader', 'paused', 1]);
  follower.client.resume('x');
  assert.equal(follower.client.state.get().phase, 'connecting');
  await tabs.stage.live();
  assert.equal(follower.client.state.get().phase, 'live');
  follower.client.close();
  follower.client.pause('y');
  assert.equal(follower.client.state.get().phase, 'closed');
});

test('how fresh a follower is, only the gateway changes', async () => {
  const tabs = new Tabs();
  const [leader, follower] = (await tabs.live(2)) as [Tab, Tab];
  const watched = follower.client.on('a', () => {});
  await settle();
  const { stage } = tabs;
  stage.last.receive(subscribed(stage.last.of('subscribe').at(-1)?.['id'] as number, 10));
  stage.last.receive({ type: 'caught_up', cursor: cursor(10) });
  await settle();
  const heard = stage.wall();
  assert.deepEqual([watched.stale, watched.freshAsOf], [false, heard]);
  stage.skip(900);
  stage.last.drop();
  await settle();
  assert.deepEqual([watched.stale, watched.freshAsOf], [true, heard], 'that the connection is lost is no news of its own');
  for (const { client } of [follower, leader]) client.close();
});
