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
  private store: Store | undefined;
  private failure: string | undefined;
  private writes: Write[] = [];
  /** Messages among them, and whether there is something that is not waited with. */
  private messages = 0;
  private urgent = false;
  private asked: ((outcome: string | null) => void)[] = [];
  private working: Promise<void> | undefined;
  private stopTimer: (() => void) | undefined;
  /** Nobody asks any more how it goes: another page may have the store by now. */
  private closed = false;
  private wroteAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly needs: KeeperNeeds,
    private readonly open: () => Promise<Store>,
  ) {}

  async load(): Promise<Kept> {
    await this.flush();
    // What failed is tried anew: who asks has nothing in memory that could be ahead of it.
    this.failure = undefined;
    this.closed = false;
    this.takeAll();
    try {
      this.store ??= await this.open();
      const kept = await this.store.load();
      this.needs.changed({ kind: 'durable' });
      return kept;
    } catch (cause) {
      this.fail(cause);
      return NOTHING;
    }
  }

  write(write: Write): void {
    if (this.failure !== undefined) return;
    this.writes.push(write);
    this.messages += Number(write[0] === 'message');
    // What the user said.
    this.urgent ||= write[0] === 'enqueue';
    if (this.writes.length > BEHIND) this.fail(new Error('it does not keep up'));
    else this.goOn();
  }

  flush(): Promise<string | null> {
    if (this.failure !== undefined) return Promise.resolve(this.failure);
    if (this.writes.length === 0 && !this.working) return Promise.resolve(null);
    const outcome = new Promise<string | null>((resolve) => this.asked.push(resolve));
    this.work();
    return outcome;
  }

  hurry(): void {
    const writes = this.takeAll();
    this.stopTimer?.();
    this.stopTimer = undefined;
    if (this.failure !== undefined || !this.store || writes.length === 0) return;
    // The browser keeps the order of transactions, so one that is under way is not waited for.
    this.store.commit(condense(writes)).catch((cause: unknown) => this.fail(cause));
  }

  async wipe(): Promise<void> {
    await this.flush();
    this.store ??= await this.open();
    await this.store.wipe();
  }

  close(): void {
    this.closed = true;
    void this.flush().then(() => this.store?.close());
  }

  /** Now, or together with what comes within a while. */
  private goOn(): void {
    if (this.urgent || this.asked.length > 0 || this.messages >= TOGETHER) this.work();
    else if (this.writes.length > 0) {
      this.stopTimer ??= this.needs.setTimer(() => this.work(), Math.max(0, this.wroteAt + TOGETHER_MS - this.needs.wall()));
    }
  }

  /** One batch after the other, each of them whole. */
  private work(): void {
    this.stopTimer?.();
    this.stopTimer = undefined;
    this.working ??= this.empty().finally(() => {
      this.working = undefined;
      this.goOn();
    });
  }

  private async empty(): Promise<void> {
    // What comes of one call of the core belongs together.
    await Promise.resolve();
    this.wroteAt = this.needs.wall();
    const writes = this.takeAll();
    const asked = this.asked;
    this.asked = [];
    if (this.failure === undefined && writes.length > 0) {
      try {
        if (!this.store) throw new Error('it was not opened');
        await this.store.commit(condense(writes));
      } catch (cause) {
        this.fail(cause);
      }
    }
    for (const tell of asked) tell(this.failure ?? null);
  }

  private takeAll(): Write[] {
    const writes = this.writes;
    this.writes = [];
    this.messages = 0;
    this.urgent = false;
    return writes;
  }

  /** Nothing is written any more: a later cursor could cover what is missing. */
  private fail(cause: unknown): void {
    if (this.failure !== undefined) return;
    this.failure = cause instanceof Error ? cause.message || cause.name : String(cause);
    this.takeAll();
    this.store?.close();
    if (!this.closed) this.needs.changed({ kind: 'memory', reason: this.failure });
  }
}
