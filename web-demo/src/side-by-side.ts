import type { TokenFunction } from '@anabranch/client';
import { age, everyTick } from './age.ts';
import type { Demo } from './demo.ts';
import { el, panel, say } from './dom.ts';
import { Lane } from './lane.ts';
import * as units from './units.ts';

/** Bytes a second. */
const SPEEDS = [4, 8, 16, 32].map((kib) => kib * 1024);
const DEFAULT_SPEED = 16 * 1024;
const LANES = ['healthy', 'throttled'] as const;
const ROWS = ['values', 'delay', 'current', 'behind', 'skipped'] as const;
type Row = (typeof ROWS)[number];

const TITLES: Record<Row, string> = {
  values: 'Values',
  delay: 'Age on arrival',
  current: 'Newest value of',
  behind: 'Longest out of date',
  skipped: 'Skipped, replaced by newer',
};

/** A value that the healthy client has and the throttled one has not: its place, and since when. */
interface Owed {
  readonly offset: bigint;
  readonly since: number;
}

/**
 * The same subscription over two links, of which one can be throttled: the slow one gets fewer values, each the newest there is, and is nobody's burden. Released, it has what the
 * other has.
 */
export class SideBySide {
  readonly element: HTMLElement;
  private readonly start = el('button', { type: 'button', onclick: () => this.open() }, 'Open two clients');
  private readonly throttle = el('button', { type: 'button', onclick: () => void this.slow() }, 'Throttle');
  private readonly release = el('button', { type: 'button', onclick: () => void this.free() }, 'Release');
  private readonly speed = el('select', { 'aria-label': 'Speed of the slow link' }, ...SPEEDS.map((bytes) => el('option', { value: bytes, selected: bytes === DEFAULT_SPEED }, units.rate(bytes))));
  private readonly verdict = el('p', { class: 'hint', role: 'status', id: 'verdict' });
  private readonly cells = LANES.map(() => el('div', { class: 'cells', 'aria-hidden': 'true' }));
  private readonly values = new Map<string, HTMLElement>();
  private readonly compared: HTMLElement;
  private lanes: readonly [Lane, Lane] | undefined;
  /** By device, oldest first. */
  private readonly owed = new Map<string, Owed[]>();
  private skipped = 0;
  private releasedAt: number | undefined;
  private readonly marks = new Map<string, readonly HTMLElement[]>();

  constructor(
    private readonly demo: Demo,
    private readonly token: TokenFunction,
  ) {
    const head = ['', ...LANES].map((title) => el('th', { scope: 'col' }, title));
    const rows = ROWS.map((row) => {
      const cells = LANES.map((lane) => {
        const cell = el('td', { id: `${lane}-${row}` }, '–');
        this.values.set(`${lane}-${row}`, cell);
        return cell;
      });
      return el('tr', {}, el('th', { scope: 'row' }, TITLES[row]), ...cells);
    });
    const table = el('table', { class: 'lanes' }, el('thead', {}, el('tr', {}, ...head)), el('tbody', {}, ...rows));
    const maps = LANES.map((lane, at) => el('figure', {}, el('figcaption', {}, lane), this.cells[at] as HTMLElement));
    this.compared = el('div', { class: 'compared', hidden: true }, table, ...maps);
    const buttons = el('div', { class: 'row tools' }, this.start, this.speed, this.throttle, this.release);
    this.element = panel('A slow client beside a healthy one', buttons, this.verdict, this.compared);
    say(this.verdict, 'The status of every device, to two clients of their own; the link of one can be made slow.');
    this.offer();
    everyTick((now) => this.tick(now));
  }

  private open(): void {
    if (this.lanes) return this.close();
    this.lanes = [
      new Lane('healthy', this.demo.wsUrl, this.token, (device, offset) => this.healthy(device, offset)),
      new Lane('throttled', this.demo.slowUrl, this.token, (device, offset) => this.late(device, offset)),
    ];
    say(this.verdict, 'Each has a connection of its own.');
    this.offer();
  }

