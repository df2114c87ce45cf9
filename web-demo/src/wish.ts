import type { AnabranchError, Client, Shadow as Twin, ShadowView } from '@anabranch/client';
import { type Base, Careful, CONFLICT } from './careful.ts';
import { el, say } from './dom.ts';
import { changed, describe, FIELDS, type SettingsPatch } from './fields.ts';
import { METRICS, readState, type Reported, type Settings } from './topics.ts';
import { Progress } from './progress.ts';
import * as units from './units.ts';

const INTERVALS = [250, 500, 1000, 2000, 5000];

/**
 * The form that sets what is desired of a device. It sends what was edited, and nothing else: what others desire of the other fields stays. If asked to, it writes only upon the
 * version that it showed when the editing began.
 */
export class Wish {
  readonly element: HTMLElement;
  private readonly interval = el('select', { name: '/intervalMs' }, ...INTERVALS.map((ms) => el('option', { value: ms }, units.interval(ms))));
  private readonly boxes = new Map(METRICS.map((metric) => [metric, el('input', { type: 'checkbox', name: `/metrics/${metric}` })]));
  private readonly expect = el('input', { type: 'checkbox', name: 'expect', onchange: () => this.label() });
  private readonly expectation = el('span');
  private readonly send = el('button', { class: 'primary', type: 'submit' }, 'Set desired');
  private readonly progress = new Progress();
  private readonly note = el('p', { class: 'note', role: 'status' });
  private readonly error = el('p', { class: 'error', role: 'alert' });
  private readonly edited = new Set<string>();
  private twin: Twin<Settings> | undefined;
  /** An update upon a version is on its way: what differs from the base may be it. */
  private writing = false;
  private careful: Careful | undefined;
  /** What the form showed when the editing began. */
  private base: Base & { readonly desired: Reported } = { version: 0, incarnation: 0, desired: readState(null) };

  constructor(
    private readonly client: Client,
    private readonly writeAsSomebodyElse: (device: string, intervalMs: number) => Promise<void>,
  ) {
    const boxes = [...this.boxes].map(([metric, box]) => el('label', {}, box, metric));
    const other = el('button', { class: 'small', type: 'button', title: 'A second client changes the interval', onclick: () => void this.disturb() });
    other.append('Somebody else writes');
    this.element = el(
      'form',
      { class: 'wish', oninput: (event) => this.edit(event), onsubmit: (event) => void this.submit(event) },
      el('fieldset', { class: 'checks' }, el('legend', {}, 'Wish for'), ...boxes),
      el('div', { class: 'row' }, el('label', {}, 'every ', this.interval), this.send),
      el('div', { class: 'row' }, el('label', { class: 'expect' }, this.expect, this.expectation), other),
      this.note,
      this.error,
      this.progress.element,
    );
  }

  choose(twin: Twin<Settings>): void {
    this.careful?.close();
    this.careful = new Careful(this.client, twin.device);
    this.twin = twin;
    this.writing = false;
    this.edited.clear();
    this.progress.hide();
    say(this.error, '');
  }

  show(view: ShadowView<Settings>): void {
    const [reported, truth] = [readState(view.reported), readState(view.document?.desired)];
    this.fill(readState(view.desired), reported);
    if (this.edited.size === 0) this.rebase(view);
    const theirs = this.writing ? [] : changed(this.base.desired, truth);
    const kept = 'What you have edited is kept, the rest is theirs.';
    say(this.note, theirs.length === 0 ? '' : `Somebody else now desires ${describe(truth, theirs)}. ${kept}`);
    this.progress.look(view, reported);
    this.label();
  }

  /** `unanswered`: the log has a change, and the gateway has not answered it for long. */
  tick(unanswered: boolean): void {
    this.progress.unanswered(unanswered);
  }

  /** Fills in what is desired, else reported, where nobody is editing. */
  private fill(desired: Reported, reported: Reported): void {
    const intervalMs = desired.intervalMs ?? reported.intervalMs;
    if (intervalMs !== undefined && !this.edited.has('/intervalMs')) this.pick(intervalMs);
    for (const [metric, box] of this.boxes) {
      if (!this.edited.has(box.name)) box.checked = desired.metrics[metric] ?? reported.metrics[metric] ?? true;
      box.disabled = reported.unsupported.includes(metric);
    }
  }

