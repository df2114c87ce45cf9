/** The platform's topics and the payloads of the demo's devices. Whatever a device sends is checked before it is shown. */
const ROOT = 'iotsphere/devices';

export const ALL_TELEMETRY = `${ROOT}/+/telemetry/#`;
export const ALL_STATUS = `${ROOT}/+/telemetry/status`;
export const ALL_SHADOWS = `${ROOT}/+/shadow/+`;
export const telemetryOf = (device: string): string => `${ROOT}/${device}/telemetry/#`;
export const desiredOf = (device: string): string => `${ROOT}/${device}/shadow/desired`;

export const METRICS = ['cpu', 'memory', 'disk', 'network', 'temperature'] as const;
export type Metric = (typeof METRICS)[number];

/** `device` and the rest of a topic, `telemetry/cpu`; nothing for a topic of another shape. */
export function parse(topic: string): { device: string; kind: string } | undefined {
  const [root, devices, device, ...rest] = topic.split('/');
  if (`${root}/${devices}` !== ROOT || !device || rest.length === 0) return undefined;
  return { device, kind: rest.join('/') };
}

export interface Status {
  host?: string;
  os?: string;
  kernel?: string;
  uptimeSec?: number;
  agent?: string;
}

/** What a shadow says: a device's own word in `reported`, a user's wish in `desired`. */
export interface ShadowDocument {
  version?: number;
  intervalMs?: number;
  metrics?: Partial<Record<Metric, boolean>>;
  desiredVersion?: number | null;
  /** Metrics that the device does not have. */
  unsupported?: string[];
  /** A wish that the device refused, and why. */
  rejected?: { version?: number | null; reason?: string };
}

/** The payload as an object, whatever it is. */
export function record(payload: unknown): Record<string, unknown> {
  return typeof payload === 'object' && payload !== null ? (payload as Record<string, unknown>) : {};
}

export function number(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

export function records(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.map(record) : [];
}
