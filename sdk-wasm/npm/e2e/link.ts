/**
 * The wire between pages and a gateway: a TCP proxy that counts, cuts, freezes and forgets. It knows nothing of WebSocket, so what it does to a
 * connection is what a network does.
 */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** Two ends of one connection. */
interface Way {
  readonly page: Socket;
  readonly gateway: Socket;
  /** It leads nowhere, for good, and neither end is told. */
  forgotten: boolean;
  /** Ends whose other end has left, which they do not know yet. */
  readonly left: Set<Socket>;
}

export class Link {
  /** Connections of pages that are open, also those that lead nowhere. */
  readonly connections = new Set<Socket>();
  /** How many there have been. */
  total = 0;
  private down = false;
  private frozen = false;
  private readonly ways = new Set<Way>();
  private readonly server = createServer((page) => this.take(page));

  private constructor(private readonly port: number) {}

  /** To a gateway on this port, whether or not it is there. */
  static async to(port: number): Promise<Link> {
    const link = new Link(port);
    link.server.listen(0, '127.0.0.1');
    await once(link.server, 'listening');
    return link;
  }

  /** For pages. */
  get url(): string {
    return `ws://127.0.0.1:${(this.server.address() as AddressInfo).port}/v1/ws`;
  }

  /** Ends all connections, and takes none until `heal`. */
  cut(): void {
    this.down = true;
    for (const { page, gateway } of this.ways) for (const socket of [page, gateway]) socket.destroy();
  }

  /** A black hole: nothing passes either way, nothing is closed, and what is new is taken and waits too. `heal` lets all of it go on. */
  freeze(): void {
    this.frozen = true;
    for (const way of this.ways) hold(way);
  }

  /** What is open leads nowhere from now on, as after a router has forgotten it: for good, and nobody is told. What is new passes. */
  forget(): void {
    for (const way of this.ways) {
      way.forgotten = true;
      hold(way);
    }
  }

  heal(): void {
    this.down = this.frozen = false;
    for (const way of this.ways) {
      if (way.forgotten) continue;
      for (const socket of [way.page, way.gateway]) socket.resume();
      for (const socket of way.left) socket.destroySoon();
    }
  }

  stop(): void {
    this.cut();
    this.server.close();
  }

  private take(page: Socket): void {
    if (this.down) return void page.destroy();
    const way: Way = { page, gateway: connect(this.port, '127.0.0.1'), forgotten: false, left: new Set() };
    this.ways.add(way);
    this.connections.add(page);
    this.total += 1;
    page.once('close', () => this.connections.delete(page));
    for (const [from, to] of [[page, way.gateway], [way.gateway, page]] as const) {
      from.setNoDelay();
      from.on('data', (piece) => {
        if (to.write(piece)) return;
        from.pause();
        to.once('drain', () => this.passes(way) && from.resume());
      });
      // What was said last arrives, as a gateway's reason for closing does.
      const leaves = (): void => void (this.passes(way) ? to.destroySoon() : way.left.add(to));
      from.on('error', leaves).on('end', leaves).on('close', leaves);
      from.once('close', () => way.page.destroyed && way.gateway.destroyed && this.ways.delete(way));
    }
    if (this.frozen) hold(way);
  }

  private passes(way: Way): boolean {
    return !this.frozen && !way.forgotten;
  }
}

function hold(way: Way): void {
  way.page.pause();
  way.gateway.pause();
}
