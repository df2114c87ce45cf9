import { condense } from './condense.ts';
import type { Keeper, KeeperNeeds, Kept, Store, Write } from '../keeping.ts';

/** What need not be written at once waits so long, in milliseconds: few transactions cost less than many. */
const TOGETHER_MS = 250;
/** So many messages are not waited with. All else that comes in great numbers, each later one replaces. */
const TOGETHER = 500;
/** With so many changes to be written, the store is given up: it hangs, and memory is finite. */
const BEHIND = 20_000;

const NOTHING: Kept = { publishes: [], messages: [], places: [] };

/** A keeper for any store. `open` gives it, or says by what it throws why there is none. */
export class Batches implements Keeper {
  private _store: Store | undefined;
  private _failure: string | undefined;
  private _writes: Write[] = [];
  /** Messages among them, and whether there is something that is not waited with. */
  private _messages = 0;
  private _urgent = false;
  private _asked: ((outcome: string | null) => void)[] = [];
  private _working: Promise<void> | undefined;
  /** What came of all commits since the store was loaded, those of a page in a hurry too. */
  private _written: Promise<string | null> = Promise.resolve(null);
  private _stopTimer: (() => void) | undefined;
  /** Nobody asks any more how it goes: another page may have the store by now. */
  private _closed = false;
  private _wroteAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly _needs: KeeperNeeds,
    private readonly _open: () => Promise<Store>,
  ) {}

  async load(): Promise<Kept> {
    await this._end();
    // What failed is tried anew: who asks has nothing in memory that could be ahead of it.
    this._failure = undefined;
    this._closed = false;
    this._written = Promise.resolve(null);
    this._takeAll();
    try {
      this._store ??= await this._open();
      const kept = await this._store.load();
      this._needs.changed({ kind: 'durable' });
      return kept;
    } catch (cause) {
      this._fail(cause);
      return NOTHING;
    }
  }

  write(write: Write): void {
    if (this._failure !== undefined) return;
    this._writes.push(write);
    this._messages += Number(write[0] === 'message');
    // What the user said.
    this._urgent ||= write[0] === 'enqueue';
    if (this._writes.length > BEHIND) this._fail(new Error('it does not keep up'));
    else this._goOn();
  }

  flush(): Promise<string | null> {
    if (this._failure !== undefined) return Promise.resolve(this._failure);
    const outcome = new Promise<string | null>((resolve) => this._asked.push(resolve));
    this._work();
    return outcome;
  }

  hurry(): void {
    // The store keeps the order of commits, so one that is under way is not waited for.
    if (this._store) this._written = this._commit(this._written);
  }

  async wipe(): Promise<void> {
    await this._end();
    this._store ??= await this._open();
    await this._store.wipe();
  }

  close(): void {
    this._closed = true;
    void this.flush().then(() => this._store?.close());
  }

  /** Now, or together with what comes within a while. */
  private _goOn(): void {
    if (this._urgent || this._asked.length > 0 || this._messages >= TOGETHER) this._work();
    else if (this._writes.length > 0) {
      this._stopTimer ??= this._needs.setTimer(() => this._work(), Math.max(0, this._wroteAt + TOGETHER_MS - this._needs.wall()));
    }
  }

  /** One batch after the other, each of them whole. */
  private _work(): void {
    this._stopTimer?.();
    this._stopTimer = undefined;
    this._working ??= this._empty().finally(() => {
      this._working = undefined;
      this._goOn();
    });
  }

  private async _empty(): Promise<void> {
    // What comes of one call of the core belongs together.
    await Promise.resolve();
    const asked = this._asked;
    this._asked = [];
    this._written = this._commit(this._written);
    const outcome = await this._written;
    for (const tell of asked) tell(outcome);
  }

  /** Begins at once. When it is done, and what was begun before: null, or why something is not written. */
  private async _commit(before: Promise<string | null>): Promise<string | null> {
    const writes = this._takeAll();
    let failure: string | null = null;
    if (writes.length > 0) {
      this._wroteAt = this._needs.wall();
      try {
        if (!this._store) throw new Error('it was not opened');
        await this._store.commit(condense(writes));
      } catch (cause) {
        failure = this._fail(cause);
      }
    }
    return (await before) ?? failure;
  }

  /** When nothing is under way any more, also where a commit has failed. */
  private async _end(): Promise<void> {
    await this.flush();
    await this._written;
  }

  private _takeAll(): Write[] {
    const writes = this._writes;
    this._writes = [];
    this._messages = 0;
    this._urgent = false;
    return writes;
  }

  /** Nothing is written any more: a later cursor could cover what is missing. */
  private _fail(cause: unknown): string {
    if (this._failure !== undefined) return this._failure;
    const failure = cause instanceof Error ? cause.message || cause.name : String(cause);
    this._failure = failure;
    this._takeAll();
    // What they ask for will not be written.
    for (const tell of this._asked.splice(0)) tell(failure);
    this._store?.close();
    if (!this._closed) this._needs.changed({ kind: 'memory', reason: failure });
    return failure;
  }
}
