import type { Call } from '../shell/core.ts';
import type { Brain, Question } from '../shell/local.ts';
import type { Say } from './words.ts';

/** The core of another tab. Its effects come to the session by themselves. */
export class Remote implements Brain {
  private readonly answers = new Map<number, (text: string) => void>();
  private number = 0;

  constructor(
    readonly leader: string,
    private readonly tab: string,
    private readonly say: Say,
  ) {}

  readonly call: Call = (name, ...args) => this.say('call', this.leader, this.tab, name, args);

  ask(question: Question, answer: (text: string) => void): void {
    this.answers.set((this.number += 1), answer);
    this.say('ask', this.leader, this.tab, this.number, question);
  }

  answered(number: number, text: string): void {
    const answer = this.answers.get(number);
    this.answers.delete(number);
    answer?.(text);
  }

  want(wanted: boolean): void {
    this.say('want', this.leader, this.tab, wanted);
  }

  hide(hidden: boolean): void {
    this.say('hide', this.leader, this.tab, hidden);
  }

  place(name: string, filter?: string, cursor?: string): void {
    this.say('place', this.leader, this.tab, name, filter, cursor);
  }

  whenIdle(run: () => void): void {
    run();
  }

  stop(): void {
    this.answers.clear();
  }
}
