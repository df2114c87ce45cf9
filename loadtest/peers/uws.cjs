// uWebSockets.js as a server of the same frames: its own topic tree, its own coalescing.
const fs = require('node:fs');
const path = require('node:path');

function load() {
  for (const name of ['uWebSockets.js', '@trufflesuite/uws-js-unofficial', '@btc-vision/uwebsockets.js', '@sifrr/server']) {
    try {
      return require(require.resolve(name, { paths: [path.join(__dirname, 'node_modules'), __dirname] }));
    } catch {
      // The next name, perhaps.
    }
  }
  throw new Error('uWebSockets.js is not installed beside this file');
}

const uws = load();
const text = new TextDecoder();
const PUBLISH = '{"type":"publish","envelope":';
let offset = 0;

const app = uws
  .App()
  .ws('/v1/ws', {
    maxBackpressure: 64 * 1024 * 1024,
    maxPayloadLength: 1024 * 1024,
    idleTimeout: 960,
    message(socket, data) {
      const frame = text.decode(data);
      if (frame.startsWith(PUBLISH)) {
        const envelope = frame.slice(PUBLISH.length, -1);
        const at = envelope.indexOf('"topic":"') + 9;
        const topic = envelope.slice(at, envelope.indexOf('"', at));
        offset += 1;
        const message = `{"type":"message","position":"0:${offset}:00c0ffee","envelope":${envelope}}`;
        app.publish(topic, message);
        // It has no wildcards any more: those who ask for `prefix/+` subscribe to `prefix/`.
        app.publish(topic.slice(0, topic.lastIndexOf('/') + 1), message);
        const id = envelope.indexOf('"messageId":"') + 13;
        socket.send(`{"type":"published","messageId":"${envelope.slice(id, envelope.indexOf('"', id))}","position":"0:${offset}:00c0ffee"}`);
      } else if (frame.startsWith('{"type":"hello"')) {
        for (const match of frame.matchAll(/"filter":"([^"]*)"/g)) socket.subscribe(match[1].replace(/\+$/, ''));
        socket.send('{"type":"welcome"}');
        socket.send('{"type":"caught_up"}');
      } else if (frame === '{"type":"probe"}') {
        socket.send('{"type":"mark"}');
      }
    },
  })
  .listen('127.0.0.1', 0, (socket) => {
    fs.writeSync(1, `uws is listening on http://127.0.0.1:${uws.us_socket_local_port(socket)} (uws)\n`);
  });
