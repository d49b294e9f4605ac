/** What a store that is to be killed writes, and what must be there afterwards: batches that are whole or not there. */

const ROWS = 20;
const key = (...numbers) => Uint8Array.from(numbers.flatMap((n) => [n >> 8, n & 255]));
const size = (i) => (i < ROWS - 1 ? 1000 : 150_000); // browsers keep large values in files of their own
const value = (n, i) => new Uint8Array(size(i)).fill((7 * n + i) & 255);

/** Write without end, or up to batch `last`; `told` is called with the number of each batch once it is acknowledged. Several are under way at once. */
export async function write(store, round, told, last = Infinity) {
  for (let n = 0; n <= last; n += 1) {
    const rows = [...Array(ROWS).keys()].map((i) => ["kv", key(round, n, i), value(n, i)]);
    const done = store.commit(rows, []).then(() => told(n));
    if (n % 3 === 2) await done;
    else await new Promise((resolve) => setTimeout(resolve));
  }
}

/** The batches of a round that are there, and those that are there in part. @returns {Promise<{whole: number[], torn: number[]}>} */
export async function check(store, round) {
  const rows = await store.scan("kv", key(round), key(), 100_000);
  const found = new Map();
  for (const [at, data] of rows) {
    const [n, i] = [(at[2] << 8) | at[3], (at[4] << 8) | at[5]];
    const good = data.length === size(i) && data.every((byte) => byte === ((7 * n + i) & 255));
    found.set(n, (found.get(n) ?? 0) + (good ? 1 : 0));
  }
  const of = (wanted) => [...found].filter(([, rows]) => (rows === ROWS) === wanted).map(([n]) => n);
  return { whole: of(true), torn: of(false) };
}
