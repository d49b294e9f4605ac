/** A page without looks around the node's worker: what e2e/test_worker.py drives. `?static=` is the bundle's folder. */
const folder = new URL(`${new URLSearchParams(location.search).get("static")}/`, location.href);
const { Calls, CHANNEL } = await import(new URL("rpc.mjs", folder).href);

const calls = new Calls();
let worker;
globalThis.heard = [];
globalThis.start = (config) => {
  worker = new Worker(new URL("node.worker.mjs", folder), { type: "module" });
  return new Promise((resolve) => {
    worker.onerror = (event) => resolve({ type: "failed", code: "load", message: event.message });
    worker.onmessage = ({ data }) => {
      if (calls.settle(data)) return;
      if (heard.length < 10_000) heard.push({ at: Math.round(performance.now()), ...data });
      if (data.type === "ready" || data.type === "failed") resolve(data);
    };
    worker.postMessage({ type: "start", config: { static: folder.href, ...config } });
  });
};
globalThis.call = (verb, args, onprogress) => calls.start((id) => worker.postMessage({ type: "call", id, verb, args }), onprogress);
globalThis.cancelling = (verb, args, ms) => {
  let number;
  const done = calls.start((id) => worker.postMessage({ type: "call", id: (number = id), verb, args }));
  setTimeout(() => worker.postMessage({ type: "cancel", id: number }), ms);
  return done;
};
/** Ask again and again until the answer pleases; the answer. */
globalThis.until = async (verb, pleases) => {
  for (;;) {
    const value = await call(verb);
    if (pleases(value)) return value;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};
globalThis.end = () => worker.terminate();

/** A follower: the same calls over the channel. */
const channel = new BroadcastChannel(CHANNEL);
const followed = new Calls();
const client = crypto.randomUUID();
let pong = () => {};
channel.onmessage = ({ data }) => {
  if (data.client === client && data.type === "pong") pong(data);
  else if (data.client === client) followed.settle(data);
};
globalThis.follow = (verb, args) => followed.start((id) => channel.postMessage({ type: "call", id, verb, args, client }));
globalThis.ping = () => new Promise((resolve) => {
  pong = resolve;
  channel.postMessage({ type: "ping", client });
});
document.title = "begun";
