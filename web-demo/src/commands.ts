import type { Client, CommandProgress, Commands as Asker } from '@anabranch/client';
import type { Device } from './devices.ts';
import { el, panel, say } from './dom.ts';
import { VIEWS } from './metrics.ts';
import type { Speaker } from './speaker.ts';
import { number, record, records } from './topics.ts';
import * as units from './units.ts';

/** Processes in the list. */
const COUNT = 6;

const WORDS: Record<CommandProgress['stage'], string> = {
  queued: 'queued',
  sent: 'sent',
  accepted: 'stored, waits for the device',
  done: 'done',
  failed: 'failed',
  expired: 'came too late, not done',
  cancelled: 'taken back',
  unanswered: 'no answer: perhaps done, perhaps not',
};

/** Tells the chosen device to do something, and shows how far that has come and what the device answers. */
export class Commands {
  readonly element: HTMLElement;
  private readonly status = el('p', { class: 'hint', role: 'status', id: 'command' }, 'Each is done once, or you are told.');
  private readonly answer = el('div', { class: 'answer' });
  private asker: Asker | undefined;
  private device: Device | undefined;
  private latest = 0;

  constructor(
    private readonly client: Client,
    private readonly speaker: Speaker,
  ) {
    const button = (label: string, run: () => void): HTMLElement => el('button', { type: 'button', onclick: run }, label);
    const buttons = [
      button('Measure now', () => this.send('measure', null, measured)),
      button('Top processes', () => this.send('top', { count: COUNT }, processes)),
    ];
    this.element = panel('Commands', el('div', { class: 'buttons' }, ...buttons), this.status, this.answer);
  }

  show(device: Device): void {
    if (this.device?.id === device.id) return;
    this.device = device;
    this.latest += 1;
    say(this.status, 'Each is done once, or you are told.');
    this.answer.replaceChildren();
  }

  private send(name: string, args: unknown, show: (result: unknown) => Node): void {
    const { device, speaker } = this;
    if (!device) return say(this.status, 'Choose a device.');
    if (!speaker.subject) return say(this.status, 'The token does not say who you are.');
    // From the first command on: until then the page needs no answers.
    this.asker ??= this.client.commands(speaker.subject);
    const begun = performance.now();
    const mine = (this.latest += 1);
    const { progress } = this.asker.send(device.id, name, args);
    const look = (): void => {
      if (mine !== this.latest) return stop();
      const now = progress.get();
      const why = now.stage === 'failed' ? `: ${now.error.message}` : '';
      say(this.status, `${name}: ${WORDS[now.stage]}${why}, ${Math.round(performance.now() - begun)} ms`);
      if (now.stage === 'done') this.answer.replaceChildren(show(now.result));
    };
    const stop = progress.subscribe(look);
    look();
  }
}

function processes(result: unknown): Node {
  const head = ['Process', 'CPU', 'Memory'].map((title) => el('th', { scope: 'col' }, title));
  const rows = records(record(result)['processes']).map((one) =>
    el(
      'tr',
      {},
      el('th', { scope: 'row' }, `${String(one['name'])} (${String(one['pid'])})`),
      el('td', {}, units.percent(number(one['cpuPercent']) ?? 0)),
      el('td', {}, units.bytes(number(one['memoryBytes']) ?? 0)),
    ),
  );
  return el('table', {}, el('thead', {}, el('tr', {}, ...head)), el('tbody', {}, ...rows));
}

function measured(result: unknown): Node {
  const rows = VIEWS.flatMap(({ metric, title, lines, read, write }) => {
    const payload = record(result)[metric];
    if (payload === undefined) return [];
    const values = read(record(payload)).map((value, at) => `${lines[at]} ${value === null ? '–' : write(value)}`);
    return [el('tr', {}, el('th', { scope: 'row' }, title), el('td', {}, values.join(' · ')))];
  });
  return el('table', {}, el('tbody', {}, ...rows));
}
