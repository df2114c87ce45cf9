import { age, everyTick } from './age.ts';
import type { Device, Devices, Painted } from './devices.ts';
import { el, panel, say } from './dom.ts';
import { differing } from './fields.ts';

interface Row {
  readonly item: HTMLElement;
  readonly button: HTMLButtonElement;
  readonly cell: HTMLElement;
  readonly host: HTMLElement;
  readonly seen: HTMLElement;
  readonly note: HTMLElement;
  /** What is searched. */
  text: string;
  simulated: boolean;
  owes: '' | 'pending' | 'refused';
}

/** The fleet: each device a cell at a glance, and a row to choose it by; who is there, who has gone quiet, who owes something. */
export class Fleet {
  readonly element: HTMLElement;
  private readonly rows = new Map<string, Row>();
  private readonly list = el('ul', { class: 'fleet' });
  private readonly cells = el('div', { class: 'cells', 'aria-hidden': 'true', onclick: (event) => this.click(event) });
  private readonly counts = el('p', { class: 'summary', id: 'fleet-counts' }, 'No device has reported yet.');
  private readonly paint = el('p', { class: 'hint', id: 'painted' });
  private readonly search = el('input', {
    type: 'search',
    placeholder: 'find a device',
    'aria-label': 'Find a device',
    oninput: () => this.filter(),
  });
  private selected: string | undefined;
  /** Whether somebody has chosen; else the first real machine is shown as soon as it is there. */
  private chosen = false;
  private unordered = false;
  private whole: Painted | undefined;

  constructor(
    private readonly devices: Devices,
    /** Whether the list may lag behind the log. */
    private readonly stale: () => boolean,
    private readonly select: (device: Device) => void,
  ) {
    this.element = panel('Devices', this.counts, this.cells, this.search, this.list, this.paint);
    devices.watch((changed, gone) => this.show(changed, gone));
    everyTick((now) => this.tick(now));
  }

  /** The fleet has come whole; the next frame shows it. */
  painted(whole: Painted): void {
    this.whole = whole;
  }

  private show(changed: readonly Device[], gone: readonly string[]): void {
    const begun = performance.now();
    for (const id of gone) this.remove(id);
    for (const device of changed) this.update(device);
    if (this.unordered) this.order();
    this.tick(Date.now());
    if (this.whole) this.tell(this.whole, begun);
    this.whole = undefined;
  }

  /** Says how the first paint went, when it has gone to the screen. */
  private tell({ topics, devices, ms, complete }: Painted, begun: number): void {
    requestAnimationFrame(() =>
      setTimeout(() => {
        const paint = performance.now() - begun;
        const sure = complete ? '' : '; some may be missing';
        say(this.paint, `${topics} topics of ${devices} devices, whole after ${Math.round(ms)} ms, painted at once in ${Math.round(paint)} ms${sure}`);
      }),
    );
  }

  private update(device: Device): void {
    const row = this.rows.get(device.id) ?? this.add(device);
    const { os, host } = device.status;
    say(row.host, [host === device.id ? undefined : host, os].filter(Boolean).join(' · '));
    const simulated = device.status.simulated === true;
    if (row.simulated !== simulated) this.unordered = true;
    row.simulated = simulated;
    row.text = `${device.id} ${row.host.textContent ?? ''}`.toLowerCase();
    const open = differing(device.desired, device.reported);
    const refused = open.length > 0 && open.every(({ pointer }) => pointer in device.reported.refused);
    row.owes = open.length === 0 ? '' : refused ? 'refused' : 'pending';
  }

  private add(device: Device): Row {
    const button = el('button', { type: 'button', 'aria-pressed': 'false', onclick: () => this.pick(device) });
    const row: Row = {
      item: el('li', {}, button),
      button,
      cell: el('i', { title: device.id, 'data-id': device.id }),
      host: el('span', { class: 'detail' }),
      seen: el('span', { class: 'seen' }),
      note: el('span', { class: 'chip' }),
      text: device.id,
      simulated: false,
      owes: '',
    };
    button.append(el('span', { class: 'dot' }), el('b', {}, device.id), row.seen, row.host, row.note);
    this.rows.set(device.id, row);
    this.unordered = true;
    return row;
  }

  private remove(id: string): void {
    const row = this.rows.get(id);
    row?.item.remove();
    row?.cell.remove();
    this.rows.delete(id);
    if (this.selected === id) Object.assign(this, { selected: undefined, unordered: true });
  }

  /** Real machines first. */
  private order(): void {
    this.unordered = false;
    const rank = ([a, one]: [string, Row], [b, other]: [string, Row]): number =>
      Number(one.simulated) - Number(other.simulated) || (a < b ? -1 : 1);
    const ordered = [...this.rows].sort(rank);
    this.list.replaceChildren(...ordered.map(([, { item }]) => item));
    this.cells.replaceChildren(...ordered.map(([, { cell }]) => cell));
    this.filter();
    // Whoever looks for the first time sees something move.
    const [first] = ordered.map(([id]) => this.devices.get(id)).sort((a, b) => Number(this.isQuiet(a)) - Number(this.isQuiet(b)));
    const shown = this.rows.get(this.selected ?? '');
    if (first && (!shown || (!this.chosen && shown.simulated))) this.choose(first);
  }

  private filter(): void {
    this.search.hidden = this.cells.hidden = this.rows.size < 12;
    const words = this.search.hidden ? '' : this.search.value.trim().toLowerCase();
    for (const row of this.rows.values()) row.item.hidden = !row.text.includes(words);
  }

  private click(event: Event): void {
    const device = this.devices.get((event.target as HTMLElement).dataset['id'] ?? '');
    if (!device) return;
    this.pick(device);
    this.rows.get(device.id)?.item.scrollIntoView({ block: 'nearest' });
  }

  private pick(device: Device): void {
    this.chosen = true;
    this.choose(device);
  }

  private choose(device: Device): void {
    if (this.selected === device.id) return;
    for (const id of [this.selected ?? '', device.id]) this.rows.get(id)?.button.setAttribute('aria-pressed', String(id === device.id));
    this.selected = device.id;
    this.select(device);
  }

  private isQuiet(device: Device | undefined, now = Date.now()): boolean {
    return !device || now - device.lastSeen > 3 * this.devices.intervalOf(device.id) + 5_000;
  }

  private tick(now: number): void {
    const stale = this.stale();
    let [alive, owing] = [0, 0];
    for (const [id, row] of this.rows) {
      const device = this.devices.get(id);
      if (!device) continue;
      const quiet = this.isQuiet(device, now);
      if (!quiet) alive += 1;
      if (row.owes) owing += 1;
      const state = stale ? 'stale' : quiet ? 'quiet' : row.owes;
      const mark = `${stale || quiet ? 'stale' : 'alive'} ${row.owes}`.trim();
      if (row.button.className !== mark) row.button.className = row.cell.className = mark;
      if (row.item.hidden) continue;
      say(row.seen, device.lastSeen === 0 ? 'never' : age(now - device.lastSeen));
      say(row.note, state);
    }
    const owe = owing === 0 ? '' : ` · ${owing} ${owing === 1 ? 'owes' : 'owe'} an answer`;
    if (this.rows.size > 0) say(this.counts, `${this.rows.size} devices · ${stale ? 'not known to be' : alive} alive${owe}`);
  }
}
