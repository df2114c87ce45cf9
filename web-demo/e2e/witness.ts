import { WebSocket } from 'ws';

/** A message as the log has it. */
export interface Told {
  readonly topic: string;
  readonly position: string;
  readonly timestamp: number;
  readonly payload: unknown;
}

/** The frames that matter here. Others are ignored, as the protocol says. */
type Frame =
  | { type: 'message'; position: string; envelope: { metadata: { topic: string; timestamp: string }; payload: unknown } }
  | { type: 'caught_up' | 'ping' | 'gap' | 'refused' | 'go_away' };

/**
 * An independent subscriber, which says what the truth is: it speaks docs/PROTOCOL.md by hand, shares no code with the client,
 * and is connected straight to the gateway, not through the chaos proxy.
 */
export class Witness {
  readonly told: Told[] = [];
  private failure: Error | undefined;

  private constructor(private readonly socket: WebSocket) {}

  /** From now on; with a snapshot, it is also told the newest value of each state topic. */
  static async connect(url: string, token: string, filter: string, snapshot: 'none' | 'if_new' = 'none'): Promise<Witness> {
    const socket = new WebSocket(url, 'anabranch.v1.json');
    const witness = new Witness(socket);
    await new Promise<void>((resolve, reject) => {
      socket.on('error', reject);
      socket.on('close', (code) => {
        witness.failure ??= new Error(`the witness was disconnected (${code})`);
        reject(witness.failure);
      });
      socket.on('open', () => {
        socket.send(JSON.stringify({ type: 'hello', token, subscriptions: [{ id: 1, filter, snapshot }] }));
      });
      socket.on('message', (data) => {
        const frame = JSON.parse(String(data)) as Frame;
        witness.hear(frame);
        if (frame.type === 'caught_up') resolve();
      });
    });
    return witness;
  }

  /** The newest position, or nothing yet. */
  get newest(): string | undefined {
    this.check();
    return this.told.at(-1)?.position;
  }

  /** What was told from one position to another, both included. */
  between(first: string, last: string): Told[] {
    this.check();
    const at = (position: string): number => this.told.findIndex((one) => one.position === position);
    const [from, to] = [at(first), at(last)];
    if (from < 0 || to < 0) throw new Error(`the witness does not know ${from < 0 ? first : last}`);
    return this.told.slice(from, to + 1);
  }

  close(): void {
    this.failure = new Error('the witness was closed');
    this.socket.close();
  }

  private check(): void {
    if (this.failure) throw this.failure;
  }

  private hear(frame: Frame): void {
    switch (frame.type) {
      case 'message': {
        const { topic, timestamp } = frame.envelope.metadata;
        const { payload } = frame.envelope;
        return void this.told.push({ topic, position: frame.position, timestamp: Date.parse(timestamp), payload });
      }
      case 'ping':
        return this.socket.send('{"type":"pong"}');
      case 'gap':
      case 'refused':
      case 'go_away':
        this.failure = new Error(`the witness cannot witness: ${JSON.stringify(frame)}`);
    }
  }
}
