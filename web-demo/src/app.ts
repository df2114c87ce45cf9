import { createClient, type Subscription, type TokenFunction } from '@anabranch/client';
import { Chaos } from './chaos.ts';
import { Charts } from './charts.ts';
import { Commands } from './commands.ts';
import { Continuity } from './continuity.ts';
import { findDemo, Tokens } from './demo.ts';
import { Devices, type Device } from './devices.ts';
import { el, say } from './dom.ts';
import { Fleet } from './fleet.ts';
import { Link } from './link.ts';
import { askForToken } from './sign-in.ts';
import { Shadow } from './shadow.ts';
import { SideBySide } from './side-by-side.ts';
import { writeAsSomebodyElse } from './somebody.ts';
import { Speaker } from './speaker.ts';
import type { Metric } from './topics.ts';

/** Puts the page together. Beside the demo's launcher it needs nothing; elsewhere it asks for a token first. */
export async function start(root: HTMLElement): Promise<void> {
  const demo = await findDemo();
  const tokens = demo && new Tokens(demo);
  const speaker = new Speaker();
  const token: TokenFunction = speaker.listenTo(tokens?.get ?? (await askForToken(root)));
  const url = demo?.wsUrl ?? '/v1/ws';
  const client = createClient({ url, token });

  const devices = new Devices(client, (whole) => fleet.painted(whole));
  let stream: Subscription | undefined;
  const link = new Link(client, () => stream?.freshAsOf ?? null);
  const continuity = new Continuity(client, devices, link);
  stream = continuity.subscription;
  const stale = (): boolean => continuity.subscription.stale;

  let shown: Device | undefined;
  const charts = new Charts(
    client,
    () => (shown ? devices.intervalOf(shown.id) : 1000),
    (metric) => {
      if (shown?.reported.unsupported.includes(metric)) return 'unsupported';
      return shown?.reported.metrics[metric as Metric] === false ? 'off' : 'on';
    },
    link.journal,
  );
  const disturb = (device: string, intervalMs: number): Promise<void> => writeAsSomebodyElse(url, token, device, intervalMs);
  const shadow = new Shadow(client, disturb, () => continuity.subscription.freshAsOf);
  const commands = new Commands(client, speaker);
  const title = el('h1', {}, 'No device');
  const about = el('p', { class: 'detail' });
  const describe = (device: Device): void => {
    const { os, kernel, uptimeSec, agent } = device.status;
    const up = uptimeSec === undefined ? undefined : `up ${Math.floor(uptimeSec / 3600)} h`;
    say(title, device.id);
    say(about, [os, kernel, up, agent].filter(Boolean).join(' · '));
  };
  const fleet = new Fleet(devices, stale, (device) => {
    shown = device;
    describe(device);
    charts.show(device.id);
    shadow.show(device);
    commands.show(device);
  });
  devices.watch((changed) => {
    if (shown && changed.includes(shown)) describe(shown);
  });

  const chaos = demo && tokens ? [new Chaos(demo, tokens, link).element] : [];
  const beside = demo ? [new SideBySide(demo, token).element] : [];
  root.replaceChildren(
    el(
      'header',
      { class: 'top' },
      el('img', { src: '/icon.svg', width: 22, height: 22, alt: '' }),
      el('span', { class: 'brand' }, 'Anabranch'),
      el('span', { class: 'detail' }, 'fleet'),
      link.badge,
    ),
    el(
      'main',
      {},
      el('div', { class: 'left' }, fleet.element),
      el('div', { class: 'middle' }, el('div', { class: 'device-head' }, title, about), charts.element, ...beside),
      el('div', { class: 'right' }, continuity.element, shadow.element, commands.element, ...chaos),
    ),
  );
}
