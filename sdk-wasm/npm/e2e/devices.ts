/** Devices that do commands: the Rust SDK's, each in a process of its own, with a journal. What they do they write down. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { token } from './gateway.ts';

const program = process.env['ANABRANCH_DEVICE'] ?? fileURLToPath(new URL('../../../target/debug/served-device', import.meta.url));

export class Devices {
  private readonly children: ChildProcess[];

  private constructor(
    private readonly folder: string,
    readonly names: readonly string[],
    url: string,
  ) {
    const start = (name: string): ChildProcess =>
      spawn(program, [url, token(name), name, join(folder, name), join(folder, `${name}.done`)], { stdio: ['ignore', 'ignore', 'inherit'] });
    this.children = names.map(start);
  }

  static async start(names: readonly string[], url: string): Promise<Devices> {
    if (!existsSync(program)) throw new Error(`${program} is not built: run "cargo build --workspace --bins", or set ANABRANCH_DEVICE`);
    return new Devices(await mkdtemp(join(tmpdir(), 'anabranch-devices-')), names, url);
  }

  /** The numbers of the commands that a device has done, in the order in which it did them. */
  done(name: string): number[] {
    const file = join(this.folder, `${name}.done`);
    return existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean).map(Number) : [];
  }

  async stop(): Promise<void> {
    await Promise.all(this.children.map(async (child) => {
      if (child.exitCode !== null) throw new Error(`a device ended: ${child.exitCode}`);
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    }));
    await rm(this.folder, { recursive: true });
  }
}
