// @ts-check
/**
 * Helia to Helia over WebSocket on loopback: one process serves a file, another fetches it, both in memory.
 *
 *     node helia_transfer.mjs serve BYTES            prints {address, cid}; ends with its standard input
 *     node helia_transfer.mjs fetch ADDRESS CID      prints {bytes, seconds, cpu}; cpu: seconds of this process
 *
 * Noise and Yamux, as Helia's own defaults have them; bitswap; no discovery, no gateways. Blocks are verified on arrival.
 */
import { unixfs } from '@helia/unixfs'
import { withBitswap } from '@helia/bitswap'
import { withLibp2pLight } from '@helia/libp2p'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createHeliaLight } from 'helia'
import { CID } from 'multiformats/cid'
import { randomFillSync } from 'node:crypto'

const [role, ...words] = process.argv.slice(2)

/** @param {string[]} listen */
async function open (listen) {
  return withBitswap(withLibp2pLight(createHeliaLight(), {
    addresses: { listen },
    transports: [webSockets()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify() },
    connectionGater: { denyDialMultiaddr: () => false }
  })).start()
}

/** @param {number} size */
async function serve (size) {
  const helia = await open(['/ip4/127.0.0.1/tcp/0/ws'])
  const data = new Uint8Array(size)
  for (let at = 0; at < size; at += 65_536) randomFillSync(data.subarray(at, at + 65_536))
  const cid = await unixfs(helia).addBytes(data)
  console.log(JSON.stringify({ address: helia.libp2p.getMultiaddrs()[0].toString(), cid: cid.toString() }))
  process.stdin.resume()
  process.stdin.on('end', () => process.exit())
}

/** @param {string} address @param {string} cid */
async function fetch (address, cid) {
  const helia = await open([])
  await helia.libp2p.dial(multiaddr(address))
  await new Promise((done) => setTimeout(done, 500))
  const [since, used] = [performance.now(), process.cpuUsage()]
  let bytes = 0
  for await (const piece of unixfs(helia).cat(CID.parse(cid))) bytes += piece.length
  const { user, system } = process.cpuUsage(used)
  console.log(JSON.stringify({ bytes, seconds: (performance.now() - since) / 1e3, cpu: (user + system) / 1e6 }))
  process.exit()
}

if (role === 'serve') await serve(Number(words[0]))
else await fetch(words[0], words[1])
