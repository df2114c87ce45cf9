/** Numbers that are published one after the other until it is enough, on a topic of events, and each also as the newest value of a state topic. */
import type { TestContext } from 'node:test';
import { setTimeout as after } from 'node:timers/promises';
import type { Gateway } from './gateway.ts';

export interface Stream {
  /** The last number that the log has. */
  readonly last: number;
  /** Publishes no more; resolves with the last number. */
  stop(): Promise<number>;
}

/** So many numbers at once, every so many milliseconds, until the test ends at the latest. A batch that the gateway does not confirm is tried again, under the same ids. */
export function stream(t: TestContext, gateway: Gateway, topic: string, state: string, { atOnce = 1, everyMs = 100 } = {}): Stream {
  let over = false;
  let ended = false;
  t.after(() => (over = ended = true));
  const made = { last: 0, stop: (): Promise<number> => ((over = true), done) };
  const run = async (): Promise<number> => {
    for (let batch = 0; !over; batch += 1) {
      const numbers = Array.from({ length: atOnce }, (_, i) => made.last + 1 + i);
      const events = numbers.map((n) => ({ topic, payload: { n }, messageId: `${topic} ${n}` }));
      const newest = { topic: state, payload: { n: numbers.at(-1) }, messageId: `${state} ${batch}` };
      for (;;) {
        const confirmed = await gateway.publishAll([...events, newest]).then(() => true, () => false);
        if (confirmed || ended) break;
        // It is dead or begins: asked again soon, and not all the time.
        await after(20);
      }
      made.last += atOnce;
      await after(everyMs);
    }
    return made.last;
  };
  const done = run();
  return made;
}
