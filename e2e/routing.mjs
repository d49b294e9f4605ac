// @ts-check
/**
 * Other people's delegated routing, both ways: reads what to do from standard input, prints what came of it.
 *
 * in:  {ask: {url, cid, peer, file}}            the npm client asks our node; Helia, told of no gateway, fetches a file
 * out: {providers, peers, none, filtered, file}  records; of a CID nobody has; of unwanted addresses; SHA-256 in hex
 * in:  {check: {announcement}}                  one of ours, checked with Node.js's own cryptography
 * out: {peer, holds, forged}
 * in:  {serve: {providers: {cid: [address…]}}}  a server of the npm package, until standard input ends
 * out: {url}                                    at once
 */
import { createHash, createPublicKey, verify } from 'node:crypto'
import { createInterface } from 'node:readline'
import { createDelegatedRoutingV1HttpApiServer } from '@helia/delegated-routing-v1-http-api-server'
import { delegatedRoutingV1HttpApiClient } from '@helia/delegated-routing-v1-http-api-client'
import { withHTTP } from '@helia/http'
import { createVerifiedFetch } from '@helia/verified-fetch'
import * as dagCbor from '@ipld/dag-cbor'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { defaultLogger } from '@libp2p/logger'
import { peerIdFromPrivateKey, peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { createHeliaLight } from 'helia'
import { base58btc } from 'multiformats/bases/base58'
import { base64 } from 'multiformats/bases/base64'
import { CID } from 'multiformats/cid'
import { sha256 } from 'multiformats/hashes/sha2'

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const told = JSON.parse((await lines.next()).value)
const say = (/** @type {unknown} */ value) => process.stdout.write(`${JSON.stringify(value)}\n`)

/** @param {AsyncIterable<any>} records */
async function all (records) {
  const found = []
  for await (const { ID, Addrs, Protocols } of records) {
    found.push({ ID: ID.toString(), Addrs: Addrs.map(String), Protocols })
  }
  return found
}

/** @param {{url: string, cid: string, peer: string, file: string}} asked */
async function ask ({ url, cid, peer, file }) {
  const client = delegatedRoutingV1HttpApiClient({ url })(/** @type {any} */ ({ logger: defaultLogger() }))
  await client.start?.()
  const providers = await all(client.getProviders(CID.parse(cid)))
  const none = await all(client.getProviders(CID.parse('bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy')))
  const filtered = await all(client.getProviders(CID.parse(cid), { filterAddrs: ['webrtc'] }))
  const peers = await all(client.getPeers(peerIdFromString(peer).toCID()))
  await client.stop?.()
  const helia = await withHTTP(createHeliaLight(), {
    delegatedRouters: [url], recursiveGateways: [], allowInsecure: true, allowLocal: true
  }).start()
  try {
    const answer = await (await createVerifiedFetch(helia))(`ipfs://${file}`)
    if (!answer.ok) throw new Error(`verified-fetch answered ${answer.status}: ${await answer.text()}`)
    const bytes = new Uint8Array(await answer.arrayBuffer())
    say({ providers, peers, none, filtered, file: createHash('sha256').update(bytes).digest('hex') })
  } finally {
    await helia.stop()
  }
}

/** @param {{announcement: any}} asked */
async function check ({ announcement }) {
  const key = base64.decode(announcement.PublicKey)
  const der = key.subarray(4) // behind protobuf's field 1 (3: ECDSA) and the beginning of field 2
  const signer = createPublicKey({ key: Buffer.from(der), format: 'der', type: 'spki' })
  const prefix = new TextEncoder().encode('routing-record:')
  const signature = base64.decode(announcement.Signature)
  const holds = (/** @type {object} */ payload) =>
    verify('sha256', Buffer.concat([prefix, dagCbor.encode(payload)]), signer, signature)
  const forged = { ...announcement.Payload, Addrs: ['/dns/elsewhere.example/tcp/443/https'] }
  const peer = base58btc.encode((await sha256.digest(key)).bytes).slice(1)
  say({ peer, holds: holds(announcement.Payload), forged: holds(forged) })
}

/** @param {{providers: Record<string, string[]>}} asked */
async function serve ({ providers }) {
  const id = peerIdFromPrivateKey(await generateKeyPair('Ed25519'))
  const routing = {
    async * findProviders (/** @type {CID} */ cid) {
      for (const address of providers[cid.toString()] ?? []) yield { id, multiaddrs: [multiaddr(address)] }
    }
  }
  const helia = /** @type {any} */ ({ routing, logger: defaultLogger() })
  const server = await createDelegatedRoutingV1HttpApiServer(helia, { listen: { port: 0, host: '127.0.0.1' } })
  say({ url: server.listeningOrigin })
  for await (const _ of lines) { /* until the end */ }
  await server.close()
}

if (told.ask) await ask(told.ask)
if (told.check) await check(told.check)
if (told.serve) await serve(told.serve)
process.exit(0)
