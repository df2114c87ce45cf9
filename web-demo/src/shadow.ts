import type { Client, Shadow as Twin, ShadowView } from '@anabranch/client';
import { age, ago, clock, everyTick } from './age.ts';
import type { Device } from './devices.ts';
import { el, panel, say } from './dom.ts';
import { differing, FIELDS, type Field } from './fields.ts';
import { readState, type Reported, type Settings } from './topics.ts';
import { Wish } from './wish.ts';

/** A change that the gateway has not answered for so long is worth a word. */
const UNANSWERED_MS = 10_000;

/** A device's shadow as the gateway keeps it: what the device reports, what is desired, what is pending; and the form to wish. */
export class Shadow {
  readonly element: HTMLElement;
  private readonly wish: Wish;
  private readonly summary = el('p', { class: 'summary', role: 'status', id: 'shadow' }, 'Choose a device.');
  private readonly body = el('tbody');
  private readonly reasons = el('ul', { class: 'reasons' });
  private twin: Twin<Settings> | undefined;
  private stop: (() => void) | undefined;
  private unanswered: number | undefined;

  constructor(
    private readonly client: Client,
    writeAsSomebodyElse: (device: string, intervalMs: number) => Promise<void>,
    /** Unix milliseconds up to which the connection vouches for what is shown. */
    private readonly freshAsOf: () => number | null,
  ) {
    this.wish = new Wish(client, writeAsSomebodyElse);
    const head = ['Field', 'Reported', 'Desired', ''].map((title) => el('th', { scope: 'col' }, title));
    const table = el('table', { class: 'shadow' }, el('thead', {}, el('tr', {}, ...head)), this.body);
    this.element = panel('Shadow', this.summary, table, this.reasons, this.wish.element);
    everyTick((now) => this.tick(now));
  }

  show({ id }: Device): void {
    if (this.twin?.device === id) return;
    this.stop?.();
    this.twin?.close();
    this.twin = this.client.shadow<Settings>(id);
    this.stop = this.twin.subscribe(() => this.draw());
    this.wish.choose(this.twin);
    this.draw();
  }

  private draw(): void {
    const view = this.twin?.get();
    if (!view) return;
    const [reported, desired] = [readState(view.reported), readState(view.desired)];
    const open = new Set(differing(desired, reported).map(({ pointer }) => pointer));
    this.body.replaceChildren(...FIELDS.map((field) => row(field, reported, desired, stateOf(field, view, reported, open))));
    this.reasons.replaceChildren(...reasons(view, reported, open).map((why) => el('li', {}, why)));
    const waits = Object.values(view.pending).some(({ stage }) => stage === 'sent');
    this.unanswered = waits ? (this.unanswered ?? Date.now()) : undefined;
    this.wish.show(view);
    this.tick(Date.now());
  }

  private tick(now: number): void {
    const view = this.twin?.get();
    if (!view) return;
    this.element.classList.toggle('stale', !view.live);
    say(this.summary, `${this.about(view)} · ${this.freshness(view, now)}`);
    this.wish.tick(this.unanswered !== undefined && now - this.unanswered > UNANSWERED_MS);
  }

  private about({ known, document, closed }: ShadowView<Settings>): string {
    if (closed) return closed.message;
    if (!known) return 'not known yet';
    return document ? `version ${document.version}, written ${ago(Date.now() - document.timestamp)}` : 'no shadow yet; the first wish makes one';
  }

  private freshness({ live, asOf }: ShadowView<Settings>, now: number): string {
    const at = live ? (this.freshAsOf() ?? asOf) : asOf;
    if (at === null) return 'stale';
    return live ? `as of ${clock(at)}` : `stale, as of ${clock(at)}, ${age(now - at)} old`;
  }
}

/** How it stands with a field: this page's change of it, then the device's refusal, then that it differs. */
function stateOf({ pointer }: Field, view: ShadowView<Settings>, reported: Reported, open: Set<string>): string {
  const pending = view.pending[pointer];
  if (pending && pending.stage !== 'accepted') return pending.stage;
  if (open.has(pointer) && pointer in reported.refused) return 'refused';
  if (pending) return pending.stage;
  return open.has(pointer) ? 'differs' : '';
}

function row(field: Field, reported: Reported, desired: Reported, state: string): HTMLElement {
  return el(
    'tr',
    { class: state, 'data-field': field.pointer },
    el('th', { scope: 'row' }, field.name),
    el('td', {}, field.read(reported) ?? '–'),
    el('td', {}, field.read(desired) ?? '–'),
    el('td', { class: 'state' }, state),
  );
}

/** Why fields are not as they are desired, in the words of the device or the gateway. */
function reasons(view: ShadowView<Settings>, reported: Reported, open: Set<string>): string[] {
  const ours = FIELDS.flatMap(({ name, pointer }) => {
    const pending = view.pending[pointer];
    if (pending?.stage === 'rejected') return [`${name}: ${pending.message} (${pending.code})`];
    const why = reported.refused[pointer];
    return why !== undefined && open.has(pointer) ? [`${name}: the device refuses: ${why}`] : [];
  });
  // What another writer desires, and this page has no row for.
  const others = Object.entries(reported.refused).filter(([field]) => !FIELDS.some(({ pointer }) => pointer === field));
  return [...ours, ...others.map(([field, why]) => `${field}: the device refuses: ${why}`)];
}