  private pick(ms: number): void {
    if (!INTERVALS.includes(ms)) {
      this.interval.querySelector('[data-other]')?.remove();
      this.interval.append(el('option', { value: ms, 'data-other': true }, units.interval(ms)));
    }
    this.interval.value = String(ms);
  }

  private edit(event: Event): void {
    const { name } = event.target as HTMLInputElement;
    if (name.startsWith('/')) this.edited.add(name);
  }

  private rebase({ version, document }: ShadowView<Settings>): void {
    this.base = { version, incarnation: document?.incarnation ?? 0, desired: readState(document?.desired) };
  }

  private label(): void {
    say(this.expectation, this.base.version === 0 ? 'only if there is no shadow' : `only if still version ${this.base.version}`);
  }

  /** What was edited, as a merge patch. */
  private patch(): SettingsPatch {
    const boxes = [...this.boxes].filter(([, box]) => this.edited.has(box.name)).map(([metric, box]) => [metric, box.checked] as const);
    return {
      ...(this.edited.has('/intervalMs') ? { intervalMs: Number(this.interval.value) } : {}),
      ...(boxes.length > 0 ? { metrics: Object.fromEntries(boxes) } : {}),
    };
  }

  private async submit(event: Event): Promise<void> {
    event.preventDefault();
    const { twin } = this;
    if (!twin) return;
    say(this.error, this.edited.size === 0 ? 'Nothing is edited.' : '');
    if (this.edited.size === 0) return;
    const patch = this.patch();
    const fields = FIELDS.filter(({ pointer }) => this.edited.has(pointer));
    this.progress.begin(fields, readState(patch));
    if (this.expect.checked) return this.submitCarefully(patch);
    this.edited.clear();
    const change = twin.setDesired(patch);
    const settled = await change.settled();
    if (twin !== this.twin) return;
    if (settled.outcome === 'applied') this.progress.applied(settled.version);
    if (settled.outcome === 'rejected') this.fail(`Not written: ${settled.message} (${settled.code})`);
    if (settled.outcome === 'superseded') this.fail('Somebody has asked for something else since.');
  }

  /** Writes upon the version that was shown. If there is another one, what was edited stays, and the rest becomes as it is now. */
  private async submitCarefully(patch: SettingsPatch): Promise<void> {
    const { twin, careful, base } = this;
    if (!twin || !careful) return;
    this.writing = true;
    try {
      const answer = await careful.write(patch, base, () => this.progress.stored());
      this.writing = false;
      if (twin !== this.twin) return;
      if (answer.outcome === 'accepted') {
        this.edited.clear();
        this.progress.accepted(answer.version);
      } else if (answer.code === CONFLICT) this.conflict(base, answer.version);
      else this.fail(`Not written: ${answer.message} (${answer.code})`);
      this.show(twin.get());
    } catch (error) {
      this.writing = false;
      if (twin !== this.twin) return;
      const { message, hint } = error as Partial<AnabranchError>;
      this.fail(`Not written: ${message} ${hint ?? ''}`);
    }
  }

  private conflict(base: Base & { readonly desired: Reported }, version: number): void {
    const view = this.twin?.get();
    if (!view) return;
    const now = readState(view.document?.desired);
    const theirs = changed(base.desired, now);
    const meanwhile = theirs.length === 0 ? 'Nothing else is desired meanwhile, but something was written.' : `Meanwhile: ${describe(now, theirs)}.`;
    this.fail(`Refused: the shadow is at version ${version}, and you looked at version ${base.version}. ${meanwhile} Your edits are kept: look again, then send again.`);
    this.rebase(view);
  }

  private fail(why: string): void {
    this.progress.hide();
    say(this.error, why);
  }

  /** Another client, with a connection of its own, asks for another interval. */
  private async disturb(): Promise<void> {
    const { twin } = this;
    if (!twin) return;
    const now = readState(twin.get().desired).intervalMs ?? readState(twin.get().reported).intervalMs;
    const next = INTERVALS[(INTERVALS.indexOf(now ?? 0) + 1) % INTERVALS.length] ?? 1000;
    try {
      await this.writeAsSomebodyElse(twin.device, next);
    } catch (error) {
      this.fail(`Somebody else could not write: ${(error as Error).message}`);
    }
  }
}
