import type { Client, SubscriptionEvent } from '@anabranch/client';
import { ALL_SHADOWS, ALL_STATUS, parse, record, type ShadowDocument, type Status } from './topics.ts';

/** How far back the page looks for devices. A device that is on says who it is every few seconds. */
const STATUS_MS = 60_000;
/** And for what was wished and reported. */
const SHADOWS_MS = 24 * 3_600_000;

/** One device as the log describes it. */
export interface Device {
  readonly id: string;
  status: Status;
  /** Unix milliseconds of the last thing it said. */
  lastSeen: number;
  reported?: Dated;
  desired?: Dated;
}

/** A shadow document and when it was written. */
export interface Dated {
  readonly at: number;
  readonly document: ShadowDocument;
}

/** The newest wish that the device has answered, by obeying or by refusing. */
export function answered({ reported }: Device): number {
  const { desiredVersion, rejected } = reported?.document ?? {};
  return Math.max(desiredVersion ?? 0, rejected?.version ?? 0);
}

/** Whether the device has yet to answer the newest wish. */
export function isPending(device: Device): boolean {
  const wished = device.desired?.document.version;
  return wished !== undefined && answered(device) < wished;
}

/** The devices that have said who they are, found by two wildcard subscriptions. */
export class Devices {
  private readonly known = new Map<string, Device>();
  private readonly watchers: ((device: Device) => void)[] = [];

  constructor(client: Client) {
    const take = (event: SubscriptionEvent): void => this.take(event);
    client.on(ALL_STATUS, take, { from: { sinceMs: STATUS_MS } });
    client.on(ALL_SHADOWS, take, { from: { sinceMs: SHADOWS_MS } });
  }

  get(id: string): Device | undefined {
    return this.known.get(id);
  }

  all(): Device[] {
    return [...this.known.values()].sort((a, b) => a.id.localeCompare(b.id));
  }

  /** Called with each device that is new or has changed. */
  watch(watcher: (device: Device) => void): void {
    this.watchers.push(watcher);
  }

  /** How often a device reports, in milliseconds; a second where it does not say. */
  intervalOf(id: string): number {
    return this.known.get(id)?.reported?.document.intervalMs ?? 1000;
  }

  seen(id: string, at: number): void {
    const device = this.known.get(id);
    if (device && at > device.lastSeen) device.lastSeen = at;
  }

  private take(event: SubscriptionEvent): void {
    if (event.type !== 'message') return;
    const topic = parse(event.topic);
    if (!topic) return;
    const at = Date.parse(event.metadata.timestamp);
    const device = this.known.get(topic.device) ?? { id: topic.device, status: {}, lastSeen: 0 };
    this.known.set(topic.device, device);
    const payload = record(event.payload);
    if (topic.kind === 'telemetry/status') device.status = payload;
    if (topic.kind === 'shadow/reported') device.reported = { at, document: payload };
    if (topic.kind === 'shadow/desired') device.desired = { at, document: payload };
    // A wish is a user's word: it does not show that the device is alive.
    if (topic.kind !== 'shadow/desired') this.seen(topic.device, at);
    for (const watcher of this.watchers) watcher(device);
  }
}
