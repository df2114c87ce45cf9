import { number, record, records, type Metric } from './topics.ts';
import * as units from './units.ts';

/** How one kind of telemetry becomes a chart: its lines, how a payload is read, how a value is written. */
export interface MetricView {
  readonly metric: Metric;
  readonly title: string;
  readonly lines: readonly string[];
  /** The top of the scale where it is fixed. */
  readonly max?: number;
  /** The same, where the payload says it. */
  maxOf?(payload: Record<string, unknown>): number | null;
  /** Bytes: the scale goes in powers of two. */
  readonly binary?: true;
  /** One value for each line; null where the payload has none. */
  read(payload: Record<string, unknown>): (number | null)[];
  write(value: number): string;
  /** What the newest payload says beyond the lines. */
  detail(payload: Record<string, unknown>): string;
}

export const VIEWS: readonly MetricView[] = [
  {
    metric: 'cpu',
    title: 'CPU',
    lines: ['total'],
    max: 100,
    read: (payload) => [number(payload['total'])],
    write: units.percent,
    detail(payload) {
      const cores = Array.isArray(payload['cores']) ? payload['cores'].map(number) : [];
      return cores.length === 0 ? '' : `cores ${cores.map((core) => (core === null ? '–' : core.toFixed(0))).join(' · ')}`;
    },
  },
  {
    metric: 'memory',
    title: 'Memory',
    lines: ['used', 'swap'],
    binary: true,
    maxOf: (payload) => number(payload['totalBytes']),
    read: (payload) => [number(payload['usedBytes']), number(payload['swapUsedBytes'])],
    write: units.bytes,
    detail(payload) {
      const total = number(payload['totalBytes']);
      return total === null ? '' : `/ ${units.bytes(total)}`;
    },
  },
  {
    metric: 'network',
    title: 'Network',
    lines: ['in', 'out'],
    binary: true,
    read: (payload) => {
      const all = interfaces(payload);
      return [sum(all.map((one) => one['rxBytesPerSec'])), sum(all.map((one) => one['txBytesPerSec']))];
    },
    write: units.rate,
    detail: (payload) => interfaces(payload).map((one) => String(one['name'])).join(' · '),
  },
  {
    metric: 'temperature',
    title: 'Temperature',
    lines: ['hottest'],
    read: (payload) => [hottest(payload).celsius],
    write: units.celsius,
    detail: (payload) => hottest(payload).label ?? 'this device has no sensors',
  },
];

/** A file system and how full it is. */
export interface Disk {
  readonly mount: string;
  readonly used: number;
  readonly total: number;
}

export function disks(payload: unknown): Disk[] {
  return records(record(payload)['disks']).flatMap((disk) => {
    const [used, total] = [number(disk['usedBytes']), number(disk['totalBytes'])];
    return used === null || !total ? [] : [{ mount: String(disk['mount']), used, total }];
  });
}

/** All but the machine's talk to itself. */
function interfaces(payload: Record<string, unknown>): Record<string, unknown>[] {
  return records(payload['interfaces']).filter((one) => one['name'] !== 'lo');
}

function hottest(payload: Record<string, unknown>): { celsius: number | null; label?: string } {
  let found: { celsius: number | null; label?: string } = { celsius: null };
  for (const sensor of records(payload['sensors'])) {
    const celsius = number(sensor['celsius']);
    if (celsius !== null && celsius > (found.celsius ?? -Infinity)) found = { celsius, label: String(sensor['label']) };
  }
  return found;
}

function sum(values: unknown[]): number | null {
  return values.length === 0 ? null : values.reduce<number>((all, value) => all + (number(value) ?? 0), 0);
}
