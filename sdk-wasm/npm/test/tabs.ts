/** Tabs of one browser: its locks and channels, in memory. All run on one stage, and have one clock. */
import { Member } from '../src/tabs/member.ts';
import type { GroupNeeds, Tabs } from '../src/group.ts';
import { VERSION } from '../src/tabs/words.ts';

interface Waiting {
  readonly tab: string;
  readonly run: () => Promise<void>;
  readonly robbed: () => void;
}

export class Browser {
  /** All that was said, in order. */
  readonly said: (readonly unknown[])[] = [];
  readonly channels = new Set<Channel>();
  /** Channels that were ever opened. */
  opened = 0;
  /** Tabs that hang: what comes to them waits. */
  private readonly _hung = new Map<string, (() => void)[]>();
  private readonly _locks = new Map<string, Waiting[]>();
  private _tabs = 0;
  private _joins = '';

  /** Puts itself where the browser's channels are, until what it returns is called. */
  install(): () => void {
    const { BroadcastChannel } = globalThis;
    const browser = this;
    Object.assign(globalThis, {
      BroadcastChannel: class extends Channel {
        constructor(name: string) {
          super(browser, name);
        }
      },
    });
    return () => Object.assign(globalThis, { BroadcastChannel });
  }

  /** A new tab. */
  tab(): { readonly name: string; readonly tabs: Tabs; readonly locks: LockManager } {
    const name = `tab ${(this._tabs += 1)}`;
    const locks = this._locksOf(name);
    const tabs = (needs: GroupNeeds): Member => {
      const setTimer: GroupNeeds['setTimer'] = (run, ms) => needs.setTimer(() => this.give(name, run), ms);
      const member = new Member({ ...needs, setTimer }, locks);
      const join = member.join.bind(member);
      // What it opens is this tab's.
      member.join = () => {
        this._joins = name;
        join();
      };
      return member;
    };
    return { name, tabs, locks };
  }

  /** The tab that opens channels. */
  get joins(): string {
    return this._joins;
  }

  /** Gives something to a tab: soon, or when it hangs no more. */
  give(tab: string, run: () => void): void {
    queueMicrotask(() => {
      const hung = this._hung.get(tab);
      if (hung) hung.push(run);
      else run();
    });
  }

  hang(tab: string): void {
    this._hung.set(tab, []);
  }

  goOn(tab: string): void {
    const late = this._hung.get(tab) ?? [];
    this._hung.delete(tab);
    for (const run of late) run();
  }

  holder(name: string): string | undefined {
    return this._locks.get(name)?.[0]?.tab;
  }

  /** It ends without a word. */
  kill(tab: string): void {
    this.hang(tab);
    for (const channel of this.channels) if (channel.tab === tab) channel.close();
    for (const queue of this._locks.values()) {
      const held = queue[0]?.tab === tab;
      queue.splice(0, queue.length, ...queue.filter((one) => one.tab !== tab));
      if (held) this._grant(queue);
    }
  }

  private _locksOf(tab: string): LockManager {
    const request = (name: string, ...rest: unknown[]): Promise<unknown> => {
      const { signal, steal } = (rest.length > 1 ? rest[0] : {}) as LockOptions;
      const act = rest.at(-1) as () => unknown;
      const queue = this._locks.get(name) ?? [];
      this._locks.set(name, queue);
      return new Promise((resolve, reject) => {
        const fail = (): void => reject(new DOMException('', 'AbortError'));
        const one: Waiting = { tab, run: () => Promise.resolve(act()).then(resolve, reject), robbed: () => this.give(tab, fail) };
        signal?.addEventListener('abort', () => {
          // One that is held stays.
          const at = queue.indexOf(one);
          if (at > 0) queue.splice(at, 1), fail();
        });
        if (steal) {
          queue.shift()?.robbed();
          queue.unshift(one);
        } else if (queue.push(one) > 1) return;
        this._grant(queue);
      });
    };
    const query = async (): Promise<LockManagerSnapshot> => {
      const held = [...this._locks].flatMap(([name, [one]]) => (one ? [{ name, clientId: one.tab, mode: 'exclusive' as const }] : []));
      return { held, pending: [] };
    };
    return { request, query } as unknown as LockManager;
  }

  /** To whoever is first, until it gives it back. */
  private _grant(queue: Waiting[]): void {
    const [one] = queue;
    if (!one) return;
    this.give(one.tab, () => {
      if (queue[0] !== one) return;
      void one.run().then(() => {
        if (queue[0] !== one) return;
        queue.shift();
        this._grant(queue);
      });
    });
  }
}

class Channel {
  onmessage: ((event: { readonly data: unknown }) => void) | null = null;
  readonly tab: string;

  constructor(
    private readonly _browser: Browser,
    readonly name: string,
  ) {
    this.tab = _browser.joins;
    _browser.channels.add(this);
    _browser.opened += 1;
  }

  postMessage(data: unknown): void {
    const text = structuredClone(data) as readonly unknown[];
    this._browser.said.push(text);
    for (const other of this._browser.channels) {
      if (other === this || other.name !== this.name) continue;
      this._browser.give(other.tab, () => other.onmessage?.({ data: text }));
    }
  }

  close(): void {
    this._browser.channels.delete(this);
  }
}

/** The name of the leader's lock. */
export const lockOf = (user: string): string => `anabranch ${VERSION} wss://gateway.test/v1/ws ${user}`;
