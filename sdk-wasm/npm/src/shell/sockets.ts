import type { Environment, Socket } from './environment.ts';

/** The WebSocket subprotocol spoken here. */
const PROTOCOL = 'anabranch.v1.json';

/** What becomes of a socket; each call names the attempt that opened it. */
export interface SocketListener {
  opened(attempt: number): void;
  received(attempt: number, text: string): void;
  closed(attempt: number, code: number): void;
}

/** The sockets by attempt: at most one in use, and perhaps one that is on its way out. */
export class Sockets {
  private readonly _open = new Map<number, Socket>();

  constructor(
    private readonly _environment: Environment,
    private readonly _url: string,
    private readonly _listener: SocketListener,
  ) {}

  /** Throws where the browser refuses to try, as for `ws:` from an `https:` page. */
  open(attempt: number): void {
    const socket = this._environment.socket?.(this._url, PROTOCOL);
    if (!socket) return;
    this._open.set(attempt, socket);
    socket.onopen = () => this._listener.opened(attempt);
    socket.onmessage = (event) => {
      if (typeof event.data === 'string') this._listener.received(attempt, event.data);
    };
    socket.onclose = (event) => {
      this._open.delete(attempt);
      this._listener.closed(attempt, event.code);
    };
  }

  send(attempt: number, text: string): void {
    this._open.get(attempt)?.send(text);
  }

  /** Closes it without waiting for the other side: a dead peer would keep `onclose` back for a minute. */
  close(attempt: number, code = 1000): void {
    const socket = this._open.get(attempt);
    if (!socket) return;
    this._open.delete(attempt);
    socket.onopen = socket.onmessage = socket.onclose = null;
    // Pages may close with 1000 and 3000 to 4999 only.
    socket.close(code === 1000 || (code >= 3000 && code <= 4999) ? code : undefined);
  }

  letGo(): void {
    for (const attempt of [...this._open.keys()]) this.close(attempt);
  }
}
