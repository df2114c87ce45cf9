import type { TokenFunction } from '../options.ts';
import type { TokenReason } from './core.ts';
import type { Environment } from './environment.ts';

/** How long the app's token function may take, in milliseconds. */
const LIMIT_MS = 10_000;

/** Asks the app for a token. Resolves with one, or rejects with what went wrong; aborts on `signal` or when time is up. */
export async function askForToken(
  ask: TokenFunction,
  why: TokenReason,
  cancel: AbortSignal,
  environment: Environment,
): Promise<string> {
  const limit = new AbortController();
  const giveUp = (): void => limit.abort();
  const stop = environment.setTimer(giveUp, LIMIT_MS);
  cancel.addEventListener('abort', giveUp);
  const late = new Promise<never>((_, reject) => {
    limit.signal.addEventListener('abort', () => reject(new Error(`no token within ${LIMIT_MS / 1000} seconds`)));
  });
  try {
    const token: unknown = await Promise.race([ask(why, { signal: limit.signal }), late]);
    if (typeof token !== 'string' || token === '') throw new TypeError('the token function returned no text');
    return token;
  } finally {
    stop();
    cancel.removeEventListener('abort', giveUp);
  }
}
