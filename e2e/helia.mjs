// @ts-check
/**
 * Helia's importer as a referee: reads cases from standard input, prints what it makes of them.
 *
 * in:  {cases: [{name, nodes: [[path, kind, size, seed]…], options}…]}   kind: 0 folder, 1 file
 * out: {name: {root: CID text, blocks?: {CID text: base64}}}
 *
 * One file with the path "" is imported by itself, everything else inside a folder. `options.chunk` and
 * `options.links` make a tall tree out of a small file; `options.blocks` asks for the blocks as well.
 */
import { MemoryBlockstore } from 'blockstore-core/memory'
import { importer } from 'ipfs-unixfs-importer'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced } from 'ipfs-unixfs-importer/layout'

/** @typedef {{chunk?: number, links?: number, profile?: 'unixfs-v0-2015' | 'unixfs-v1-2025', blocks?: boolean}} Options */
/** @typedef {[path: string, kind: number, size: number, seed: number]} Node */

/**
 * The content both sides agree on: 251 bytes over and over, so that no two chunks are alike.
 *
 * @param {number} size
 * @param {number} seed
 */
function content (size, seed) {
  const bytes = new Uint8Array(size)
  for (let i = 0; i < size; i++) bytes[i] = (i % 251) * 7 + seed & 255
  return bytes
}

/**
 * @param {Node[]} nodes
 * @param {Options} options
 */
async function root (nodes, options) {
  const store = new MemoryBlockstore()
  const single = nodes.length === 1 && nodes[0][0] === ''
  const candidates = nodes.map(([path, kind, size, seed]) =>
    kind === 0 ? { path } : { path: single ? undefined : path, content: content(size, seed) })
  /** @type {any} */
  const how = { profile: options.profile ?? 'unixfs-v1-2025', wrapWithDirectory: !single }
  if (options.chunk) how.chunker = fixedSize({ chunkSize: options.chunk })
  if (options.links) how.layout = balanced({ maxChildrenPerNode: options.links })
  let last
  for await (const entry of importer(candidates, store, how)) last = entry
  if (last == null) throw new Error('nothing was imported')
  /** @type {Record<string, string>} */
  const blocks = {}
  if (options.blocks) {
    for await (const { cid, bytes } of store.getAll()) {
      const parts = []
      for await (const part of bytes) parts.push(part)
      blocks[cid.toString()] = Buffer.concat(parts).toString('base64')
    }
  }
  return { root: last.cid.toString(), blocks }
}

let text = ''
for await (const piece of process.stdin) text += piece
/** @type {Record<string, unknown>} */
const answer = {}
for (const { name, nodes, options } of JSON.parse(text).cases) answer[name] = await root(nodes, options)
process.stdout.write(JSON.stringify(answer))
