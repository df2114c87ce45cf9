/** The platform's topics and the payloads of the demo's devices. Whatever a device sends is checked before it is shown. */
const ROOT = 'iotsphere/devices';

export const ALL_TELEMETRY = `${ROOT}/+/telemetry/#`;
export const ALL_STATUS = `${ROOT}/+/telemetry/status`;
export const ALL_DOCUMENTS = `${ROOT}/+/shadow/document`;
export const telemetryOf = (device: string): string => `${ROOT}/${device}/telemetry/#`;
export const shadowOf = (device: string, leaf: string): string => `${ROOT}/${device}/shadow/${leaf}`;

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
  /** No machine stands behind it. */
  simulated?: boolean;
}

/** What may be desired of the demo's devices. */
export type Settings = {
  intervalMs: number;
  metrics: { [metric in Metric]?: boolean };
};

/** What they report. */
export interface Reported {
  readonly intervalMs: number | undefined;
  readonly metrics: { readonly [metric in Metric]?: boolean };
  /** Metrics that the device does not have. */
  readonly unsupported: readonly string[];
  /** Why it does not do what is desired, by the JSON pointer of the field. */
  readonly refused: Readonly<Record<string, string>>;
}

/** Reads either section of a shadow, whatever is in it. */
export function readState(state: unknown): Reported {
  const { intervalMs, metrics, unsupported, refused } = record(state);
  const switches = Object.entries(record(metrics)).filter(([, on]) => typeof on === 'boolean');
  const reasons = Object.entries(record(refused)).map(([field, why]) => [field, String(why)]);
  return {
    intervalMs: number(intervalMs) ?? undefined,
    metrics: Object.fromEntries(switches) as Reported['metrics'],
    unsupported: Array.isArray(unsupported) ? unsupported.map(String) : [],
    refused: Object.fromEntries(reasons) as Record<string, string>,
  };
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
