// @ts-check
/**
 * Runs programs under worker/wasi.mjs in Node.js for tests/node/test_wasi*.py: JSON on stdin, JSON on stdout.
 *
 *   in   {modules: {wasi, gate, peek, bridge}, cases: [{wasm, job, steps}]}      (bytes as base64)
 *   out  [{lines, result}]
 *
 * With steps ([[[at, hex]…], name, [decimal…]]) each is poked and called, and a line is "errno crc32(memory)",
 * or "ended" where it trapped. Without, `_start` is called, and the line is "returned" or "trapped".
 */
import { readFileSync } from "node:fs";
import { crc32 } from "node:zlib";
import { compile, importedMemory, link } from "../../worker/wasi.mjs";

/** @param {string} text */
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));

/** @param {() => string} call */
function outcome(call) {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof WebAssembly.RuntimeError)) throw error;
    return null;
  }
}

/** @param {import("../../worker/wasi.mjs").Linked} linked @param {[[number, string][], string, string[]][]} steps */
function trace({ instance, memory }, steps) {
  const lines = [];
  for (const [pokes, name, args] of steps) {
    const view = new Uint8Array(/** @type {WebAssembly.Memory} */ (memory).buffer);
    for (const [at, hex] of pokes) view.set(Buffer.from(hex, "hex"), at);
    const call = /** @type {Function} */ (instance.exports[name]);
    const values = args.map((text) => (text.endsWith("n") ? BigInt(text.slice(0, -1)) : Number(text)));
    const line = outcome(() => `${call(...values)} ${crc32(view).toString(16).padStart(8, "0")}`);
    lines.push(line ?? "ended");
    if (line === null) break;
  }
  return lines;
}

const { modules, cases } = JSON.parse(readFileSync(0, "utf8"));
const wasi = await compile(
  /** @type {any} */ (Object.fromEntries(Object.entries(modules).map(([name, text]) => [name, bytes(text)]))),
);
const answers = [];
for (const { wasm, job, steps } of cases) {
  const linked = link(wasi, await WebAssembly.compile(bytes(wasm)), bytes(job), { memory: importedMemory(bytes(wasm)) });
  const start = /** @type {Function} */ (linked.instance.exports._start);
  const lines = steps ? trace(linked, steps) : [outcome(() => (start(), "returned")) ?? "trapped"];
  answers.push({ lines, result: Buffer.from(linked.result()).toString("base64") });
}
process.stdout.write(JSON.stringify(answers));