  private close(): void {
    void this.ask('release');
    for (const lane of this.lanes ?? []) lane.close();
    this.lanes = undefined;
    this.owed.clear();
    this.marks.clear();
    for (const cells of this.cells) cells.replaceChildren();
    Object.assign(this, { skipped: 0, releasedAt: undefined });
    say(this.verdict, '');
    this.offer();
  }

  private offer(): void {
    say(this.start, this.lanes ? 'Close them' : 'Open two clients');
    this.compared.hidden = !this.lanes;
    for (const control of [this.speed, this.throttle, this.release]) control.disabled = !this.lanes;
  }

  private async slow(): Promise<void> {
    const bytes = Number(this.speed.value);
    if (!(await this.ask(`throttle?bytes=${bytes}`))) return;
    this.releasedAt = undefined;
    say(this.verdict, `The throttled client gets ${units.rate(bytes)}.`);
  }

  private async free(): Promise<void> {
    if (!(await this.ask('release'))) return;
    this.releasedAt = performance.now();
    this.judge();
  }

  private async ask(command: string): Promise<boolean> {
    const response = await fetch(`${this.demo.controlUrl}/slow/${command}`, { method: 'POST' }).catch(() => undefined);
    if (!response?.ok) say(this.verdict, 'The slow link’s control does not answer.');
    return response?.ok === true;
  }

  private healthy(device: string, offset: bigint): void {
    const has = this.lanes?.[1].newest.get(device) ?? -1n;
    if (has >= offset) return this.judge();
    this.owed.set(device, [...(this.owed.get(device) ?? []), { offset, since: Date.now() }]);
  }

  private late(device: string, offset: bigint): void {
    const owed = this.owed.get(device) ?? [];
    const left = owed.filter((one) => one.offset > offset);
    this.skipped += owed.filter((one) => one.offset < offset).length;
    if (left.length === 0) this.owed.delete(device);
    else this.owed.set(device, left);
    this.judge();
  }

  /** Since the release: whether both have the same of every device. */
  private judge(): void {
    if (this.releasedAt === undefined || this.owed.size > 0 || !this.lanes) return;
    const ms = Math.round(performance.now() - this.releasedAt);
    this.releasedAt = undefined;
    const devices = this.lanes[1].newest.size;
    say(this.verdict, `Released: after ${ms} ms both had the same value of all ${devices} devices. Skipped on the way: ${this.skipped.toLocaleString()}.`);
  }

  private tick(now: number): void {
    if (!this.lanes) return;
    const [healthy] = this.lanes;
    this.lanes.forEach((lane, at) => {
      const { rate, delay } = lane.pace(now);
      const behind = at === 0 ? 0 : this.owed.size;
      const oldest = at === 0 ? now : Math.min(now, ...[...this.owed.values()].map(([first]) => first?.since ?? now));
      const texts: Record<Row, string> = {
        values: lane.phase === 'live' || rate > 0 ? `${rate.toFixed(1)}/s` : lane.phase,
        delay: delay === undefined ? '–' : delay < 1000 ? `${Math.round(delay)} ms` : `${(delay / 1000).toFixed(1)} s`,
        current: `${healthy.newest.size - behind} of ${healthy.newest.size}`,
        behind: age(now - oldest),
        skipped: at === 0 ? '0' : this.skipped.toLocaleString(),
      };
      for (const row of ROWS) say(this.values.get(`${LANES[at]}-${row}`) as HTMLElement, texts[row]);
    });
    this.paint(healthy);
  }

  /** A cell for each device and client: whether it has the newest value. */
  private paint(healthy: Lane): void {
    for (const device of healthy.newest.keys()) {
      if (this.marks.has(device)) continue;
      const marks = this.cells.map((cells) => cells.appendChild(el('i', { title: device, class: 'alive' })));
      this.marks.set(device, marks);
    }
    for (const [device, [, mark]] of this.marks) {
      const shade = this.owed.has(device) ? 'alive pending' : 'alive';
      if (mark && mark.className !== shade) mark.className = shade;
    }
  }
}
