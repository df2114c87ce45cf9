/**
 * A device that speaks MQTT, in the browser: Debian's `mosquitto_pub` publishes bare payloads to RabbitMQ, and the page, which knows
 * nothing of either, shows them; what is desired on the page reaches `mosquitto_sub` as a delta, and a bare report settles it. `ANABRANCH_RABBITMQ` is the broker's URL,
 * `ANABRANCH_MQTT_PORT` its port for MQTT on 127.0.0.1.
 */
import assert from 'node:assert/strict';
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import type { Browser } from 'playwright-core';
import { launch, openDemo, phase, type DemoPage } from './browser.ts';
import { startDemo, type DemoProcess } from './demo-process.ts';
import { until } from '../../sdk-wasm/npm/e2e/until.ts';

const variable = (name: string): string => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; \`cargo xtask test\` sets it`);
  return value;
};
const port = variable('ANABRANCH_MQTT_PORT');
/** The broker remembers the devices of earlier runs. */
const device = `thermometer-${process.pid}`;
const run = promisify(execFile);

let demo: DemoProcess;
let browser: Browser;
let story: DemoPage;
let listener: ChildProcess | undefined;

before(async () => {
  demo = await startDemo(variable('ANABRANCH_RABBITMQ'));
  browser = await launch();
  story = await openDemo(browser, demo.url);
  await until('live', 30_000, async () => (await phase(story.page)) === 'live');
});

after(async () => {
  listener?.kill();
  await browser?.close();
  await demo?.stop();
});

const topic = (rest: string): string => `iotsphere/devices/${device}/${rest}`;

async function publish(rest: string, payload: unknown): Promise<void> {
  await run('mosquitto_pub', ['-h', '127.0.0.1', '-p', port, '-q', '1', '-t', topic(rest), '-m', JSON.stringify(payload)]);
}

const row = () => story.page.locator('.fleet button', { hasText: device });

test('a device that speaks MQTT appears on the page', async () => {
  await publish('telemetry/status', { host: 'a thermometer', os: 'none' });
  await until('its row', 20_000, async () => (await row().count()) === 1);
  assert.match((await row().textContent()) ?? '', /a thermometer · none/);
});

test('its readings are drawn', async () => {
  await row().click();
  await publish('telemetry/cpu', { total: 73 });
  const readout = story.page.locator('[aria-label=CPU] .readout b');
  await until('the reading', 20_000, async () => /^73/.test((await readout.textContent()) ?? ''));
  assert.ok(story.received.some((message) => message.topic === topic('telemetry/cpu')));
  assert.deepEqual(story.failures, []);
});

test('what is wished on the page reaches it, and its bare report settles the wish', async () => {
  const delta = topic('shadow/delta');
  // Into a pipe it would write no line before it ends.
  const words = ['-oL', 'mosquitto_sub', '-h', '127.0.0.1', '-p', port, '-q', '1', '-d', '-F', '%t %p', '-t', delta];
  listener = spawn('stdbuf', words, { stdio: ['ignore', 'pipe', 'inherit'] });
  let heard = '';
  listener.stdout?.on('data', (piece: Buffer) => void (heard += piece.toString()));
  await until('its subscription', 20_000, () => heard.includes('received SUBACK'));
  const { page } = story;
  assert.match((await page.locator('#shadow').textContent()) ?? '', /no shadow yet/);
  await page.getByLabel('every').selectOption('500');
  await page.getByRole('button', { name: 'Set desired' }).click();
  const line = await until('the wish', 20_000, () => heard.split('\n').find((one) => one.startsWith(`${delta} {`)));
  const envelope = JSON.parse(line.slice(line.indexOf(' ') + 1)) as { metadata: { topic: string }; payload: { state: unknown } };
  assert.equal(envelope.metadata.topic, delta);
  assert.deepEqual(envelope.payload.state, { intervalMs: 500 });
  const cells = page.locator('.shadow [data-field="/intervalMs"] td');
  await until('accepted', 20_000, async () => (await cells.allTextContents()).join() === '–,500 ms,accepted');
  await publish('shadow/reported', { intervalMs: 500 });
  await until('settled', 20_000, async () => (await cells.allTextContents()).join() === '500 ms,500 ms,');
  assert.equal(await page.locator('.progress .done').count(), 3);
});
