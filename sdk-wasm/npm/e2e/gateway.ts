/** A real gateway with a folder of its own, and the links of pages to it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHmac, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Link } from './link.ts';
import { until } from './until.ts';

const SECRET = 'a-key-of-the-browser-tests-and-of-nothing-else';
const program = process.env['ANABRANCH_BIN'] ?? fileURLToPath(new URL('../../../target/debug/anabranch', import.meta.url));

/** A token that may read and write everything. */
export function token(subject = 'alice', seconds = 3_600): string {
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const grants = { read: ['#'], write: ['#'] };
  const claims = { iss: 'tests', aud: 'tests', sub: subject, nbf: now - 60, exp: now + seconds, anabranch: grants };
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

/** What differs from the usual. */
export interface Settings {
  /** Options of the log. */
  readonly log?: string;
  /** Filters of state topics. */
  readonly state?: readonly string[];
  /** Further lines of the configuration. */
  readonly more?: readonly string[];
}

export interface Envelope {
  readonly topic: string;
  readonly payload: unknown;
  /** The same id is stored once. */
  readonly messageId?: string;
}

export class Gateway {
  private readonly links: Link[] = [];

  private constructor(
    private readonly folder: string,
    private readonly port: number,
    /** The way of pages that have none of their own. */
    readonly link: Link,
    private child: ChildProcess,
  ) {}

  static async start({ log = 'fsync=none', state = ['state/#'], more = [] }: Settings = {}): Promise<Gateway> {
    if (!existsSync(program)) throw new Error(`${program} is not built: run "cargo build", or set ANABRANCH_BIN`);
    const folder = await mkdtemp(join(tmpdir(), 'anabranch-browser-'));
    const port = await freePort();
    const link = await Link.to(port);
    writeFileSync(join(folder, 'key'), SECRET);
    const settings = [
      `listen = "127.0.0.1:${port}"`,
      `log = "file:${folder}/log?${log}"`,
      'auth.audience = "tests"',
      'auth.issuer = "tests"',
      `auth.keys = [{ algorithm = "HS256", file = "${folder}/key" }]`,
      'origins = ["loopback"]',
      `topics.state = ${JSON.stringify(state)}`,
      ...more,
    ];
    writeFileSync(join(folder, 'anabranch.toml'), settings.join('\n'));
    const gateway = new Gateway(folder, port, link, run(folder));
    await gateway.ready();
    return gateway;
  }

  /** For pages. */
  get url(): string {
    return this.link.url;
  }

  /** For programs, past every link. */
  get directUrl(): string {
    return `ws://127.0.0.1:${this.port}/v1/ws`;
  }

  /** A way of its own, for a test beside others. */
  async anotherLink(): Promise<Link> {
    const link = await Link.to(this.port);
    this.links.push(link);
    return link;
  }

  /** Publishes an envelope, past every link; resolves with its position when the log has it. */
  async publish(topic: string, payload: unknown): Promise<string> {
    const [position] = await this.publishAll([{ topic, payload }]);
    return position as string;
  }

  /** Publishes all of these, in their order. */
  async publishAll(envelopes: readonly Envelope[]): Promise<string[]> {
    const response = await fetch(`http://127.0.0.1:${this.port}/v1/publish`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token('device')}`, 'content-type': 'application/json' },
      body: JSON.stringify(envelopes.map(({ payload, ...metadata }) => ({ metadata, payload }))),
    });
    if (response.status !== 200) throw new Error(`the gateway answered ${response.status}: ${await response.text()}`);
    const { results } = (await response.json()) as { results: { position: string }[] };
    return results.map(({ position }) => position);
  }

  async kill(): Promise<void> {
    const ended = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await ended;
  }

  async startAgain(): Promise<void> {
    this.child = run(this.folder);
    await this.ready();
  }

  async stop(): Promise<void> {
    for (const link of [this.link, ...this.links]) link.stop();
    await this.kill();
    await rm(this.folder, { recursive: true });
  }

  private async ready(): Promise<void> {
    const ready = (): Promise<boolean> => fetch(`http://127.0.0.1:${this.port}/readyz`).then(({ ok }) => ok, () => false);
    await until('the gateway is ready', 30_000, ready);
  }
}

function run(folder: string): ChildProcess {
  // What else has such a name is a setting to the gateway.
  const others = Object.entries(process.env).filter(([name]) => !name.startsWith('ANABRANCH_'));
  const env = { ...Object.fromEntries(others), ANABRANCH_LOG_LEVEL: 'warn' };
  return spawn(program, ['serve', '--config', join(folder, 'anabranch.toml')], { stdio: ['ignore', 'ignore', 'inherit'], env });
}

/** A port that is free now, and that no outgoing connection takes while the gateway is down: below Linux's range of ephemeral ports. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(15_000, 32_000);
    const probe = createServer();
    const free = await new Promise<boolean>((resolve) => probe.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true)));
    probe.close();
    if (free) return port;
  }
}
