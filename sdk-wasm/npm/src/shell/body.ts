import { AnabranchError } from '../errors.ts';
import type { ClientOptions } from '../options.ts';
import type { Call, Effect, TokenReason } from './core.ts';
import type { Environment } from './environment.ts';
import { Sockets } from './sockets.ts';
import { askForToken } from './tokens.ts';

type BodyEffect = Extract<Effect, ['open' | 'send' | 'close' | 'token' | 'timer', ...unknown[]]>;

/** What the core has no hands for: the socket, the timer, and asking the app for a token. */
export class Body {
  private readonly sockets: Sockets;
  private stopTimer: (() => void) | undefined;
  private asking = new AbortController();
  private heard: number | null = null;

  constructor(
    private readonly options: ClientOptions,
    private readonly environment: Environment,
    private readonly call: Call,
    private readonly report: (error: AnabranchError) => void,
    /** Asks the apps of other pages, where this one's has no token. */
    private readonly askOthers: (why: TokenReason, cancel: AbortSignal) => Promise<string | undefined> | undefined,
  ) {
    this.sockets = new Sockets(environment, options.url, {
      opened: (attempt) => call('opened', attempt),
      received: (attempt, text) => {
        this.heard = environment.wall();
        call('received', attempt, text);
      },
      closed: (attempt, code) => call('closed', attempt, code),
    });
  }

  /** Unix milliseconds of the last frame. */
  get heardAt(): number | null {
    return this.heard;
  }

  /** Another tab's body has received a frame. */
  hear(): void {
    this.heard = this.environment.wall();
  }

  carryOut(effect: BodyEffect): void {
    switch (effect[0]) {
      case 'open':
        return this.open(effect[1]);
      case 'send':
        return this.sockets.send(effect[1], effect[2]);
      case 'close':
        return this.sockets.close(effect[1], effect[2]);
      case 'token':
        return void this.token(effect[1], effect[2]);
      case 'timer':
        return this.timer(effect[1]);
    }
  }

  /** Lets go of all that belongs to one instance of the core. */
  letGo(): void {
    this.asking.abort();
    this.asking = new AbortController();
    this.timer(null);
    this.sockets.closeAll();
  }

  private open(attempt: number): void {
    try {
      this.sockets.open(attempt);
    } catch (cause) {
      const message = `The browser refuses to connect to ${this.options.url}: ${String(cause)}`;
      this.report(new AnabranchError('bad_url', message, false, HINT_URL, { cause }));
      this.call('closed', attempt, 1006);
    }
  }

  /** Asks this page's own app. */
  askApp(why: TokenReason, cancel: AbortSignal): Promise<string> {
    return askForToken(this.options.token, why, cancel, this.environment);
  }

  private async token(request: number, why: TokenReason): Promise<void> {
    const { signal } = this.asking;
    let token: string | undefined;
    let failure = '';
    try {
      token = await this.askApp(why, signal);
    } catch (cause) {
      if (signal.aborted) return;
      failure = String(cause);
      this.report(new AnabranchError('token', `No token: ${failure}`, true, undefined, { cause }));
      token = await this.askOthers(why, signal);
    }
    if (signal.aborted) return;
    if (token === undefined) this.call('token_failed', request, failure);
    else this.call('token', request, token);
  }

  private timer(at: number | null): void {
    this.stopTimer?.();
    this.stopTimer = undefined;
    if (at === null) return;
    const delay = Math.max(0, at - this.environment.now());
    this.stopTimer = this.environment.setTimer(() => {
      this.stopTimer = undefined;
      this.call('timer');
    }, delay);
  }
}

const HINT_URL = 'The url is wss://host/v1/ws; a page loaded over https may not use ws:.';
