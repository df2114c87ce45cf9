/** A store in memory, written down from `Kept::apply`, that outlives the pages of a test and can be told to fail or to hang. */
import type { Kept, KeptMessage, KeptPublish, Place, Store, Write } from '../src/keeping.ts';

export class MemoryStore implements Store {
  publishes: KeptPublish[] = [];
  messages: KeptMessage[] = [];
  places = new Map<string, Place>();
  commits = 0;
  /** Thrown by the next commits. */
  broken: Error | undefined;
  /** What commits wait for. */
  gate: Promise<void> | undefined;

  load(): Promise<Kept> {
    return Promise.resolve({ publishes: [...this.publishes], messages: [...this.messages], places: [...this.places.values()] });
  }

  async commit(writes: readonly Write[]): Promise<void> {
    await this.gate;
    if (this.broken) throw this.broken;
    this.commits += 1;
    for (const write of writes) this.apply(write);
  }

  wipe(): Promise<void> {
    this.publishes = this.messages = [];
    this.places.clear();
    return Promise.resolve();
  }

  close(): void {}

  private apply(write: Write): void {
    switch (write[0]) {
      case 'enqueue':
        this.publishes = this.publishes.filter(({ messageId }) => messageId !== write[1]);
        this.publishes.push({ messageId: write[1], envelope: write[2], expires: write[3], wedged: null });
        return;
      case 'wedge': {
        const wedged = write[2] === undefined ? null : ([write[2], write[3] ?? ''] as const);
        this.publishes = this.publishes.map((one) => (one.messageId === write[1] ? { ...one, wedged } : one));
        return;
      }
      case 'settle':
        this.publishes = this.publishes.filter(({ messageId }) => messageId !== write[1]);
        return;
      case 'message':
        this.messages.push({ topic: write[1], position: write[2], envelope: write[3], flags: write[4] ?? 0 });
        return;
      case 'trim': {
        let beyond = this.messages.filter(({ topic }) => topic === write[1]).length - write[2];
        this.messages = this.messages.filter(({ topic }) => topic !== write[1] || beyond-- <= 0);
        return;
      }
      case 'cursor':
        if (write[2] === undefined || write[3] === undefined) this.places.delete(write[1]);
        else this.places.set(write[1], { name: write[1], filter: write[2], cursor: write[3] });
    }
  }
}

/** What `sdk-core/tests/store.json` says of a store's contents. */
export function told({ publishes, messages, places }: Kept): unknown {
  return {
    publishes: publishes.map(({ messageId, envelope, expires, wedged }) => [messageId, envelope, expires, wedged]),
    messages: messages.map(({ topic, position, envelope, flags }) => ['message', topic, position, envelope, ...(flags > 0 ? [flags] : [])]),
    places: [...places].sort((a, b) => (a.name < b.name ? -1 : 1)).map(({ name, filter, cursor }) => ['cursor', name, filter, cursor]),
  };
}
