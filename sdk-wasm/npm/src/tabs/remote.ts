import type { Call } from '../shell/core.ts';
import type { Brain, Question } from '../shell/local.ts';
import type { Say } from './words.ts';

/** The core of another tab. Its effects come to the session by themselves. */
export class Remote implements Brain {
  private readonly _answers = new Map<number, (text: string) => void>();
  private _number = 0;

  constructor(
    readonly leader: string,
    private readonly _tab: string,
    private readonly _say: Say,
  ) {}

  readonly call: Call = (name, ...args) => this._say('call', this.leader, this._tab, name, args);

  ask(question: Question, answer: (text: string) => void): void {
    this._answers.set((this._number += 1), answer);
    this._say('ask', this.leader, this._tab, this._number, question);
  }

  answered(number: number, text: string): void {
    const answer = this._answers.get(number);
    this._answers.delete(number);
    answer?.(text);
  }

  want(wanted: boolean): void {
    this._say('want', this.leader, this._tab, wanted);
  }

  hide(hidden: boolean): void {
    this._say('hide', this.leader, this._tab, hidden);
  }

  place(name: string, filter?: string, cursor?: string): void {
    this._say('place', this.leader, this._tab, name, filter, cursor);
  }

  whenIdle(run: () => void): void {
    run();
  }

  stop(): void {
    this._answers.clear();
  }
}
