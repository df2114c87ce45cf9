import type { Client } from './client.ts';
import { AnabranchError } from './errors.ts';
import type { SubscriptionEvent } from './events.ts';
import { Observed, type Observable } from './state.ts';
import type { Subscription } from './subscription.ts';

/** How far a command has come. docs/adr/0012-commands.md says what each is worth. */
export type CommandProgress =
  /** Not known to be stored yet. */
  | { readonly stage: 'queued' }
  /** It is on its way. */
  | { readonly stage: 'sent' }
  /** The log has it: the device gets it, if it comes in time. */
  | { readonly stage: 'accepted' }
  | { readonly stage: 'done'; readonly result: unknown }
  /** Refused, or the device could not do it, or not wholly. */
  | { readonly stage: 'failed'; readonly error: AnabranchError }
  /** The device says that it came too late: it was not done, and will not be. */
  | { readonly stage: 'expired' }
  /** It was taken back before it was sent. */
  | { readonly stage: 'cancelled' }
  /** Its time is over without an answer: whether it was done is not known. An answer may still come. */
  | { readonly stage: 'unanswered' };

/** One command. Forgetting it changes nothing about the command. */
export interface Job<Result = unknown> {
  /** Joins request and answer: the `correlationId` of both. */
  readonly id: string;
  readonly progress: Observable<CommandProgress>;
  /** The result; rejects with an `AnabranchError` whose code is `failed`, `expired`, `cancelled`, `unanswered`, or the gateway's number. */
  reply(): Promise<Result>;
  /** Resolves when the client's store has it, if it is queued; else when the log has it. */
  stored(): Promise<void>;
  /** Takes it back, if it was not sent yet. `false`: it may have been, and cannot be unsaid. */
  cancel(): Promise<boolean>;
}

export interface CommandOptions {
  /** In which it may be begun, by the clocks of this page and of the device. Ten minutes at most; 20 seconds unless told. */
  readonly timeToLiveMs?: number;
  /** Keeps it in the client's store until it is sent, by the next page too; its answer comes to the page that lives then. What is too late is not sent. */
  readonly queue?: boolean;
}

/** The longest time to live. */
const LONGEST_MS = 600_000;
/** How long an answer may be on its way when the time is over, and for how long it is listened for after that. */
const GRACE_MS = 5_000;
const LATE_MS = LONGEST_MS;

interface Open {
  /** What the topics of the device's answers begin with: no device answers for another. */
  readonly answers: string;
  readonly progress: Observed<CommandProgress>;
  stop: () => void;
}

/** Commands of one principal. Made by `client.commands`. */
export class Commands implements Disposable {
  private readonly _answers: Subscription;
  private readonly _open = new Map<string, Open>();

  /** @internal */
  constructor(
    private readonly _client: Client,
    private readonly _root: string,
    subject: string,
    private readonly _wall: () => number,
    private readonly _setTimer: (run: () => void, ms: number) => () => void,
    private readonly _uuid: () => string,
    private readonly _threw: (error: unknown) => void,
  ) {
    this._answers = _client.on(`${_root}/devices/+/commands/response/${subject}`, (event) => this._take(event));
  }

