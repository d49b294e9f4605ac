/** The store on the disk under Node.js, as e2e/test_store_disk.py tries it.
 * usage: node disk.node.mjs write|check FOLDER ROUND   write without end, a line for each batch acknowledged; what is there
 *        node disk.node.mjs record FOLDER BATCHES      write so many, each noted in FOLDER.acknowledged; LevelDB's files are small
 *        node disk.node.mjs images FOLDER              what is there in each folder of this one, as JSON
 *        node disk.node.mjs rows FOLDER WRITES         commit [[table, key, value]…] (hexadecimal), then print these rows
 *        node disk.node.mjs full FOLDER                commit a little, too much, a little beside too much; what came of it */
import { openSync, readdirSync, writeSync } from "node:fs";
import { join } from "node:path";
import { DiskStore } from "../worker/store.disk.mjs";
import { check, write } from "./pages/batches.mjs";

const [what, folder, about] = process.argv.slice(2);
const bytes = (text) => new Uint8Array(Buffer.from(text, "hex"));
const noise = (size) => Array.from({ length: size / 65536 }, (_, i) => ["blocks", Uint8Array.of(size >> 20, i), crypto.getRandomValues(new Uint8Array(65536))]);

const DO = {
  write: (store) => write(store, Number(about), (n) => writeSync(1, `${n}\n`)),
  async record(store) {
    const note = openSync(`${folder}.acknowledged`, "w");
    const last = Number(about) - 1;
    await new Promise((resolve, reject) => {
      const told = (n) => (writeSync(note, `${n}\n`), n === last && resolve(null));
      write(store, 0, told, last).catch(reject);
    });
    process.exit(0); // not closed: the power goes
  },
  check: (store) => check(store, Number(about)),
  async rows(store) {
    const writes = JSON.parse(about).map(([table, key, value]) => [table, bytes(key), value === undefined ? undefined : bytes(value)]);
    const given = writes.filter(([, , value]) => value !== undefined);
    if (given.length > 0) await store.commit(given, []);
    const rows = await Promise.all(writes.map(([table, key]) => store.load(table, [key])));
    const scanned = await store.scan("kv", bytes(""), bytes(""), 9, false);
    return { rows: rows.map(([row]) => row && Buffer.from(row).toString("hex")), scanned: scanned.length };
  },
  async full(store) {
    const small = (n) => [["kv", Uint8Array.of(n), Uint8Array.of(n)]];
    const code = (promise) => promise.catch((error) => error.code);
    const said = [await code(store.commit(small(1), [])), await code(store.commit(noise(8 << 20), []))];
    said.push(...(await Promise.all([store.commit(noise(9 << 20), []), store.commit(small(2), [])].map(code))));
    return { said, blocks: await store.count("blocks"), kv: await store.count("kv") };
  },
};

async function images() {
  const found = {};
  for (const name of readdirSync(folder)) {
    try {
      const store = await DiskStore.open(join(folder, name));
      found[name] = await check(store, 0);
      await store.close();
    } catch (error) {
      found[name] = { refused: `${error.code}: ${error.message}` };
    }
  }
  return found;
}

try {
  if (what === "images") {
    console.log(JSON.stringify(await images()));
    process.exit(0);
  }
  const small = what === "record" ? { writeBufferSize: 1 << 20 } : {};
  const store = await DiskStore.open(folder, small);
  console.log(JSON.stringify(await DO[what](store)));
  await store.close();
} catch (error) {
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 1;
}
