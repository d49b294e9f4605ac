// The runtime's second Python with a stand-in for it, under Node.js: real threads, really busy. See test_metering_bounds.py.
import { Worker } from "node:worker_threads";

const [base] = process.argv.slice(2);
const { Pool } = await import(`${base}/pool.mjs`);
const { Runtime } = await import(`${base}/runtime.mjs`);

/** Answers each task with the task's name; data that begins with 1 makes it loop for ever where it looks, 2 where it rewrites. */
const CODE = `
const { parentPort } = require("node:worker_threads");
parentPort.on("message", (message) => {
  if (message.op === "setup") return parentPort.postMessage({ ready: true });
  if ((message.op === "look" && message.data[0] === 1) || (message.op === "guard" && message.data[0] === 2)) for (;;);
  parentPort.postMessage({ value: message.op === "compile" ? { module: {}, pages: null } : message.op });
});`;

const made = { handler: 0, meter: 0 };
const gone = { handler: 0, meter: 0 };

/** A worker as pages know them. */
const spawn = (kind) => () => {
  const thread = new Worker(CODE, { eval: true });
  made[kind] += 1;
  const worker = { onmessage: null, onerror: null, postMessage: (message, transfer) => thread.postMessage(message, transfer) };
  worker.terminate = () => ((gone[kind] += 1), thread.terminate());
  thread.on("message", (data) => worker.onmessage?.({ data }));
  thread.on("error", (error) => worker.onerror?.({ message: error.message }));
  return worker;
};

const until = async (check) => {
  while (!check()) await new Promise((resolve) => setTimeout(resolve, 1));
};

const meters = new Pool(spawn("meter"), { op: "setup" }, 1, { startMs: 20_000, idleMs: 40 });
const shelved = [];
const runtime = new Runtime(new Pool(spawn("handler"), { op: "setup" }, 1), { module: async () => null, shelve: async (code) => shelved.push(code[0]) }, meters, { meterMs: 300 });
const meter = (ticket, first) => runtime.meter(ticket, Uint8Array.of(ticket), Uint8Array.of(first, 0), 1).catch(({ code, message }) => [code, message]);

const told = { good: await meter(1, 0), alive: meters.running };
told.looking = await meter(2, 1);
told.rewriting = await meter(3, 2);
told.killed = gone.meter;
told.after = await meter(4, 0);
await until(() => gone.meter === made.meter); // nobody asked for a while
told.idle = { made: made.meter, gone: gone.meter };
const given = meter(5, 1);
await until(() => meters.running === 1);
const waiting = meter(6, 0);
runtime.cancel(5);
told.given = await given;
told.waiting = await waiting;
told.shelved = shelved;
const last = meter(7, 1);
await until(() => meters.running === 1);
runtime.close();
told.closed = await last;
told.left = { meters: made.meter - gone.meter, handlers: made.handler - gone.handler };
console.log(JSON.stringify(told));
