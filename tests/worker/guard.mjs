// @ts-check
/**
 * Runs guarded modules on this engine: the second opinion of `tests/node/test_wasm_guarded.py`.
 *
 * stdin: a JSON array of cases. stdout: a JSON array with one outcome a case. Nothing is checked here.
 *
 * @typedef {{wasm: string, budget: number | null, imported: number[] | null, deltas: number[]}} Case
 *   `wasm` in base64; `budget` in pages; `imported` the sizes of a memory to hand in; `deltas` the arguments of
 *   `grow`, called in turn until one traps.
 * @typedef {{returned: number[], trapped: boolean, refused: number | null, pages: number}} Outcome
 */

import { readFileSync } from "node:fs";

/**
 * @param {Case} wanted
 * @returns {Outcome}
 */
function run(wanted) {
  const module = new WebAssembly.Module(Buffer.from(wanted.wasm, "base64"));
  const [initial, maximum] = wanted.imported ?? [];
  const imports = wanted.imported ? { env: { memory: new WebAssembly.Memory({ initial, maximum }) } } : {};
  const { exports } = new WebAssembly.Instance(module, imports);
  const budget = exports["promisegrid:pages"];
  if (wanted.budget !== null && budget instanceof WebAssembly.Global) budget.value = wanted.budget;
  const grow = /** @type {(delta: number) => number} */ (exports.grow);
  const returned = [];
  let trapped = false;
  for (const delta of wanted.deltas) {
    try {
      returned.push(grow(delta));
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError)) throw error;
      trapped = true;
      break;
    }
  }
  const flag = exports["promisegrid:grow"];
  const memory = /** @type {WebAssembly.Memory} */ (imports.env?.memory ?? exports.memory);
  return {
    returned,
    trapped,
    refused: flag instanceof WebAssembly.Global ? flag.value : null,
    pages: memory.buffer.byteLength / 65_536,
  };
}

const cases = /** @type {Case[]} */ (JSON.parse(readFileSync(0, "utf8")));
process.stdout.write(JSON.stringify(cases.map(run)));
