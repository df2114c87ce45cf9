import { createClient } from '@anabranch/client';
import { indexedDb } from '@anabranch/client/store';
import { sharedTabs } from '@anabranch/client/tabs';

const ask = new URLSearchParams(location.search);
const client = createClient({
  url: ask.get('url') ?? '',
  token: () => ask.get('token') ?? '',
  user: 'sample',
  store: indexedDb(),
  tabs: sharedTabs(),
});
const output = document.querySelector('output')!;
client.on<{ n: number }>('log/#', (event) => {
  if (event.type === 'live') output.textContent = 'live';
  if (event.type === 'message') output.textContent = `message ${event.payload.n}`;
});
