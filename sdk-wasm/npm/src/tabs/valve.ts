import type { Call, Step } from '../shell/core.ts';
import type { Brain, Question } from '../shell/local.ts';

/** This tab's way to the core. While the app pauses the tab, it wishes for no connection and its streams are parked; all else goes on. */
export class Valve implements Brain {
  /** The subscriptions, and whether the tab itself has parked them. */
  private readonly _streams = new Map<unknown, boolean>();
  private _wanted = false;

  constructor(
    private readonly _brain: Brain,
    private _shut: boolean,
  ) {}

  /** Whether the tab wishes for a connection, or would. */
  get wanted(): boolean {
    return this._wanted;
  }

  shut(shut: boolean): void {
    if (shut === this._shut) return;
    this._shut = shut;
    for (const [id, parked] of this._streams) if (!parked) this._brain.call(shut ? 'park' : 'unpark', id as number);
    this._brain.want(this._wanted && !shut);
  }

  readonly call: Call = (...said) => {
    const [name, id] = said as unknown as readonly [Step, unknown?];
    if (name === 'park' || name === 'unpark') {
      this._streams.set(id, name === 'park');
      if (this._shut) return;
    }
    if (name === 'connect' && this._shut) return;
    this._brain.call(...said);
    if (name === 'unsubscribe') this._streams.delete(id);
    if (name !== 'subscribe') return;
    this._streams.set(id, false);
    if (this._shut) this._brain.call('park', id as number);
  };

  want(wanted: boolean): void {
    this._wanted = wanted;
    if (!this._shut) this._brain.want(wanted);
  }

  ask(question: Question, answer: (text: string) => void): void {
    this._brain.ask(question, answer);
  }

  hide(hidden: boolean): void {
    this._brain.hide(hidden);
  }

  place(name: string, filter?: string, cursor?: string): void {
    this._brain.place(name, filter, cursor);
  }

  whenIdle(run: () => void): void {
    this._brain.whenIdle(run);
  }

  stop(): void {
    this._brain.stop();
  }
}
