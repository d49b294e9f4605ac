// @ts-check
/**
 * Helia as a reader of our gateway: reads what to fetch from standard input, prints what came.
 *
 * in:  {url, file, folder, car}      CIDs as text: a file, a folder with "docs/a.txt", anything to have as a CAR
 * out: {file, path, listing, blocks} SHA-256 in hex, text, [name…], {roots, cids} as @ipld/car reads them
 *
 * Blocks come from the gateway only, and Helia verifies each.
 */
import { createHash } from 'node:crypto'
import { withHTTP } from '@helia/http'
import { createVerifiedFetch } from '@helia/verified-fetch'
import { unixfs } from '@helia/unixfs'
import { CarReader } from '@ipld/car'
import { createHeliaLight } from 'helia'
import { CID } from 'multiformats/cid'

let text = ''
for await (const piece of process.stdin) text += piece
const asked = JSON.parse(text)

/** @param {AsyncIterable<Uint8Array>} pieces */
async function whole (pieces) {
  const parts = []
  for await (const piece of pieces) parts.push(piece)
  return Buffer.concat(parts)
}

/** Says that nobody has anything, so that Helia goes on to the gateways: with no router at all it waits for ever. */
const nobody = { name: 'nobody', capabilities: () => ['findProviders'], async * findProviders () {} }
const light = createHeliaLight()
light.addRouter(/** @type {any} */ (nobody))
const helia = await withHTTP(light, {
  delegatedRouters: [],
  recursiveGateways: [asked.url],
  allowInsecure: true,
  allowLocal: true
}).start()
try {
  const fs = unixfs(helia)
  const listing = []
  for await (const entry of fs.ls(CID.parse(asked.folder))) listing.push(entry.name)
  const bytes = await whole(fs.cat(CID.parse(asked.file)))

  const fetch = await createVerifiedFetch(helia)
  const answer = await fetch(`ipfs://${asked.folder}/docs/a.txt`)
  if (!answer.ok) throw new Error(`verified-fetch answered ${answer.status}`)
  const path = Buffer.from(await answer.arrayBuffer())

  const sent = await globalThis.fetch(`${asked.url}/ipfs/${asked.car}?format=car`)
  const reader = await CarReader.fromBytes(new Uint8Array(await sent.arrayBuffer()))
  const cids = []
  for await (const { cid } of reader.blocks()) cids.push(cid.toString())
  const roots = (await reader.getRoots()).map(String)

  const file = createHash('sha256').update(bytes).digest('hex')
  process.stdout.write(JSON.stringify({ file, path: path.toString(), listing, blocks: { roots, cids } }))
} finally {
  await helia.stop()
}
