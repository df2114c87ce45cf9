import type { ShadowView } from '@anabranch/client';
import { el, say } from './dom.ts';
import { differing, type Field } from './fields.ts';
import { readState, type Reported, type Settings } from './topics.ts';

const STEPS = ['sent', 'accepted', 'applied'] as const;
type Step = (typeof STEPS)[number];

/** What became of a wish: the log has it, the gateway counts it, the device does it. */
export class Progress {
  readonly element = el('ol', { class: 'progress', 'aria-label': 'What became of the wish', hidden: true });
  private readonly steps = new Map(STEPS.map((step) => [step, el('li', {}, el('b', {}, step), el('span'))]));
  private begun = 0;
  private fields: readonly Field[] = [];
  private wished: Reported = readState(null);

  constructor() {
    this.element.append(...this.steps.values());
  }

  begin(fields: readonly Field[], wished: Reported): void {
    Object.assign(this, { fields, wished, begun: performance.now() });
    for (const [step, item] of this.steps) {
      item.className = '';
      say(item.lastElementChild as HTMLElement, step === 'sent' ? 'waits for the connection' : '');
    }
    this.element.hidden = false;
  }

  hide(): void {
    this.element.hidden = true;
    this.fields = [];
  }

  stored(): void {
    this.mark('sent', `the log has it, ${this.since()}`);
  }

  accepted(version: number): void {
    this.stored();
    this.mark('accepted', `as version ${version}, ${this.since()}`);
  }

  applied(version: number): void {
    this.accepted(version);
    this.mark('applied', `by the device, ${this.since()}`);
  }

  /** Looks in a view for how far the wish has come. */
  look(view: ShadowView<Settings>, reported: Reported): void {
    const [field] = this.fields;
    if (!field) return;
    const pending = view.pending[field.pointer];
    if (pending?.stage === 'sent') this.stored();
    if (pending?.stage === 'accepted') this.accepted(pending.version);
    if (!this.is('accepted')) return;
    const open = differing(this.wished, reported).filter(({ pointer }) => this.fields.some((field) => field.pointer === pointer));
    if (open.length === 0) this.mark('applied', `by the device, ${this.since()}`);
    else if (open.every(({ pointer }) => pointer in reported.refused)) this.mark('applied', `refused by the device, ${this.since()}`);
  }

  unanswered(unanswered: boolean): void {
    const item = this.steps.get('accepted');
    if (!item || this.is('accepted')) return;
    say(item.lastElementChild as HTMLElement, unanswered ? 'no answer: is the gateway’s shadow service on?' : '');
  }

  private is(step: Step): boolean {
    return this.steps.get(step)?.className === 'done';
  }

  private mark(step: Step, note: string): void {
    const item = this.steps.get(step);
    if (!item || this.is(step)) return;
    item.className = 'done';
    say(item.lastElementChild as HTMLElement, note);
  }

  private since(): string {
    return `${Math.round(performance.now() - this.begun)} ms`;
  }
}
