import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** A running demo: gateway, device, chaos proxy and page. */
export interface DemoProcess {
  /** The page. */
  readonly url: string;
  /** A token that may do everything; absent for a demo that was running. */
  readonly developer?: string;
  stop(): Promise<void>;
}

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/**
 * The demo that `ANABRANCH_DEMO_URL` names, or one of our own: the launcher that `ANABRANCH_DEMO` names, else the one that
 * `cargo xtask demo` has built, on free ports and with a new log; or with a broker as the log, by its URL.
 */
export async function startDemo(log?: string, ...more: string[]): Promise<DemoProcess> {
  const running = process.env['ANABRANCH_DEMO_URL'];
  if (running && !log && more.length === 0) return { url: running, stop: () => Promise.resolve() };
  const program = process.env['ANABRANCH_DEMO'] ?? here('../../target/debug/demo');
  if (!existsSync(program)) throw new Error(`${program} is not built: run "cargo xtask demo" once, or set ANABRANCH_DEMO`);
  const state = await mkdtemp(join(tmpdir(), 'anabranch-story-'));
  const child = spawn(program, ['--port', '0', '--state', state, '--site', here('../dist'), ...(log ? ['--log', log] : []), ...more], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const url = await new Promise<string>((resolve, reject) => {
    createInterface(child.stdout).on('line', (line) => {
      const found = /Web demo\s+(http:\S+)/.exec(line)?.[1];
      if (found) resolve(found);
    });
    void ended.then(([code]) => reject(new Error(`the demo ended early (${code})`)));
    setTimeout(() => reject(new Error('the demo did not start within 60 s')), 60_000).unref();
  });
  return {
    url,
    developer: (await readFile(join(state, 'developer.token'), 'utf8')).trim(),
    async stop() {
      child.kill('SIGTERM');
      await ended;
      await rm(state, { recursive: true });
    },
  };
}
