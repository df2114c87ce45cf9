const KEY = 'tape';

/** What this tab has received since it was opened, over any number of reloads. */
export interface Totals {
  received: number;
  gaps: number;
  /** Messages at or before one already received: the client promises that there are none. */
  repeated: number;
  reloads: number;
  /** By partition, the newest offset. */
  newest: Record<string, string>;
}

/** Counts every message of a stream and checks that it moves only forward. Lives in `sessionStorage`, as the cursor does. */
export class Tape {
  readonly totals: Totals;

  constructor() {
    this.totals = load() ?? { received: 0, gaps: 0, repeated: 0, reloads: -1, newest: {} };
    this.totals.reloads += 1;
    addEventListener('pagehide', () => sessionStorage.setItem(KEY, JSON.stringify(this.totals)));
  }

  take(position: string): void {
    const [partition = '0', offset = '0'] = position.split(':');
    const newest = this.totals.newest[partition];
    if (newest !== undefined && BigInt(offset) <= BigInt(newest)) this.totals.repeated += 1;
    else this.totals.newest[partition] = offset;
    this.totals.received += 1;
  }
}

function load(): Totals | undefined {
  const text = sessionStorage.getItem(KEY);
  return text === null ? undefined : (JSON.parse(text) as Totals);
}
