import type { Client, SubscriptionEvent } from '@anabranch/client';
import { ALL_DOCUMENTS, ALL_STATUS, number, parse, readState, record, type Reported, type Status } from './topics.ts';

/** One device as the newest values of its topics describe it. */
export interface Device {
  readonly id: string;
  status: Status;
  reported: Reported;
  desired: Reported;
  /** The version of its shadow; 0 if it has none. */
  version: number;
  /** Unix milliseconds of the last thing it said. */
  lastSeen: number;
}

/** How the fleet came. */
export interface Painted {
  readonly topics: number;
  readonly devices: number;
  /** From the first value to the last. */
  readonly ms: number;
  /** Whether the gateway vouches that there are no others. */
  readonly complete: boolean;
}

const NOTHING = readState(null);

/**
 * All devices, by the newest values of two wildcards: who they are, and their shadows. They are shown when both snapshots are whole; from then on, what
 * changes is shown once a frame, however much it is.
 */
export class Devices {
  private readonly known = new Map<string, Device>();
  private readonly watchers: ((changed: readonly Device[], gone: readonly string[]) => void)[] = [];
  private readonly snapshots: Snapshot[];
  private readonly changed = new Map<string, Device>();
  private readonly gone = new Set<string>();
  private due = false;
  private shown = false;

  constructor(
    client: Client,
    private readonly painted: (painted: Painted) => void,
  ) {
    const watch = (filter: string): Snapshot => {
      const snapshot: Snapshot = { named: new Set(), begun: 0, whole: false, complete: true };
      // Each load begins with everything: the page itself has forgotten what it showed.
      client.on(filter, (event) => this.take(snapshot, event), { from: 'now', snapshot: 'if_new' });
      return snapshot;
    };
    this.snapshots = [watch(ALL_STATUS), watch(ALL_DOCUMENTS)];
  }

  get(id: string): Device | undefined {
    return this.known.get(id);
  }

  get count(): number {
    return this.known.size;
  }

  /** Called with the devices that are new or have changed, and those that are gone. */
  watch(watcher: (changed: readonly Device[], gone: readonly string[]) => void): void {
    this.watchers.push(watcher);
  }

  /** How often a device reports, in milliseconds; a second where it does not say. */
  intervalOf(id: string): number {
    return this.known.get(id)?.reported.intervalMs ?? 1000;
  }

  seen(id: string, at: number): void {
    const device = this.known.get(id);
    if (device && at > device.lastSeen) device.lastSeen = at;
  }

  private take(snapshot: Snapshot, event: SubscriptionEvent): void {
    if (event.type === 'snapshot_begins') Object.assign(snapshot, { named: new Set(), begun: performance.now(), whole: false });
    if (event.type === 'snapshot_ends') this.complete(snapshot, event.complete);
    if (event.type !== 'message') return;
    const topic = parse(event.topic);
    if (!topic) return;
    if (!snapshot.whole) snapshot.named.add(topic.device);
    const isStatus = topic.kind === 'telemetry/status';
    if (event.payload === null) return this.forget(topic.device, isStatus);
    const device = this.known.get(topic.device) ?? nobody(topic.device);
    this.known.set(topic.device, device);
    if (isStatus) {
      device.status = record(event.payload);
      this.seen(device.id, Date.parse(event.metadata.timestamp));
    } else this.takeDocument(device, event.payload);
    this.request(device);
  }

  private takeDocument(device: Device, payload: unknown): void {
    const { version, state } = record(payload);
    const { desired, reported } = record(state);
    Object.assign(device, { version: number(version) ?? 0, desired: readState(desired), reported: readState(reported) });
  }

  /** One of its two topics has no value any more. */
  private forget(id: string, status: boolean): void {
    const device = this.known.get(id);
    if (!device) return;
    if (status) device.status = {};
    else Object.assign(device, { version: 0, desired: NOTHING, reported: NOTHING });
    if (device.version > 0 || Object.keys(device.status).length > 0) return this.request(device);
    this.known.delete(id);
    this.changed.delete(id);
    this.gone.add(id);
    this.request();
  }

  /** What a whole snapshot does not name has no value. */
  private complete(snapshot: Snapshot, complete: boolean): void {
    Object.assign(snapshot, { whole: true, complete });
    const status = snapshot === this.snapshots[0];
    for (const { id } of complete ? [...this.known.values()] : []) if (!snapshot.named.has(id)) this.forget(id, status);
    if (this.shown || !this.snapshots.every(({ whole }) => whole)) return;
    this.shown = true;
    const topics = this.snapshots.reduce((all, { named }) => all + named.size, 0);
    const ms = performance.now() - Math.min(...this.snapshots.map(({ begun }) => begun));
    this.painted({ topics, devices: this.known.size, ms, complete: this.snapshots.every((one) => one.complete) });
    this.request();
  }

  private request(device?: Device): void {
    if (device) {
      this.changed.set(device.id, device);
      this.gone.delete(device.id);
    }
    if (this.due || !this.shown) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      const [changed, gone] = [[...this.changed.values()], [...this.gone]];
      this.changed.clear();
      this.gone.clear();
      for (const watcher of this.watchers) watcher(changed, gone);
    });
  }
}

/** One wildcard's snapshot on its way. */
interface Snapshot {
  named: Set<string>;
  begun: number;
  whole: boolean;
  complete: boolean;
}

function nobody(id: string): Device {
  return { id, status: {}, reported: NOTHING, desired: NOTHING, version: 0, lastSeen: 0 };
}
