/** Runs at once and then every half second: whatever shows an age, or turns stale, looks at the clock here. */
export function everyTick(run: (now: number) => void): void {
  watchers.add(run);
  run(Date.now());
}

const watchers = new Set<(now: number) => void>();
setInterval(() => {
  const now = Date.now();
  for (const run of watchers) run(now);
}, 500);

/** `now`, `4 s`, `2 min`, `3 h`: short, and still enough to judge by. */
export function age(ms: number): string {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 2) return 'now';
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

export function ago(ms: number): string {
  const text = age(ms);
  return text === 'now' ? 'now' : `${text} ago`;
}

/** The time of day, to the second. */
export function clock(at: number): string {
  return new Date(at).toLocaleTimeString(undefined, { hour12: false });
}
