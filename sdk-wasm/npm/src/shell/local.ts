import type { Keeper, Kept } from '../keeping.ts';
import type { Call } from './core.ts';
import type { Engine } from './engine.ts';

/** What can be asked of a core and its store. Each answer is text: JSON, a cursor, or nothing. */
export type Question =
  /** The newest messages in memory for a filter: `[position, envelope, flags?][]`. */
  | readonly [what: 'cached', filter: string, limit: number]
  /** What waits for its confirm: `[messageId, envelope, kept, sent, code?, message?][]`. */
  | readonly [what: 'outbox']
  /** Where the app stood with what it keeps under this name and filter; empty if nowhere. */
  | readonly [what: 'place', name: string, filter: string]
  /** Waits until everything is written; empty, or why it is not. */
  | readonly [what: 'flush']
  /** Takes a publish back, or tries a wedged one again: `true` or `false`. If it does, all tabs are told: whoever asked may listen to another core by now. */
  | readonly [what: 'withdraw' | 'retry', messageId: string]
  /** An earlier core knew of this publish, and may have sent it. Not answered. */
  | readonly [what: 'told', messageId: string];

/** A publish that waits for its confirm. */
type Row = [messageId: string, envelope: unknown, kept: boolean, sent: boolean, code?: number, message?: string];

/** A core that runs: in this page, or in another tab. What is called and asked takes effect in that order. */
export interface Brain {
  readonly call: Call;
  ask(question: Question, answer: (text: string) => void): void;
  /** Whether the app wants a connection, and whether nobody looks at it. */
  want(wanted: boolean): void;
  hide(hidden: boolean): void;
  /** The app stands there with what it keeps under this name; without a cursor, forgets that. */
  place(name: string, filter?: string, cursor?: string): void;
  whenIdle(run: () => void): void;
  stop(): void;
}

/** The core in this page, and what it keeps. */
export class Local implements Brain {
  private _retired = false;
  private readonly _places: Map<string, { readonly filter: string; readonly cursor: string }>;
  private readonly _told = new Set<string>();

  constructor(
    readonly engine: Engine,
    private readonly _keeper: Keeper | undefined,
    kept: Kept | undefined,
    /** Whose core has trapped: what the store did not take is known from it. */
    before: Local | undefined,
  ) {
    this._places = new Map(before?._places);
    if (!kept) return;
    for (const { name, filter, cursor } of kept.places) this._places.set(name, { filter, cursor });
    engine.read((core) => {
      for (const { messageId, envelope, expires, wedged } of kept.publishes) {
        core.kept_publish(messageId, envelope, expires ?? -1, wedged?.[0] ?? 0, wedged?.[1] ?? '');
      }
      for (const { topic, position, envelope, flags } of kept.messages) core.kept_message(topic, position, envelope, flags);
      for (const { name, filter, cursor } of kept.places) core.kept_place(name, filter, cursor);
    });
    this.call('restore');
  }

  /** The engine has another core now. What is still said to this one is said again to that. */
  retire(): void {
    this._retired = true;
  }

  readonly call: Call = (...said) => {
    if (!this._retired) this.engine.call(...said);
  };

  ask(question: Question, answer: (text: string) => void): void {
    if (this._retired) return;
    switch (question[0]) {
      case 'cached': {
        const [, filter, limit] = question;
        return answer(this.engine.read((core) => core.cached(filter, limit)) ?? '[]');
      }
      case 'outbox':
        return answer(JSON.stringify(this._outbox()));
      case 'place': {
        const [, name, filter] = question;
        const place = this._places.get(name);
        return answer(place?.filter === filter ? place.cursor : '');
      }
      case 'flush':
        return void (this._keeper?.flush() ?? Promise.resolve(null)).then((reason) => answer(reason ?? ''));
      case 'told':
        return void this._told.add(question[1]);
      case 'withdraw':
      case 'retry': {
        const [what, id] = question;
        const [, , , sent, wedged] = this._outbox().find(([other]) => other === id) ?? [0, 0, 0, true];
        const can = wedged !== undefined || (what === 'withdraw' && !sent);
        if (can) this.call(what, id);
        // A core that has trapped at it has done nothing; the next one is asked again.
        if (this._retired) return;
        if (can) this.engine.tell(['did', what, id]);
        answer(String(can));
      }
    }
  }

  want(wanted: boolean): void {
    this.call(wanted ? 'connect' : 'disconnect');
  }

  hide(hidden: boolean): void {
    this.call('hide', hidden);
  }

  place(name: string, filter?: string, cursor?: string): void {
    if (filter === undefined || cursor === undefined) {
      this._places.delete(name);
      return this._keeper?.write(['cursor', name]);
    }
    this._places.set(name, { filter, cursor });
    this._keeper?.write(['cursor', name, filter, cursor]);
  }

  whenIdle(run: () => void): void {
    this.engine.whenIdle(run);
  }

  stop(): void {
    this.engine.stop();
  }

  private _outbox(): Row[] {
    const rows = JSON.parse(this.engine.read((core) => core.outbox()) ?? '[]') as Row[];
    return rows.map(([id, envelope, kept, sent, ...why]) => [id, envelope, kept, sent || this._told.has(id), ...why]);
  }
}
