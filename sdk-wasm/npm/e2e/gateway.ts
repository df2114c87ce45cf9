/** A real gateway with a folder of its own, behind a proxy that counts and cuts. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
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

export class Gateway {
  /** Connections of browsers, by when they came. */
  readonly connections = new Set<Socket>();
  /** How many there have been. */
  total = 0;
  private up = true;
  private readonly proxy = createServer((browser) => this.pass(browser));

  private constructor(
    private readonly folder: string,
    private readonly port: number,
    private child: ChildProcess,
  ) {}

  static async start(): Promise<Gateway> {
    if (!existsSync(program)) throw new Error(`${program} is not built: run "cargo build", or set ANABRANCH_BIN`);
    const folder = await mkdtemp(join(tmpdir(), 'anabranch-browser-'));
    const free = createServer().listen(0, '127.0.0.1');
    await once(free, 'listening');
    const { port } = free.address() as AddressInfo;
    free.close();
    writeFileSync(join(folder, 'key'), SECRET);
    const settings = [
      `listen = "127.0.0.1:${port}"`,
      `log = "file:${folder}/log?fsync=none"`,
      'auth.audience = "tests"',
      'auth.issuer = "tests"',
      `auth.keys = [{ algorithm = "HS256", file = "${folder}/key" }]`,
      'origins = ["loopback"]',
      'topics.state = ["state/#"]',
    ];
    writeFileSync(join(folder, 'anabranch.toml'), settings.join('\n'));
    const gateway = new Gateway(folder, port, run(folder));
    gateway.proxy.listen(0, '127.0.0.1');
    await gateway.ready();
    return gateway;
  }

  /** For pages. */
  get url(): string {
    return `ws://127.0.0.1:${(this.proxy.address() as AddressInfo).port}/v1/ws`;
  }

  /** Publishes an envelope, past the proxy; resolves when the log has it. */
  async publish(topic: string, payload: unknown): Promise<void> {
    const response = await fetch(`http://127.0.0.1:${this.port}/v1/publish`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token('device')}`, 'content-type': 'application/json' },
      body: JSON.stringify({ metadata: { topic }, payload }),
    });
    if (!response.ok) throw new Error(`the gateway answered ${response.status}: ${await response.text()}`);
  }

  /** Ends all connections, and takes none until `heal`. */
  cut(): void {
    this.up = false;
    for (const socket of this.connections) socket.destroy();
  }

  heal(): void {
    this.up = true;
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
    this.cut();
    this.proxy.close();
    await this.kill();
    await rm(this.folder, { recursive: true });
  }

  private async ready(): Promise<void> {
    const ready = (): Promise<boolean> => fetch(`http://127.0.0.1:${this.port}/readyz`).then(({ ok }) => ok, () => false);
    await until('the gateway is ready', 30_000, ready);
  }

  private pass(browser: Socket): void {
    if (!this.up) return void browser.destroy();
    const gateway = connect(this.port, '127.0.0.1');
    this.connections.add(browser);
    this.total += 1;
    browser.pipe(gateway).pipe(browser);
    const end = (): void => {
      this.connections.delete(browser);
      browser.destroy();
      gateway.destroy();
    };
    for (const socket of [browser, gateway]) socket.on('error', end).on('close', end);
  }
}

function run(folder: string): ChildProcess {
  // What else has such a name is a setting to the gateway.
  const others = Object.entries(process.env).filter(([name]) => !name.startsWith('ANABRANCH_'));
  const env = { ...Object.fromEntries(others), ANABRANCH_LOG_LEVEL: 'warn' };
  return spawn(program, ['serve', '--config', join(folder, 'anabranch.toml')], { stdio: ['ignore', 'ignore', 'inherit'], env });
}
