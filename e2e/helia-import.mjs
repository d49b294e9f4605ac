// @ts-check
/**
 * Helia's importer into a store on disk, timed: `node helia-import.mjs FILE FOLDER` prints {cid, seconds}.
 *
 * The profile is `unixfs-v1-2025`; the store is blockstore-fs as it comes, which does not sync what it writes.
 */
import { createReadStream } from 'node:fs'
import { FsBlockstore } from 'blockstore-fs'
import { importer } from 'ipfs-unixfs-importer'

const [file, folder] = process.argv.slice(2)
const store = new FsBlockstore(folder)
await store.open()
const began = performance.now()
let last
for await (const entry of importer([{ content: createReadStream(file, { highWaterMark: 1 << 20 }) }], store, { profile: 'unixfs-v1-2025' })) last = entry
const seconds = (performance.now() - began) / 1000
await store.close()
process.stdout.write(JSON.stringify({ cid: last?.cid.toString(), seconds }))
