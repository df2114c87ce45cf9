import type { Write } from '../keeping.ts';

/**
 * The same changes with fewer writes: without messages that a later trim drops, with one trim for each topic, in front, and without the places that a
 * later one replaces. A busy topic is trimmed at each message, and a trim costs a look at all of its messages.
 */
export function condense(writes: readonly Write[]): Write[] {
  /** By topic: which messages of these writes stay, and how many of the older ones. */
  const topics = new Map<string, { fresh: number[]; old: number }>();
  const places = new Map<string, number>();
  writes.forEach((write, index) => {
    if (write[0] === 'cursor') places.set(write[1], index);
    if (write[0] !== 'message' && write[0] !== 'trim') return;
    const topic = topics.get(write[1]) ?? { fresh: [], old: Number.POSITIVE_INFINITY };
    topics.set(write[1], topic);
    if (write[0] === 'message') return void topic.fresh.push(index);
    const beyond = topic.fresh.length - write[2];
    if (beyond > 0) topic.fresh.splice(0, beyond);
    topic.old = Math.min(topic.old, Math.max(0, write[2] - topic.fresh.length));
  });
  const stay = new Set([...topics.values()].flatMap(({ fresh }) => fresh));
  for (const index of places.values()) stay.add(index);
  const trims = [...topics].filter(([, { old }]) => Number.isFinite(old)).map(([topic, { old }]): Write => ['trim', topic, old]);
  const others = ['message', 'trim', 'cursor'];
  return [...trims, ...writes.filter((write, index) => stay.has(index) || !others.includes(write[0]))];
}
