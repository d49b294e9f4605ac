// @ts-check
/** One writer of an OrbitDB `events` database, over Helia and libp2p (TCP, gossipsub); its blocks in Level. */
import {noise} from '@chainsafe/libp2p-noise';
import {yamux} from '@chainsafe/libp2p-yamux';
import {gossipsub} from '@libp2p/gossipsub';
import {identify} from '@libp2p/identify';
import {tcp} from '@libp2p/tcp';
import {multiaddr} from '@multiformats/multiaddr';
import {IPFSAccessController, createOrbitDB} from '@orbitdb/core';
import {LevelBlockstore} from 'blockstore-level';
import {createHelia} from 'helia';
import {createLibp2p} from 'libp2p';
import {Seen, take_part} from './writer.mjs';

const folder = process.argv[2];
const libp2p = await createLibp2p({
  addresses: {listen: ['/ip4/127.0.0.1/tcp/0']},
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {identify: identify(), pubsub: gossipsub({allowPublishToZeroTopicPeers: true})},
});
const ipfs = await createHelia({libp2p, blockstore: new LevelBlockstore(`${folder}/blocks`)});
const orbitdb = await createOrbitDB({ipfs, directory: `${folder}/orbitdb`});
const seen = new Seen();
const entries = new Set();
let db;

/** What was joined: the entry, and what it rests on that came with it. @param {any} entry */
async function joined(entry) {
  for (const waiting = [entry]; waiting.length;) {
    const one = waiting.pop();
    if (!one || entries.has(one.hash)) continue;
    entries.add(one.hash);
    seen.add(one.payload.value);
    for (const hash of one.next) if (!entries.has(hash)) waiting.push(await db.log.get(hash));
  }
}

/** @param {string} [address] */
async function open(address) {
  const AccessController = IPFSAccessController({write: ['*']});
  db = await orbitdb.open(address ?? 'bench', {type: 'events', AccessController});
  db.events.on('update', joined);
}

const isFirst = process.argv[3] === 'first';
if (isFirst) await open();
await take_part({
  address: {dial: libp2p.getMultiaddrs().map(String)[0], db: db?.address},
  seen,
  async join({dial, db: address}) {
    for (let left = 5; ; left--) {
      try {
        await ipfs.libp2p.dial(multiaddr(dial));
        break;
      } catch (wrong) {
        if (!left) throw wrong; // on a busy machine a handshake runs out of time
      }
    }
    await open(address);
    while (!ipfs.libp2p.services.pubsub.getSubscribers(address).length) {
      await new Promise((done) => setTimeout(done, 50));
    }
  },
  write: (text) => db.add(text),
});
process.exit(0);
