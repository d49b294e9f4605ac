// Writes without end, until it is killed: batch after batch, each told once it is acknowledged; and looks what is there
// afterwards. Driven by e2e/test_tab_kill.py.
import { IdbStore } from "/worker/store.mjs";

const ROWS = 20;
const key = (...numbers) => Uint8Array.from(numbers.flatMap((n) => [n >> 8, n & 255]));
const size = (i) => (i < ROWS - 1 ? 1000 : 150_000); // browsers keep large values in files of their own
const value = (n, i) => new Uint8Array(size(i)).fill((7 * n + i) & 255);

/** The kernel waits for one commit before the next of the same strand; several strands are under way at once. */
async function write(store, round) {
  for (let n = 0; ; n += 1) {
    const rows = [...Array(ROWS).keys()].map((i) => ["kv", key(round, n, i), value(n, i)]);
    const done = store.commit(rows, []).then(() => globalThis.postMessage(n));
    if (n % 3 === 2) await done;
    else await new Promise((resolve) => setTimeout(resolve));
  }
}

async function check(store, round) {
  const rows = await store.scan("kv", key(round), key(), 100_000);
  const found = new Map();
  for (const [at, data] of rows) {
    const [n, i] = [(at[2] << 8) | at[3], (at[4] << 8) | at[5]];
    const good = data.length === size(i) && data.every((byte) => byte === ((7 * n + i) & 255));
    found.set(n, (found.get(n) ?? 0) + (good ? 1 : 0));
  }
  const whole = [...found].filter(([, rows]) => rows === ROWS).map(([n]) => n);
  return { whole, torn: [...found].filter(([, rows]) => rows !== ROWS).map(([n]) => n) };
}

globalThis.onmessage = async ({ data }) => {
  const store = await IdbStore.open({ onwait() {}, onlost() {} });
  if ("round" in data) await write(store, data.round);
  else globalThis.postMessage(await check(store, data.check));
};
