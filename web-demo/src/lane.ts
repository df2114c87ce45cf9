import { type Client, createClient, type SubscriptionEvent, type TokenFunction } from '@anabranch/client';
import { ALL_STATUS, parse } from './topics.ts';

/** Rates and delays are of the last so many milliseconds. */
const SPAN_MS = 5_000;

/** A client of its own, which watches the status of all devices and counts what it gets. */
export class Lane {
  /** By device, the place of the newest value. */
  readonly newest = new Map<string, bigint>();
  private readonly client: Client;
  private arrivals: { readonly at: number; readonly delay: number }[] = [];

  constructor(
    name: string,
    url: string,
    token: TokenFunction,
    /** Called with each value. */
    private readonly took: (device: string, offset: bigint) => void,
  ) {
    this.client = createClient({ url, token, clientId: name, resume: 'off' });
    this.client.on(ALL_STATUS, (event) => this.take(event), { from: 'now', snapshot: 'if_new' });
  }

  get phase(): string {
    return this.client.state.get().phase;
  }

  /** Values a second, and how old they were on arrival, in milliseconds. */
  pace(now: number): { readonly rate: number; readonly delay: number | undefined } {
    this.arrivals = this.arrivals.filter(({ at }) => at > now - SPAN_MS);
    const delays = this.arrivals.map(({ delay }) => delay);
    const mean = delays.reduce((sum, delay) => sum + delay, 0) / delays.length;
    return { rate: this.arrivals.length / (SPAN_MS / 1000), delay: delays.length > 0 ? mean : undefined };
  }

  close(): void {
    this.client.close();
  }

  private take(event: SubscriptionEvent): void {
    const device = event.type === 'message' ? parse(event.topic)?.device : undefined;
    if (event.type !== 'message' || device === undefined) return;
    const offset = BigInt(event.position.split(':')[1] ?? '0');
    const [at, made] = [Date.now(), Date.parse(event.metadata.timestamp)];
    this.newest.set(device, offset);
    this.arrivals.push({ at, delay: Math.max(0, at - made) });
    this.took(device, offset);
  }
}
