import { createClient, type TokenFunction } from '@anabranch/client';
import { shadowOf } from './topics.ts';

/** Another person at another screen: a client of its own, which asks for another interval and leaves. */
export async function writeAsSomebodyElse(url: string, token: TokenFunction, device: string, intervalMs: number): Promise<void> {
  using client = createClient({ url, token, clientId: 'somebody-else', resume: 'off' });
  await client.publish(shadowOf(device, 'desired'), { intervalMs });
}
