// @ts-check
/** One writer of an Automerge-repo document, over its WebSocket adapter; kept with its file-system adapter. */
import {Repo} from '@automerge/automerge-repo';
import {WebSocketClientAdapter, WebSocketServerAdapter} from '@automerge/automerge-repo-network-websocket';
import {NodeFSStorageAdapter} from '@automerge/automerge-repo-storage-nodefs';
import {once} from 'node:events';
import {WebSocketServer} from 'ws';
import {Seen, take_part} from './writer.mjs';

const folder = process.argv[2];
const isFirst = process.argv[3] === 'first';
const storage = new NodeFSStorageAdapter(`${folder}/automerge`);
const seen = new Seen();
let handle, repo, address;

/** @param {any} document */
function follow(document) {
  handle = document;
  handle.on('change', ({patches}) => {
    for (const {action, path} of patches) if (action === 'put' && path[0] === 'entries') seen.add(path[1]);
  });
}

if (isFirst) {
  const server = new WebSocketServer({port: 0, host: '127.0.0.1'});
  await once(server, 'listening');
  repo = new Repo({network: [new WebSocketServerAdapter(server)], storage});
  follow(repo.create({entries: {}}));
  address = {dial: `ws://127.0.0.1:${server.address().port}`, document: handle.url};
}
await take_part({
  address,
  seen,
  async join({dial, document}) {
    repo = new Repo({network: [new WebSocketClientAdapter(dial)], storage});
    for (let left = 5; ; left--) {
      try {
        follow(await repo.find(document));
        break;
      } catch (wrong) {
        if (!left) throw wrong; // asked before the link was up
        await new Promise((done) => setTimeout(done, 500));
      }
    }
  },
  write: async (text) => handle.change((doc) => (doc.entries[text] = true)),
});
process.exit(0);
