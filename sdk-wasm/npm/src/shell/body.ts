import { AnabranchError } from '../errors.ts';
import type { ClientOptions } from '../options.ts';
import type { Call, Effect, TokenReason } from './core.ts';
import type { Environment } from './environment.ts';
import { Sockets } from './sockets.ts';
import { askForToken } from './tokens.ts';

type BodyEffect = Extract<Effect, ['open' | 'send' | 'close' | 'token' | 'timer', ...unknown[]]>;

/** What the core has no hands for: the socket, the timer, and asking the app for a token. */
export class Body {
  private readonly _sockets: Sockets;
  private _stopTimer: (() => void) | undefined;
  private _asking = new AbortController();
  private _heard: number | null = null;

  constructor(
    private readonly _options: ClientOptions,
    private readonly _environment: Environment,
    private readonly _call: Call,
    private readonly _report: (error: AnabranchError) => void,
    /** Asks the apps of other pages, where this one's has no token. */
    private readonly _askOthers: (why: TokenReason, cancel: AbortSignal) => Promise<string | undefined> | undefined,
  ) {
    this._sockets = new Sockets(_environment, _options.url, {
      opened: (attempt) => _call('opened', attempt),
      received: (attempt, text) => {
        this._heard = _environment.wall();
        _call('received', attempt, text);
      },
      closed: (attempt, code) => _call('closed', attempt, code),
    });
  }

  /** Unix milliseconds of the last frame. */
  get heardAt(): number | null {
    return this._heard;
  }

  /** Another tab's body has received a frame. */
  hear(): void {
    this._heard = this._environment.wall();
  }

  carryOut(effect: BodyEffect): void {
    switch (effect[0]) {
      case 'open':
        return this._open(effect[1]);
      case 'send':
        return this._sockets.send(effect[1], effect[2]);
      case 'close':
        return this._sockets.close(effect[1], effect[2]);
      case 'token':
        return void this._token(effect[1], effect[2]);
      case 'timer':
        return this._timer(effect[1]);
    }
  }

  /** Lets go of all that belongs to one instance of the core. */
  letGo(): void {
    this._asking.abort();
    this._asking = new AbortController();
    this._timer(null);
    this._sockets.letGo();
  }

  private _open(attempt: number): void {
    try {
      this._sockets.open(attempt);
    } catch (cause) {
      const message = `The browser refuses to connect to ${this._options.url}: ${String(cause)}`;
      this._report(new AnabranchError('bad_url', message, false, HINT_URL, { cause }));
      this._call('closed', attempt, 1006);
    }
  }

  /** Asks this page's own app. */
  token(why: TokenReason, cancel: AbortSignal): Promise<string> {
    return askForToken(this._options.token, why, cancel, this._environment);
  }

  private async _token(request: number, why: TokenReason): Promise<void> {
    const { signal } = this._asking;
    let token: string | undefined;
    let failure = '';
    try {
      token = await this.token(why, signal);
    } catch (cause) {
      if (signal.aborted) return;
      failure = String(cause);
      this._report(new AnabranchError('token', `No token: ${failure}`, true, undefined, { cause }));
      token = await this._askOthers(why, signal);
    }
    if (signal.aborted) return;
    if (token === undefined) this._call('token_failed', request, failure);
    else this._call('token', request, token);
  }

  private _timer(at: number | null): void {
    this._stopTimer?.();
    this._stopTimer = undefined;
    if (at === null) return;
    const delay = Math.max(0, at - this._environment.now());
    this._stopTimer = this._environment.setTimer(() => {
      this._stopTimer = undefined;
      this._call('timer');
    }, delay);
  }
}

const HINT_URL = 'The url is wss://host/v1/ws; a page loaded over https may not use ws:.';
