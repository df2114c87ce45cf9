import { delta, diff, isObject, type Json, type JsonObject, leaves, mergePatch, same } from './json.ts';

/** A device's document as the gateway keeps it. */
export interface ShadowDocument {
  readonly incarnation: number;
  readonly version: number;
  /** When it was updated: Unix milliseconds, by the log's clock. */
  readonly timestamp: number;
  readonly desired: JsonObject;
  readonly reported: JsonObject;
}

/** How far a change of this client has come. `sent`: the log has it. `accepted`: it counts, and the device has not reported it yet. */
export type Pending =
  | { readonly stage: 'queued' | 'sent' }
  | { readonly stage: 'accepted'; readonly version: number }
  | { readonly stage: 'rejected'; readonly code: number; readonly message: string };

/**
 * How a change has ended. `applied`: the device reports all that was asked for. `superseded`: somebody has asked for something else
 * since. `pending`: it has not ended.
 */
export type Settled =
  | { readonly outcome: 'applied'; readonly version: number }
  | { readonly outcome: 'superseded' | 'pending' }
  | { readonly outcome: 'rejected'; readonly code: number; readonly message: string };

/** What has changed since the delta before: merge patches upon `base`. Several versions may be one delta; none is ever missing. */
export interface ShadowDelta {
  readonly incarnation: number;
  /** 0 if there was no shadow, or another incarnation: then the patches are whole. */
  readonly base: number;
  /** 0 if there is no shadow any more. */
  readonly version: number;
  readonly desired: JsonObject | null;
  readonly reported: JsonObject | null;
}

interface Change {
  /** Empty when its end was told. */
  id: string;
  /** The message that carries it: its own, or that of an earlier change, which carries both. */
  message: string;
  readonly patch: JsonObject;
  pending: Pending;
  incarnation: number;
  /** Its answer may be lost. */
  doubted: boolean;
}

const NONE: ShadowDocument = { incarnation: 0, version: 0, timestamp: 0, desired: {}, reported: {} };
/** Refused changes that are remembered for the fields that show them. */
const REJECTED = 64;

export function deltaBetween(old: ShadowDocument | null, now: ShadowDocument | null): ShadowDelta | null {
  if (old === now) return null;
  const after = now ?? NONE;
  const before = old && (!now || old.incarnation === now.incarnation) ? old : NONE;
  return {
    incarnation: now ? after.incarnation : before.incarnation,
    base: before.version,
    version: after.version,
    desired: diff(before.desired, after.desired),
    reported: diff(before.reported, after.reported),
  };
}

function read(payload: unknown): ShadowDocument | null {
  if (!isObject(payload)) return null;
  const { incarnation, version, timestamp, state } = payload;
  if (typeof incarnation !== 'number' || typeof version !== 'number' || !isObject(state)) return null;
  const section = (value: Json | undefined): JsonObject => (isObject(value) ? value : {});
  return {
    incarnation,
    version,
    timestamp: typeof timestamp === 'number' ? timestamp : 0,
    desired: section(state['desired']),
    reported: section(state['reported']),
  };
}

/** One device's shadow: the truth as it came, and this client's changes on top of it until the truth has them. As `sdk-core/src/shadow.rs`. */
export class ShadowState {
  document: ShadowDocument | null = null;
  private _incarnation = 0;
  private _version = 0;
  private _changes: Change[] = [];

  /** What is desired, this client's changes included that the truth does not have yet. */
  get desired(): JsonObject {
    let desired = this.document?.desired ?? {};
    for (const { patch } of this._changes.filter((change) => this._isAhead(change))) desired = mergePatch(desired, patch) as JsonObject;
    return desired;
  }

  get pending(): Record<string, Pending> {
    const fields = new Map<string, Pending>();
    for (const { patch, pending } of this._changes) for (const field of leaves(patch)) fields.set(field, pending);
    return Object.fromEntries(fields);
  }

  /** Another history or a whole snapshot begins: what comes next is true, whatever its version. */
  begin(): void {
    this._incarnation = this._version = 0;
  }