  /** Gives a command. The device does it once or not at all. Kept over a reload of the page only if it is queued. */
  send<Result = unknown>(device: string, name: string, args: unknown = null, options: CommandOptions = {}): Job<Result> {
    const ttl = Math.max(0, Math.min(options.timeToLiveMs ?? 20_000, LONGEST_MS)) || 0;
    const id = this._uuid();
    const base = `${this._root}/devices/${device}/commands/`;
    const request = { name, expires: Math.round(this._wall() + ttl), arguments: args };
    const sent = (): void => this._advance(id, { stage: 'sent' });
    const how = { messageId: id, correlationId: id, messageType: 'command', timeToLiveMs: ttl, sent } as const;
    const progress = new Observed<CommandProgress>({ stage: 'queued' }, this._threw);
    const stop = this._setTimer(() => this._timeIsOver(id), ttl + GRACE_MS);
    this._open.set(id, { answers: `${base}response/`, progress, stop });
    const topic = `${base}request`;
    const queued = options.queue ? this._client.publish(topic, request, { ...how, queue: true }) : undefined;
    const published = queued ? queued.then((one) => one.confirmed()) : this._client.publish(topic, request, how);
    const stored: Promise<void> = (queued ?? published).then(() => {});
    stored.catch(() => {});
    published.then(
      () => this._advance(id, { stage: 'accepted' }),
      (error: AnabranchError) => {
        // What may have been stored may be done: its answer will tell, or its absence.
        if (error.code === EXPIRED) return this._advance(id, { stage: 'expired' });
        if (error.code === 'withdrawn') return this._advance(id, { stage: 'cancelled' });
        if (!error.retryable && error.code !== 'not_kept') this._advance(id, { stage: 'failed', error });
      },
    );
    return { id, progress, reply: () => reply<Result>(progress), stored: () => stored, cancel: () => this._client.withdraw(id) };
  }

  /** Listens no longer. What is under way stays as it is. */
  close(): void {
    this._answers.close();
    for (const id of [...this._open.keys()]) {
      this._advance(id, { stage: 'unanswered' });
      this._forget(id);
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private _take(event: SubscriptionEvent): void {
    if (event.type === 'closed') return this.close();
    const id = event.type === 'message' ? event.metadata.correlationId : undefined;
    if (event.type !== 'message' || id === undefined || !event.topic.startsWith(this._open.get(id)?.answers ?? ' ')) return;
    const answer = event.payload as { status?: unknown; result?: unknown; message?: unknown } | null;
    switch (answer?.status) {
      case 'done':
        return this._advance(id, { stage: 'done', result: answer.result ?? null });
      case 'failed':
        return this._advance(id, { stage: 'failed', error: new AnabranchError('failed', String(answer.message), false, DEVICE) });
      case 'expired':
        return this._advance(id, { stage: 'expired' });
    }
  }

  private _advance(id: string, to: CommandProgress): void {
    const open = this._open.get(id);
    if (!open || rank(to) <= rank(open.progress.get())) return;
    if (rank(to) === LAST) this._forget(id);
    open.progress.set(Object.freeze(to));
  }

  private _timeIsOver(id: string): void {
    const open = this._open.get(id);
    if (open) open.stop = this._setTimer(() => this._forget(id), LATE_MS);
    this._advance(id, { stage: 'unanswered' });
  }

  private _forget(id: string): void {
    this._open.get(id)?.stop();
    this._open.delete(id);
  }
}

/** The code of what was not sent in time. */
const EXPIRED = 4403;
const STAGES = ['queued', 'sent', 'accepted', 'unanswered'];
const LAST = STAGES.length;
const DEVICE = 'The device says why; giving the same command again is another command.';

/** What `reply` says of a command that ended without a result. */
const ENDS: Readonly<Record<string, readonly [message: string, retryable: boolean, hint?: string]>> = {
  expired: ['The command was not begun in time.', true],
  cancelled: ['The command was taken back before it was sent.', false],
  unanswered: ['No answer in time: whether the command was done is not known.', false, DEVICE],
};

/** Later stages are higher; the ends are alike, and the last. */
function rank({ stage }: CommandProgress): number {
  const at = STAGES.indexOf(stage);
  return at < 0 ? LAST : at;
}

function reply<Result>(progress: Observable<CommandProgress>): Promise<Result> {
  return new Promise((resolve, reject) => {
    const look = (now: CommandProgress): boolean => {
      if (now.stage === 'done') resolve(now.result as Result);
      else if (now.stage === 'failed') reject(now.error);
      else {
        const end = ENDS[now.stage];
        if (!end) return false;
        reject(new AnabranchError(now.stage, ...end));
      }
      return true;
    };
    if (look(progress.get())) return;
    const stop = progress.subscribe((now) => {
      if (look(now)) stop();
    });
  });
}
