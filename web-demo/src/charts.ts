import type { Client, Subscription, SubscriptionEvent } from '@anabranch/client';
import { everyTick } from './age.ts';
import { Chart } from './chart.ts';
import { el, say } from './dom.ts';
import { disks, VIEWS } from './metrics.ts';
import { parse, record, telemetryOf } from './topics.ts';
import * as units from './units.ts';

const HISTORY_MS = 10 * 60_000;
const WINDOWS: readonly [string, number][] = [
  ['2 min', 2 * 60_000],
  ['5 min', 5 * 60_000],
  ['10 min', HISTORY_MS],
];

/** Whether a device sends a metric: it does, it was told not to, or it has none. */
export type Mode = 'on' | 'off' | 'unsupported';

/** The telemetry of one device. It opens with ten minutes of history from the log. */
export class Charts {
  readonly element = el('div', { class: 'charts' });
  private readonly grid = el('div', { class: 'chart-grid' });
  private readonly diskRows = el('div', { class: 'disks' });
  private charts = new Map<string, Chart>();
  private subscription: Subscription | undefined;
  private windowMs = 2 * 60_000;
  private lastAt = new Map<string, number>();

  constructor(
    private readonly client: Client,
    /** How often the device reports, in milliseconds, and how it is with one of its metrics. */
    private readonly intervalMs: () => number,
    private readonly mode: (metric: string) => Mode,
    /** Fills the place beside the last chart. */
    private readonly beside: HTMLElement,
  ) {
    const choices = WINDOWS.map(([label, ms]) => {
      const input = el('input', { type: 'radio', name: 'window', onchange: () => this.look(ms) });
      input.checked = ms === this.windowMs;
      return el('label', {}, input, el('span', {}, label));
    });
    const choose = el('fieldset', { class: 'segments', 'aria-label': 'Time shown' }, ...choices);
    this.element.append(el('div', { class: 'charts-head' }, el('h2', {}, 'Telemetry'), choose), this.grid);
    this.grid.append(beside);
    everyTick((now) => this.tick(now));
  }

  show(device: string): void {
    this.subscription?.close();
    this.lastAt.clear();
    this.charts = new Map(VIEWS.map((view) => [view.metric, new Chart(view, HISTORY_MS, this.intervalMs)]));
    this.diskRows.replaceChildren();
    const head = el('header', {}, el('h3', {}, 'Disk'), el('span', { class: 'chip' }));
    const disk = el('article', { class: 'chart', 'aria-label': 'Disk', id: 'disk' }, head, this.diskRows);
    this.grid.replaceChildren(...[...this.charts.values()].map((chart) => chart.element), disk, this.beside);
    this.subscription = this.client.on(telemetryOf(device), (event) => this.take(event), { from: { sinceMs: HISTORY_MS } });
    this.tick(Date.now());
  }

  private take(event: SubscriptionEvent): void {
    if (event.type === 'gap') {
      const newest = Math.max(0, ...this.lastAt.values());
      for (const chart of this.charts.values()) chart.gap(newest, Date.now());
    }
    if (event.type !== 'message') return;
    const metric = parse(event.topic)?.kind.split('/')[1] ?? '';
    const at = Date.parse(event.metadata.timestamp);
    this.lastAt.set(metric, at);
    if (metric === 'disk') this.showDisks(event.payload);
    else this.charts.get(metric)?.add(at, record(event.payload));
  }

  private showDisks(payload: unknown): void {
    const rows = disks(payload).map(({ mount, used, total }) =>
      el(
        'div',
        { class: 'disk' },
        el('span', { class: 'mount', title: mount }, mount),
        el('meter', { min: 0, max: total, high: total * 0.9, value: used, 'aria-label': `${mount} used` }),
        el('span', { class: 'detail' }, `${units.bytes(used)} of ${units.bytes(total)}`),
      ),
    );
    this.diskRows.replaceChildren(...rows.slice(0, 4));
  }

  private look(ms: number): void {
    this.windowMs = ms;
    this.tick(Date.now());
  }

  /** A value is stale when the connection cannot vouch for it, or when the device should have said another by now. */
  private tick(now: number): void {
    const limit = 3 * this.intervalMs() + 2_000;
    const unsure = this.subscription?.stale ?? true;
    const overdue = (metric: string): boolean => now - (this.lastAt.get(metric) ?? now) > limit;
    const stale = (metric: string): boolean => unsure || (this.mode(metric) === 'on' && overdue(metric));
    for (const [metric, chart] of this.charts) {
      const mode = this.mode(metric);
      chart.element.hidden = mode === 'unsupported';
      chart.tick(now, this.windowMs, stale(metric), mode === 'off');
    }
    const disk = this.grid.querySelector<HTMLElement>('#disk');
    if (disk) disk.hidden = this.mode('disk') === 'unsupported';
    const shown = [...this.grid.children].filter((card) => !(card as HTMLElement).hidden).length;
    this.beside.classList.toggle('wide', shown % 2 === 1);
    const since = this.lastAt.get('disk');
    disk?.classList.toggle('stale', stale('disk'));
    const chip = disk?.querySelector<HTMLElement>('.chip');
    if (chip) say(chip, since === undefined ? 'no data yet' : stale('disk') ? 'stale' : '');
  }
}
