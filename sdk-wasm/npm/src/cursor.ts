/**
 * The arithmetic of cursors on the app's side of the buffer: the core's cursor covers what has arrived, this one what the
 * app has taken. `logid/partition:offset:fingerprint,…`, as in docs/PROTOCOL.md.
 */
export class Cursor {
  private constructor(
    private readonly _log: string,
    private readonly _entries: Map<number, string>,
  ) {}

  /** Undefined for what is no cursor: the gateway will say so, and give another. */
  static parse(text: string): Cursor | undefined {
    const slash = text.indexOf('/');
    if (slash < 0) return undefined;
    const entries = new Map<number, string>();
    for (const position of text.slice(slash + 1).split(',')) {
      if (position !== '') entries.set(partitionOf(position), position);
    }
    return new Cursor(text.slice(0, slash), entries);
  }

  /** Whether the message there lies before it. */
  covers(position: string): boolean {
    const own = this._entries.get(partitionOf(position));
    return own !== undefined && offsetOf(position) <= offsetOf(own);
  }

  /** Moves past one message. */
  advance(position: string): void {
    this._entries.set(partitionOf(position), position);
  }

  toString(): string {
    const rising = [...this._entries].sort(([a], [b]) => a - b);
    return `${this._log}/${rising.map(([, position]) => position).join(',')}`;
  }
}

function offsetOf(position: string): bigint {
  return BigInt(position.split(':')[1] ?? 0);
}

function partitionOf(position: string): number {
  return Number.parseInt(position, 10);
}
