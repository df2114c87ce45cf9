import type { Client, Subscription, SubscriptionEvent } from '@anabranch/client';
import { everyTick } from './age.ts';
import { el, panel } from './dom.ts';
import type { Devices } from './devices.ts';
import type { Link } from './link.ts';
import { Tape } from './tape.ts';
import { ALL_TELEMETRY, parse } from './topics.ts';

const SECONDS = 90;
/** A message that comes later than this after it was made was caught up, not live. */
const LATE_MS = 2_500;

/** One second of the stream, by the time at which its messages were made. */
interface Second {
  live: number;
  late: number;
  gap: boolean;
}

/**
 * The proof: every message of the fleet as a bar at the second in which it was made. A cut leaves no hole; what came late is
 * drawn in another colour, and what is gone for good is marked.
 */
export class Continuity {
  readonly element: HTMLElement;
  readonly subscription: Subscription;
  private readonly canvas = el('canvas', { class: 'strip', role: 'img', 'aria-label': 'Messages for each second' });
  private readonly numbers = el('dl', { class: 'numbers' });
  private readonly tape = new Tape();
  private readonly seconds = new Map<number, Second>();
  private catchingUp: { since: number; late: number } | undefined;

  constructor(
    client: Client,
    private readonly devices: Devices,
    private readonly link: Link,
  ) {
    // The newest values again, after a reload, would be no part of the stream.
    this.subscription = client.on(ALL_TELEMETRY, (event) => this.take(event), { snapshot: 'none' });
    const key = (name: string, text: string): HTMLElement => el('span', { class: `key ${name}` }, text);
    const legend = el('p', { class: 'legend' }, key('live', 'live'), key('late', 'caught up'), key('gap', 'gap'));
    this.element = panel('Continuity', this.numbers, this.canvas, legend);
    everyTick((now) => this.draw(now));
  }

  private take(event: SubscriptionEvent): void {
    const now = Date.now();
    if (event.type === 'subscribed') {
      if (event.outcome !== 'live') this.catchingUp = { since: now, late: 0 };
      if (event.outcome === 'reset') this.link.note('the log has another history: starting anew', 'bad');
    }
    if (event.type === 'live' && this.catchingUp) {
      this.link.note(`caught up ${this.catchingUp.late} messages in ${now - this.catchingUp.since} ms`, 'good');
      this.catchingUp = undefined;
    }
    if (event.type === 'gap') {
      this.tape.totals.gaps += 1;
      this.at(now).gap = true;
      this.link.note(`gap: records ${event.after} to ${event.before} are gone (${event.reason})`, 'bad');
    }
    if (event.type === 'closed') this.link.note(`telemetry ended: ${event.error.message}`, 'bad');
    if (event.type !== 'message') return;
    const made = Date.parse(event.metadata.timestamp);
    this.tape.take(event.position);
    const device = parse(event.topic)?.device;
    if (device) this.devices.seen(device, made);
    if (this.catchingUp) this.catchingUp.late += 1;
    const late = now - made > LATE_MS;
    this.at(made)[late ? 'late' : 'live'] += 1;
    // For whoever wants to check the stream from outside of this page.
    dispatchEvent(new CustomEvent('anabranch:message', { detail: { topic: event.topic, position: event.position } }));
  }

  private at(ms: number): Second {
    const key = Math.floor(ms / 1000);
    const second = this.seconds.get(key) ?? { live: 0, late: 0, gap: false };
    this.seconds.set(key, second);
    return second;
  }

  private draw(now: number): void {
    const { received, gaps, repeated, reloads } = this.tape.totals;
    this.numbers.replaceChildren(
      number('received', received.toLocaleString()),
      number('gaps', gaps),
      number('twice', repeated),
      number('reloads', reloads),
    );
    this.element.classList.toggle('stale', this.subscription.stale);
    const last = Math.floor(now / 1000);
    for (const key of this.seconds.keys()) if (key < last - SECONDS) this.seconds.delete(key);
    this.paint(last);
  }

  private paint(last: number): void {
    const { canvas } = this;
    const scale = devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
    if (width === 0) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext('2d');
    if (!context) return;
    const style = getComputedStyle(canvas);
    const color = (name: string): string => style.getPropertyValue(name).trim();
    context.clearRect(0, 0, width, height);
    const most = Math.max(4, ...[...this.seconds.values()].map(({ live, late }) => live + late));
    const step = Math.max(2, Math.floor(width / SECONDS));
    for (let i = 0; i < SECONDS; i += 1) {
      const second = this.seconds.get(last - SECONDS + 1 + i);
      if (!second) continue;
      const [left, wide] = [width - (SECONDS - i) * step, step - 1];
      const live = (second.live / most) * height;
      const late = (second.late / most) * height;
      context.fillStyle = color('--good');
      context.fillRect(left, height - live, wide, live);
      context.fillStyle = color('--late');
      context.fillRect(left, height - live - late, wide, late);
      if (!second.gap) continue;
      context.fillStyle = color('--bad');
      context.fillRect(left, 0, wide, height);
    }
  }
}

function number(name: string, value: number | string): HTMLElement {
  return el('div', {}, el('dt', {}, name), el('dd', { id: `count-${name}` }, String(value)));
}
