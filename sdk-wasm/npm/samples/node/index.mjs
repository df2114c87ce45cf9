// node index.mjs URL TOKEN: prints what comes on log/#.
import { createClient } from '@anabranch/client';
import { WebSocket } from 'ws';

const [, , url, token] = process.argv;
const client = createClient({ url, token: () => token, webSocket: WebSocket });
for await (const event of client.subscribe('log/#')) {
  if (event.type === 'live') console.log('live');
  if (event.type === 'message') console.log(`message ${event.payload.n}`);
  if (event.type === 'message' && event.payload.n === 3) break;
}
client.close();
