// @ts-check
/**
 * Brotli for bundle.py (Python's library has none; Node.js does).
 *
 * usage: node compress.mjs QUALITY < lines of "IN<tab>OUT"
 */
import { readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, constants } from "node:zlib";

const quality = Number(process.argv[2]);
for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const [source, target] = line.split("\t");
  const data = readFileSync(source);
  const params = {
    [constants.BROTLI_PARAM_QUALITY]: quality,
    [constants.BROTLI_PARAM_LGWIN]: 24,
    [constants.BROTLI_PARAM_SIZE_HINT]: data.length,
  };
  writeFileSync(target, brotliCompressSync(data, { params }));
}
