import { ago, everyTick } from './age.ts';
import { isPending, type Device, type Devices } from './devices.ts';
import { el, panel, say } from './dom.ts';

interface Row {
  readonly button: HTMLButtonElement;
  readonly host: HTMLElement;
  readonly seen: HTMLElement;
  readonly note: HTMLElement;
}

/** The list of devices: who is there, who has gone quiet, who owes an answer. */
export class Fleet {
  readonly element: HTMLElement;
  private readonly rows = new Map<string, Row>();
  private readonly list = el('ul', { class: 'fleet' });
  private readonly empty = el('p', { class: 'hint' }, 'No device has reported yet.');
  private selected: string | undefined;

  constructor(
    private readonly devices: Devices,
    /** Whether the list may lag behind the log. */
    private readonly stale: () => boolean,
    private readonly select: (device: Device) => void,
  ) {
    this.element = panel('Devices', this.list, this.empty);
    devices.watch((device) => this.show(device));
    everyTick((now) => this.tick(now));
  }

  private show(device: Device): void {
    const row = this.rows.get(device.id) ?? this.add(device);
    const { os, host } = device.status;
    say(row.host, [host === device.id ? undefined : host, os].filter(Boolean).join(' · '));
    this.tick(Date.now());
    if (this.selected === undefined) this.choose(device);
  }

  private add(device: Device): Row {
    const row: Row = {
      button: el('button', { type: 'button', onclick: () => this.choose(device) }),
      host: el('span', { class: 'detail' }),
      seen: el('span', { class: 'seen' }),
      note: el('span', { class: 'chip' }),
    };
    row.button.append(el('span', { class: 'dot' }), el('b', {}, device.id), row.seen, row.host, row.note);
    this.rows.set(device.id, row);
    const ordered = this.devices.all().flatMap(({ id }) => this.rows.get(id)?.button ?? []);
    this.list.replaceChildren(...ordered.map((button) => el('li', {}, button)));
    this.empty.hidden = true;
    return row;
  }

  private choose(device: Device): void {
    if (this.selected === device.id) return;
    this.selected = device.id;
    for (const [id, row] of this.rows) row.button.setAttribute('aria-pressed', String(id === device.id));
    this.select(device);
  }

  private tick(now: number): void {
    const stale = this.stale();
    for (const [id, row] of this.rows) {
      const device = this.devices.get(id);
      if (!device) continue;
      const quiet = now - device.lastSeen > 3 * this.devices.intervalOf(id) + 5_000;
      row.button.classList.toggle('stale', stale || quiet);
      row.button.classList.toggle('alive', !stale && !quiet);
      say(row.seen, ago(now - device.lastSeen));
      say(row.note, stale ? 'stale' : quiet ? 'quiet' : isPending(device) ? 'pending' : '');
    }
  }
}
