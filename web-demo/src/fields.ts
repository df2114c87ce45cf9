import { METRICS, type Metric, type Reported, type Settings } from './topics.ts';
import * as units from './units.ts';

/** One thing that may be desired of a device: its JSON pointer, and its value as text. */
export interface Field {
  readonly name: string;
  readonly pointer: string;
  /** Nothing where the state does not say. */
  read(state: Reported): string | undefined;
}

const metricField = (metric: Metric): Field => ({
  name: metric,
  pointer: `/metrics/${metric}`,
  read({ metrics, unsupported }) {
    if (unsupported.includes(metric)) return 'none';
    return metrics[metric] === undefined ? undefined : metrics[metric] ? 'on' : 'off';
  },
});

export const FIELDS: readonly Field[] = [
  {
    name: 'interval',
    pointer: '/intervalMs',
    read: ({ intervalMs }) => (intervalMs === undefined ? undefined : units.interval(intervalMs)),
  },
  ...METRICS.map(metricField),
];

/** A merge patch of what is desired. */
export type SettingsPatch = { -readonly [key in keyof Settings]?: Settings[key] };

/** The fields that are desired and not reported. */
export function differing(desired: Reported, reported: Reported): Field[] {
  return FIELDS.filter((field) => {
    const [wish, is] = [field.read(desired), field.read(reported)];
    return wish !== undefined && is !== 'none' && wish !== is;
  });
}

/** The fields in which two states differ. */
export function changed(before: Reported, now: Reported): Field[] {
  return FIELDS.filter((field) => field.read(before) !== field.read(now));
}

/** `interval 2 s, disk off`: what a state says of some fields. */
export function describe(state: Reported, fields: readonly Field[]): string {
  return fields.map((field) => `${field.name} ${field.read(state) ?? 'not said'}`).join(', ');
}
