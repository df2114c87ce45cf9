/** The package as a customer has it: packed, installed into fresh projects, built there, and showing live data. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join, normalize } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Page } from 'playwright-core';
import { Chromium } from '../e2e/browser.ts';
import { Gateway, token } from '../e2e/gateway.ts';
import { until } from '../e2e/until.ts';

const run = promisify(execFile);
const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const QUIET = ['--no-audit', '--no-fund', '--loglevel=error'];

let folder = '';
let tarball = '';
let gateway: Gateway;
let chromium: Chromium;
const servers: Server[] = [];
const children: ChildProcess[] = [];

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anabranch-samples-'));
  const { stdout } = await run('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', folder], { cwd: here('..') });
  const [packed] = JSON.parse(stdout) as { filename: string; files: { path: string }[] }[];
  assert.ok(packed);
  tarball = join(folder, packed.filename);
  const files = packed.files.map(({ path }) => path);
  for (const file of ['index.js', 'index.d.ts', 'store.js', 'tabs.js', 'react.js', 'core_bg.wasm']) assert.ok(files.includes(`dist/${file}`), file);
  assert.ok(files.every((path) => /^(dist\/|package\.json$|README\.md$)/.test(path)), files.join());
  [gateway, chromium] = await Promise.all([Gateway.start(), Chromium.start()]);
});

after(async () => {
  for (const child of children) {
    const ended = once(child, 'exit');
    if (child.kill()) await ended;
  }
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
  await chromium?.stop();
  await gateway?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** A copy of a sample with the package in it, built if it can be. */
async function made(name: string): Promise<string> {
  const at = join(folder, name);
  await cp(here(name), at, { recursive: true });
  await run('npm', ['install', ...QUIET, tarball], { cwd: at });
  const { scripts } = JSON.parse(await readFile(join(at, 'package.json'), 'utf8')) as { scripts?: { build?: string } };
  const env = { ...process.env, NEXT_TELEMETRY_DISABLED: '1', NODE_ENV: 'production' } as const;
  if (scripts?.build) await run('npm', ['run', 'build'], { cwd: at, env });
  return at;
}

/** Serves a folder. */
async function serve(root: string): Promise<string> {
  const types: Record<string, string> = { '.html': 'text/html', '.js': 'text/javascript', '.wasm': 'application/wasm' };
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url ?? '/', 'http://x').pathname);
    const file = join(root, path === '/' ? 'index.html' : path);
    readFile(file).then(
      (content) => response.setHeader('content-type', types[extname(file)] ?? 'application/octet-stream').end(content),
      () => response.writeHead(404).end(),
    );
  });
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

/** The page shows what is published. */
async function shows(url: string): Promise<void> {
  const failures: string[] = [];
  const page: Page = await chromium.tab('about:blank');
  page.on('pageerror', (error) => failures.push(error.stack ?? String(error)));
  await page.goto(`${url}?${new URLSearchParams({ url: gateway.url, token: token() })}`);
  const output = async (): Promise<string> => (await page.locator('output').textContent({ timeout: 20_000 })) ?? '';
  await until('live', 30_000, async () => ['live', ...(/^message/.exec(await output()) ?? [])].includes(await output()));
  for (const n of [1, 2]) {
    await gateway.publish('log/a', { n });
    await until(`message ${n}`, 20_000, async () => (await output()) === `message ${n}`);
  }
  assert.deepEqual(failures, []);
  await page.close();
}

test('node', async () => {
  const at = await made('node');
  const child = spawn('node', ['index.mjs', gateway.url, token()], { cwd: at, stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  const ended = once(child, 'exit');
  const lines: string[] = [];
  createInterface(child.stdout).on('line', (line) => lines.push(line));
  await until('live', 20_000, () => lines.includes('live'));
  for (const n of [1, 2, 3]) await gateway.publish('log/a', { n });
  assert.deepEqual(await ended, [0, null]);
  assert.deepEqual(lines, ['live', 'message 1', 'message 2', 'message 3']);
});

test('script', async () => shows(await serve(await made('script'))));
test('vite', async () => shows(await serve(join(await made('vite'), 'dist'))));
test('webpack', async () => shows(await serve(join(await made('webpack'), 'dist'))));

test('next', async () => {
  const at = await made('next');
  const child = spawn('node', [join(at, 'node_modules/next/dist/bin/next'), 'start', '--port', '0', '--hostname', '127.0.0.1'], {
    cwd: at,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, NEXT_TELEMETRY_DISABLED: '1', NODE_ENV: 'production' },
  });
  children.push(child);
  const url = await new Promise<string>((resolve, reject) => {
    createInterface(child.stdout).on('line', (line) => {
      const found = /(http:\/\/127\.0\.0\.1:\d+)/.exec(line)?.[1];
      if (found) resolve(`${found}/`);
    });
    child.on('exit', () => reject(new Error('next ended')));
  });
  const rendered = await (await fetch(url)).text();
  assert.match(rendered, /<output>idle<\/output>/, 'rendered on the server');
  await shows(url);
});