  /** Takes a payload of `shadow/document`. Says whether it is news. */
  take(payload: unknown): boolean {
    const document = read(payload);
    if (!document && payload !== null) return false;
    if (document) {
      if (!this._isBehind(document.incarnation, document.version)) return false;
      ({ incarnation: this._incarnation, version: this._version } = document);
    } else {
      // Whatever comes of this incarnation comes late.
      this._version = Number.POSITIVE_INFINITY;
    }
    const news = document !== this.document;
    this.document = document;
    return news;
  }

  set(id: string, patch: JsonObject): void {
    const fields = new Set(leaves(patch));
    // A field that is set again shows no longer that it was refused before.
    const stays = ({ pending, patch }: Change): boolean => pending.stage !== 'rejected' || !leaves(patch).some((field) => fields.has(field));
    this._changes = this._changes.filter(stays);
    const rejected = this._changes.filter(({ pending }) => pending.stage === 'rejected');
    if (rejected.length > REJECTED) this._changes = this._changes.filter((change) => change !== rejected[0]);
    this._changes.push({ id, message: id, patch, pending: { stage: 'queued' }, incarnation: 0, doubted: false });
  }

  /** The outbox has put this change into an earlier message, whose end is its end. */
  merged(id: string, into: string): void {
    for (const change of this._of(id)) change.message = into;
  }

  /** The log has this message. Says whether its answer may be lost, as `unsure` does: it may have been stored before that. */
  sent(message: string): boolean {
    const queued = this._of(message).filter(({ pending }) => pending.stage === 'queued');
    for (const change of queued) change.pending = { stage: 'sent' };
    return queued.some(({ doubted }) => doubted);
  }

  accepted(message: string, incarnation: number, version: number): void {
    for (const change of this._of(message)) Object.assign(change, { pending: { stage: 'accepted', version }, incarnation });
  }

  rejected(message: string, code: number, why: string): void {
    for (const change of this._of(message)) change.pending = { stage: 'rejected', code, message: why };
  }

  /** Answers may be lost. Says whether that concerns a change: then the gateway is to be asked, and its answer goes to `decided`. */
  unsure(): boolean {
    const open = this._changes.filter(({ pending }) => pending.stage === 'queued' || pending.stage === 'sent');
    for (const change of open) change.doubted = true;
    return open.some(({ pending }) => pending.stage === 'sent');
  }

  /** The gateway has said what the shadow is, behind all that was sent before it was asked: what was in doubt is decided as of this version. */
  decided(incarnation: number, version: number): void {
    for (const change of this._changes) {
      if (change.doubted && change.pending.stage === 'sent') Object.assign(change, { pending: { stage: 'accepted', version }, incarnation });
    }
  }

  /** The changes that have ended by now, once each. Refused ones stay pending until their fields are set again. */
  settle(): [string, Settled][] {
    const ended: [string, Settled][] = [];
    this._changes = this._changes.filter((change) => {
      const { id, pending } = change;
      if (pending.stage === 'rejected' && id !== '') {
        ended.push([id, { outcome: 'rejected', code: pending.code, message: pending.message }]);
        change.id = change.message = '';
      }
      const settled = this._outcome(change);
      if (settled) ended.push([id, settled]);
      return !settled;
    });
    return ended;
  }

  private _outcome({ pending, patch, incarnation }: Change): Settled | undefined {
    if (pending.stage !== 'accepted' || this._isBehind(incarnation, pending.version)) return undefined;
    const { document } = this;
    if (document?.incarnation !== incarnation || !holds(document.desired, patch)) return { outcome: 'superseded' };
    // A removal asks for nothing.
    const wished = mergePatch(undefined, patch) as JsonObject;
    return delta(wished, document.reported) ? undefined : { outcome: 'applied', version: document.version };
  }

  /** The changes that this message carries. */
  private _of(message: string): Change[] {
    return this._changes.filter((change) => message !== '' && change.message === message);
  }

  /** Whether the truth has not come to this version. */
  private _isBehind(incarnation: number, version: number): boolean {
    return incarnation > this._incarnation || (incarnation === this._incarnation && version > this._version);
  }

  private _isAhead({ pending, incarnation }: Change): boolean {
    if (pending.stage === 'accepted') return this._isBehind(incarnation, pending.version);
    return pending.stage !== 'rejected';
  }
}

/** Whether a state is what a patch would make of it. */
function holds(state: JsonObject, patch: JsonObject): boolean {
  return same(mergePatch(state, patch), state);
}
