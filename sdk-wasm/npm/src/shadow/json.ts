/** What is done to states: objects of JSON. The same as `protocol/src/merge_patch.rs` and `protocol/src/delta.rs`; `protocol/vectors/shadows.json` holds both. */
export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const has = (object: JsonObject, key: string): boolean => Object.hasOwn(object, key);

/** An object of these members, whatever their names: `__proto__` is a name like any other. */
function from(entries: Iterable<readonly [string, Json]>): JsonObject {
  return Object.fromEntries(entries) as JsonObject;
}

/** RFC 7396. What a patch does not touch stays the very same object. */
export function mergePatch(target: Json | undefined, patch: Json): Json {
  if (!isObject(patch)) return patch;
  const merged = new Map(isObject(target) ? Object.entries(target) : []);
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key);
    else merged.set(key, mergePatch(merged.get(key), value));
  }
  return from(merged);
}

export function same(a: Json | undefined, b: Json | undefined): boolean {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((item, at) => same(item, b[at] as Json));
  if (!isObject(a) || !isObject(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => has(b, key) && same(a[key], b[key]));
}

/** What is desired and not reported; null if there is nothing. */
export function delta(desired: JsonObject, reported: JsonObject): JsonObject | null {
  const open: [string, Json][] = [];
  for (const [key, want] of Object.entries(desired)) {
    const have = has(reported, key) ? reported[key] : undefined;
    if (isObject(want) && isObject(have)) {
      const inner = delta(want, have);
      if (inner) open.push([key, inner]);
    } else if (have === undefined || !same(want, have)) open.push([key, want]);
  }
  return open.length > 0 ? from(open) : null;
}

/** The merge patch that makes `now` of `before`; null if they are the same. */
export function diff(before: JsonObject, now: JsonObject): JsonObject | null {
  const changes: [string, Json][] = [];
  for (const [key, value] of Object.entries(now)) {
    const old = has(before, key) ? before[key] : undefined;
    if (isObject(value) && isObject(old)) {
      const inner = diff(old, value);
      if (inner) changes.push([key, inner]);
    } else if (old === undefined || !same(old, value)) changes.push([key, value]);
  }
  for (const key of Object.keys(before)) if (!has(now, key)) changes.push([key, null]);
  return changes.length > 0 ? from(changes) : null;
}

/** The paths of the values in a patch, as JSON pointers (RFC 6901). */
export function leaves(value: Json, path = ''): string[] {
  if (isObject(value) && Object.keys(value).length > 0) {
    return Object.entries(value).flatMap(([key, inner]) =>
      leaves(inner, `${path}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`),
    );
  }
  return path === '' ? [] : [path];
}
