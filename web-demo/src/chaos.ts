import { everyTick } from './age.ts';
import type { Demo, Tokens } from './demo.ts';
import { TOKEN_TTL_S } from './demo.ts';
import { el, panel, say } from './dom.ts';
import type { Link } from './link.ts';

const CUT_MS = 30_000;
const FREEZE_MS = 45_000;
const WITHHOLD_MS = (TOKEN_TTL_S + 20) * 1000;

/** Breaks the link between this page and the gateway, to watch it heal. Only where the launcher's proxy is in between. */
export class Chaos {
  readonly element: HTMLElement;
  private readonly status = el('p', { class: 'hint', role: 'status' });
  private harm: { name: string; until: number } | undefined;

  constructor(
    private readonly demo: Demo,
    private readonly tokens: Tokens,
    private readonly link: Link,
  ) {
    const button = (label: string, title: string, run: () => void): HTMLElement =>
      el('button', { type: 'button', title, onclick: run }, label);
    this.element = panel(
      'Chaos',
      el(
        'div',
        { class: 'buttons' },
        button('Cut link 30 s', 'Reset every connection and accept none', () => this.proxy('cut', CUT_MS)),
        button('Freeze link 45 s', 'Let no byte pass, and close nothing', () => this.proxy('freeze', FREEZE_MS)),
        button('Let token expire', 'Give out no new token until the old one has ended', () => this.withhold()),
        button('Heal', 'End all of it', () => this.heal()),
      ),
      this.status,
    );
    everyTick((now) => this.tick(now));
  }

  private async proxy(what: 'cut' | 'freeze', ms: number): Promise<void> {
    if (!(await this.ask(`${what}?ms=${ms}`))) return;
    this.harm = { name: what === 'cut' ? 'link cut' : 'link frozen', until: Date.now() + ms };
    this.link.note(`chaos: ${this.harm.name} for ${ms / 1000} s`);
  }

  private withhold(): void {
    this.harm = { name: 'tokens withheld', until: Date.now() + WITHHOLD_MS };
    this.tokens.withheldUntil = this.harm.until;
    this.link.note(`chaos: no token for ${WITHHOLD_MS / 1000} s; the one in use ends within ${TOKEN_TTL_S} s`);
  }

  private async heal(): Promise<void> {
    this.tokens.withheldUntil = 0;
    if (!(await this.ask('heal'))) return;
    this.harm = undefined;
    this.link.note('chaos: healed');
  }

  private async ask(command: string): Promise<boolean> {
    try {
      const response = await fetch(`${this.demo.controlUrl}/chaos/${command}`, { method: 'POST' });
      if (!response.ok) throw new Error(`it answered ${response.status}`);
      return true;
    } catch (error) {
      this.link.note(`chaos: the proxy's control does not answer (${String(error)})`, 'bad');
      return false;
    }
  }

  private tick(now: number): void {
    const left = this.harm ? Math.ceil((this.harm.until - now) / 1000) : 0;
    if (left <= 0) this.harm = undefined;
    say(this.status, this.harm ? `${this.harm.name}, ${left} s left` : 'The link is whole.');
    this.element.classList.toggle('active', this.harm !== undefined);
  }
}
