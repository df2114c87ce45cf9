/** The hooks, in a page of jsdom, in StrictMode: what they show, how often they render, and what they say on the wire. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Client } from '../src/client.ts';
import { cursor, type FakeSocket, message, settle, Stage } from './stage.ts';

type React = typeof import('react');
type Hooks = typeof import('../src/react/index.ts');
interface Dom {
  window: { document: Document; navigator: Navigator; close(): void; requestAnimationFrame(run: () => void): number };
}

let dom: Dom;
let react: React;
let hooks: Hooks;
let createRoot: typeof import('react-dom/client').createRoot;
let renderToString: typeof import('react-dom/server').renderToString;

before(async () => {
  // As on a server, before there is a page.
  ({ renderToString } = await import('react-dom/server'));
  const { JSDOM } = (await import('jsdom' as string)) as { JSDOM: new (html: string, options: object) => Dom };
  dom = new JSDOM('<!doctype html><main></main>', { pretendToBeVisual: true });
  Object.assign(globalThis, {
    window: dom.window,
    document: dom.window.document,
    navigator: dom.window.navigator,
    requestAnimationFrame: (run: () => void) => setTimeout(run, 0),
    IS_REACT_ACT_ENVIRONMENT: true,
  });
  react = await import('react');
  ({ createRoot } = await import('react-dom/client'));
  hooks = await import('../src/react/index.ts');
});
after(() => dom.window.close());

interface Mounted {
  text(): string;
  act(run: () => unknown): Promise<void>;
  unmount(): Promise<void>;
}

async function mount(client: Client, component: () => unknown): Promise<Mounted> {
  const { act, createElement, StrictMode } = react;
  const element = document.createElement('main');
  const root = createRoot(element);
  const frame = (run: () => unknown): Promise<void> =>
    act(async () => {
      await run();
      await settle();
      await new Promise((resolve) => setTimeout(resolve, 5));
    });
  const Component = component as () => never;
  const tree = createElement(StrictMode, null, createElement(hooks.AnabranchProvider, { client }, createElement(Component)));
  await frame(() => root.render(tree));
  return { text: () => element.textContent ?? '', act: frame, unmount: () => frame(() => root.unmount()) };
}

const framesOf = (socket: FakeSocket): string[] => socket.sent.map(({ type }) => type);

test('useTopic shows messages, and mounting twice says nothing more on the wire', async () => {
  const stage = new Stage();
  const client = stage.client();
  const view = await mount(client, () => {
    const { items, status, gap } = hooks.useTopic<{ n: number }>('a/#', { keep: 2 });
    return `${status} ${items.map(({ payload }) => payload.n).join()} ${gap?.reason ?? 'whole'}`;
  });
  assert.equal(view.text(), 'waiting  whole');
  let socket!: FakeSocket;
  await view.act(async () => (socket = await stage.live()));
  assert.equal((socket.of('hello')[0]?.['subscriptions'] as unknown[]).length, 1);
  await view.act(() => [11, 12, 13].forEach((offset) => socket.receive(message(offset, 'a/b'))));
  assert.equal(view.text(), 'live 12,13 whole');
  await view.act(() => socket.drop());
  assert.equal(view.text(), 'stale 12,13 whole');
  assert.deepEqual(framesOf(socket), ['hello']);
  await view.unmount();
});

test('components that name the same filter share a subscription', async () => {
  const stage = new Stage();
  const client = stage.client();
  const one = (): string => hooks.useTopic('a/#').status;
  const [first, second] = [await mount(client, one), await mount(client, one)];
  let socket!: FakeSocket;
  await first.act(async () => (socket = await stage.live()));
  assert.equal((socket.of('hello')[0]?.['subscriptions'] as unknown[]).length, 1);
  await first.unmount();
  assert.equal(second.text(), 'live');
  await second.unmount();
  assert.deepEqual(framesOf(socket), ['hello'], 'it lingers');
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  assert.deepEqual(framesOf(socket), ['hello', 'unsubscribe']);
});

const document_ = (offset: number, version: number, state: unknown): unknown =>
  message(offset, 'iotsphere/devices/d1/shadow/document', { incarnation: 1, version, timestamp: 1, state });

test('useShadow renders only when what is selected changes, and sets', async () => {
  const stage = new Stage();
  const client = stage.client();
  let renders = 0;
  interface Whole {
    desired: unknown;
    setDesired(patch: object): unknown;
  }
  let whole: Whole | undefined;
  const view = await mount(client, () => {
    const fan = hooks.useShadow<{ fan: { rpm: number } }, { rpm?: number | undefined }>('d1', ({ reported }) => ({ rpm: reported.fan?.rpm }));
    renders += 1;
    return String(fan.rpm);
  });
  const other = await mount(client, () => ((whole = hooks.useShadow('d1')), JSON.stringify(whole.desired)));
  let socket!: FakeSocket;
  await view.act(async () => (socket = await stage.live()));
  await view.act(() => socket.receive(document_(11, 1, { reported: { fan: { rpm: 7 }, other: 1 }, desired: {} })));
  assert.equal(view.text(), '7');
  const before = renders;
  await view.act(() => socket.receive(document_(12, 2, { reported: { fan: { rpm: 7 }, other: 2 }, desired: {} })));
  assert.equal(renders, before, 'the other field is no concern of it');
  await view.act(() => void whole?.setDesired({ fan: { rpm: 9 } }));
  assert.equal(other.text(), '{"fan":{"rpm":9}}');
  assert.equal(renders, before);
  assert.equal(socket.of('publish').length, 1);
  await view.unmount();
  await other.unmount();
});

test('useCommand gives a command and shows how far it has come', async () => {
  const stage = new Stage();
  const client = stage.client();
  let send: ((args?: unknown) => { id: string }) | undefined;
  const view = await mount(client, () => {
    const [give, progress] = hooks.useCommand('d1', 'reboot', { subject: 'alice' });
    send = give;
    return progress?.stage ?? 'none';
  });
  let socket!: FakeSocket;
  await view.act(async () => (socket = await stage.live()));
  assert.equal(view.text(), 'none');
  let id = '';
  await view.act(() => (id = send?.({ in: 5 }).id ?? ''));
  assert.equal(view.text(), 'sent');
  await view.act(() => socket.receive({ type: 'published', messageId: id, position: '0:11:0000000b' }));
  assert.equal(view.text(), 'accepted');
  assert.deepEqual(framesOf(socket), ['hello', 'publish']);
  await view.unmount();
});

test('useConnection shows the state, and connects nothing', async () => {
  const stage = new Stage();
  const client = stage.client();
  const view = await mount(client, () => {
    const { phase, role } = hooks.useConnection();
    return `${phase} ${role}`;
  });
  assert.equal(view.text(), 'idle alone');
  assert.equal(stage.sockets.length, 0);
  await view.act(() => client.connect());
  await view.act(async () => void (await stage.live()).receive({ type: 'caught_up', cursor: cursor(10) }));
  assert.equal(view.text(), 'live alone');
  await view.unmount();
});

test('on a server everything is idle, and nothing is opened', () => {
  const stage = new Stage();
  const client = stage.client();
  const Page = (): never =>
    [hooks.useTopic('a/#').status, hooks.useShadow('d1').known, hooks.useConnection().phase, hooks.useCommand('d1', 'x', { subject: 'a' })[1]].join() as never;
  const html = renderToString(react.createElement(hooks.AnabranchProvider, { client }, react.createElement(Page)));
  assert.equal(html, 'idle,false,idle,');
  assert.equal(stage.sockets.length, 0);
});
