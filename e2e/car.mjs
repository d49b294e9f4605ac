// @ts-check
/**
 * CAR files as `@ipld/car` sees them: reads one, every block checked, and writes the same again in its own way.
 *
 * in: {read: path, write: path}   out: {roots: [CID], blocks: number}
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { CarReader, CarWriter } from '@ipld/car'
import { sha256 } from 'multiformats/hashes/sha2'

let text = ''
for await (const piece of process.stdin) text += piece
const { read, write } = JSON.parse(text)

const reader = await CarReader.fromBytes(new Uint8Array(readFileSync(read)))
const roots = await reader.getRoots()
const { writer, out } = CarWriter.create(roots)
const collected = (async () => {
  const parts = []
  for await (const part of out) parts.push(part)
  return Buffer.concat(parts)
})()
let blocks = 0
for await (const block of reader.blocks()) {
  const { digest } = await sha256.digest(block.bytes)
  if (Buffer.compare(Buffer.from(digest), Buffer.from(block.cid.multihash.digest)) !== 0) throw new Error(`${block.cid} lies`)
  await writer.put(block)
  blocks += 1
}
await writer.close()
writeFileSync(write, await collected)
process.stdout.write(JSON.stringify({ roots: roots.map(String), blocks }))
