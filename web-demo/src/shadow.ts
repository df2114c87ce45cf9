import type { Client } from '@anabranch/client';
import { age, ago, everyTick } from './age.ts';
import { isPending, type Device, type Devices } from './devices.ts';
import { el, panel, say } from './dom.ts';
import { METRICS, type ShadowDocument } from './topics.ts';
import * as units from './units.ts';
import { Wish } from './wish.ts';

/** The fields of a shadow that a user may wish for, as text. */
const FIELDS: readonly [string, (document: ShadowDocument) => string | undefined][] = [
  ['interval', ({ intervalMs }) => (intervalMs === undefined ? undefined : units.interval(intervalMs))],
  ...METRICS.map((metric): [string, (document: ShadowDocument) => string | undefined] => [
    metric,
    ({ metrics, unsupported }) => {
      if (unsupported?.includes(metric)) return 'none';
      return metrics?.[metric] === undefined ? undefined : metrics[metric] ? 'on' : 'off';
    },
  ]),
];

/** A device's shadow: what it reports, what is wished, what is pending and for how long; and the form to wish. */
export class Shadow {
  readonly element: HTMLElement;
  private readonly wish: Wish;
  private readonly summary = el('p', { class: 'summary', role: 'status' });
  private readonly body = el('tbody');
  private device: Device | undefined;

  constructor(
    client: Client,
    devices: Devices,
    private readonly stale: () => boolean,
  ) {
    this.wish = new Wish(client);
    const head = ['Field', 'Reported', 'Desired', ''].map((title) => el('th', { scope: 'col' }, title));
    const table = el('table', { class: 'shadow' }, el('thead', {}, el('tr', {}, ...head)), this.body);
    this.element = panel('Shadow', this.summary, table, this.wish.element);
    devices.watch((device) => {
      if (device.id === this.device?.id) this.show(device);
    });
    everyTick((now) => this.tick(now));
  }

  show(device: Device): void {
    this.device = device;
    this.wish.show(device);
    const reported = device.reported?.document ?? {};
    const desired = device.desired?.document ?? {};
    const pending = isPending(device);
    this.body.replaceChildren(
      ...FIELDS.map(([name, text]) => {
        const [is, wished] = [text(reported), text(desired)];
        const differs = wished !== undefined && is !== 'none' && wished !== is;
        const state = !differs ? '' : pending ? 'pending' : 'differs';
        return el(
          'tr',
          { class: state },
          el('th', { scope: 'row' }, name),
          el('td', {}, is ?? '–'),
          el('td', {}, wished ?? '–'),
          el('td', { class: 'state' }, state),
        );
      }),
    );
    this.tick(Date.now());
  }

  private tick(now: number): void {
    const stale = this.stale();
    this.element.classList.toggle('stale', stale);
    const { reported, desired } = this.device ?? {};
    if (!this.device || !reported) return say(this.summary, this.device ? 'No shadow reported yet.' : 'Choose a device.');
    const version = `version ${reported.document.version ?? '–'}, reported ${ago(now - reported.at)}`;
    const waits = desired && isPending(this.device) ? ` · wish ${desired.document.version} pending for ${age(now - desired.at)}` : '';
    const { rejected } = reported.document;
    const refused = rejected ? ` · wish ${rejected.version ?? ''} refused: ${rejected.reason ?? 'no reason given'}` : '';
    say(this.summary, `${version}${waits}${refused}${stale ? ' · stale' : ''}`);
  }
}
