import type { TokenFunction } from '@anabranch/client';

/** What `cargo xtask demo` says of itself in `/demo.json`. */
export interface Demo {
  /** The gateway as the page reaches it: through the chaos proxy. */
  readonly wsUrl: string;
  /** The gateway over a link of its own, which can be throttled. */
  readonly slowUrl: string;
  /** The proxies' controls and the tokens. */
  readonly controlUrl: string;
}

/** The launcher's description, or nothing where the page is served by a gateway alone. */
export async function findDemo(): Promise<Demo | undefined> {
  try {
    const response = await fetch('/demo.json', { cache: 'no-store' });
    const found: unknown = response.ok ? await response.json() : undefined;
    return isDemo(found) ? found : undefined;
  } catch {
    return undefined;
  }
}

function isDemo(value: unknown): value is Demo {
  const { wsUrl, slowUrl, controlUrl } = (value ?? {}) as Partial<Record<keyof Demo, unknown>>;
  return [wsUrl, slowUrl, controlUrl].every((url) => typeof url === 'string');
}

/** How long the demo's tokens live: short, so that the renewal on the open connection can be watched. */
export const TOKEN_TTL_S = 60;

/** Gets tokens from the launcher, and can be told not to. */
export class Tokens {
  /** Unix milliseconds until which no token is given out: the chaos panel lets one expire. */
  withheldUntil = 0;
  given = 0;

  constructor(private readonly demo: Demo) {}

  readonly get: TokenFunction = async (why, { signal }) => {
    if (Date.now() < this.withheldUntil) throw new Error(`withheld by the chaos panel (asked because: ${why})`);
    const response = await fetch(`${this.demo.controlUrl}/demo/token?ttl=${TOKEN_TTL_S}`, { signal });
    if (!response.ok) throw new Error(`the demo's token service answered ${response.status}`);
    const json = response.headers.get('content-type')?.includes('json');
    this.given += 1;
    return json ? String(((await response.json()) as { token?: unknown }).token) : (await response.text()).trim();
  };
}
