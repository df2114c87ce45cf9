import { AnabranchError, type Client } from '@anabranch/client';
import { answered, type Device } from './devices.ts';
import { el, say } from './dom.ts';
import { desiredOf, METRICS, type ShadowDocument } from './topics.ts';
import * as units from './units.ts';

const INTERVALS = [250, 500, 1000, 2000, 5000];
const STEPS = ['sent', 'stored', 'reported'] as const;
type Step = (typeof STEPS)[number];

/** The form that sets a device's `desired`, and what becomes of the wish: sent, stored by the log, reported back. */
export class Wish {
  readonly element: HTMLElement;
  private readonly interval = el(
    'select',
    { name: 'interval' },
    ...INTERVALS.map((ms) => el('option', { value: ms }, units.interval(ms))),
  );
  private readonly boxes = new Map(METRICS.map((metric) => [metric, el('input', { type: 'checkbox', name: metric })]));
  private readonly steps = new Map(STEPS.map((step) => [step, el('li', {}, el('b', {}, step), el('span'))]));
  private readonly progress = el('ol', { class: 'progress', 'aria-label': 'What became of the wish', hidden: true });
  private readonly error = el('p', { class: 'error', role: 'alert' });
  private device: Device | undefined;
  private edited = false;
  private waiting: { version: number; sentAt: number } | undefined;

  constructor(private readonly client: Client) {
    this.progress.append(...this.steps.values());
    const boxes = [...this.boxes].map(([metric, box]) => el('label', {}, box, metric));
    this.element = el(
      'form',
      { class: 'wish', oninput: () => (this.edited = true), onsubmit: (event) => void this.submit(event) },
      el('fieldset', { class: 'checks' }, el('legend', {}, 'Wish for'), ...boxes),
      el(
        'div',
        { class: 'row' },
        el('label', {}, 'every ', this.interval),
        el('button', { class: 'primary', type: 'submit' }, 'Set desired'),
      ),
      this.progress,
      this.error,
    );
  }

  /** Fills the form from what is wished, else reported, unless somebody is editing it. */
  show(device: Device): void {
    if (this.device?.id !== device.id) {
      this.edited = false;
      this.waiting = undefined;
      this.progress.hidden = true;
      say(this.error, '');
    }
    this.device = device;
    if (this.waiting && answered(device) >= this.waiting.version) {
      const obeyed = (device.reported?.document.desiredVersion ?? 0) >= this.waiting.version;
      this.mark('reported', `${obeyed ? '' : 'refused '}after ${since(this.waiting.sentAt)}`);
      this.waiting = undefined;
    }
    if (this.edited) return;
    const { intervalMs, metrics } = { ...device.reported?.document, ...device.desired?.document };
    if (intervalMs !== undefined) this.choose(intervalMs);
    const lacks = device.reported?.document.unsupported ?? [];
    for (const [metric, box] of this.boxes) {
      box.checked = metrics?.[metric] ?? true;
      box.disabled = lacks.includes(metric);
    }
  }

  private choose(ms: number): void {
    if (!INTERVALS.includes(ms)) {
      this.interval.querySelector('[data-other]')?.remove();
      this.interval.append(el('option', { value: ms, 'data-other': true }, units.interval(ms)));
    }
    this.interval.value = String(ms);
  }

  private async submit(event: Event): Promise<void> {
    event.preventDefault();
    const { device } = this;
    if (!device) return;
    const version = 1 + Math.max(device.desired?.document.version ?? 0, answered(device));
    const metrics = Object.fromEntries([...this.boxes].map(([metric, box]) => [metric, box.checked]));
    const desired: ShadowDocument = { version, intervalMs: Number(this.interval.value), metrics };
    const sentAt = performance.now();
    this.begin(version, sentAt);
    try {
      const { position } = await this.client.publish(desiredOf(device.id), desired, { messageType: 'notification' });
      this.mark('stored', `at ${position.split(':').slice(0, 2).join(':')}, ${since(sentAt)}`);
      this.edited = false;
    } catch (error) {
      const { message, hint } = error as Partial<AnabranchError>;
      say(this.error, `Not stored: ${message} ${hint ?? ''}`);
    }
  }

  private begin(version: number, sentAt: number): void {
    this.waiting = { version, sentAt };
    say(this.error, '');
    for (const item of this.steps.values()) {
      item.className = '';
      say(item.lastElementChild as HTMLElement, '');
    }
    this.progress.hidden = false;
    this.mark('sent', `wish ${version}`);
  }

  private mark(step: Step, note: string): void {
    const item = this.steps.get(step);
    if (!item) return;
    item.className = 'done';
    say(item.lastElementChild as HTMLElement, note);
  }
}

function since(at: number): string {
  return `${Math.round(performance.now() - at)} ms`;
}
