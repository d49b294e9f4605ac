// The tab's handler worker, the very file, run by Node.js: cases in as JSON on stdin, what came of each out as JSON.
import { readFileSync } from "node:fs";
import { compile } from "../worker/wasi.mjs";

const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const text = (data) => Buffer.from(data).toString("base64");
const { wasi, cases } = JSON.parse(readFileSync(0));

let said;
globalThis.postMessage = (message) => (said = message);
await import("../worker/handler.worker.mjs");
const ask = (message) => {
  globalThis.onmessage({ data: message });
  if (said.failure) throw said.failure;
  return said.value;
};

ask({ op: "setup", wasi: await compile(Object.fromEntries(Object.entries(wasi).map(([name, data]) => [name, bytes(data)]))) });
const answers = cases.map(({ module, job }) => {
  try {
    const prepared = ask({ op: "compile", data: bytes(module) });
    const done = ask({ op: "run", ...prepared, job: { ...job, params: bytes(job.params), wasi: bytes(job.wasi) } });
    return { values: text(done.values), wasi: text(done.wasi), fuel: Number(done.fuel), memory: done.memory };
  } catch (failure) {
    return { failure };
  }
});
process.stdout.write(JSON.stringify(answers));
