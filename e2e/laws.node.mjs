/** The contract suite under Node.js: the bundle's Python, the host's shell, the store on the disk. Prints what is wrong with each law as JSON.
 * usage: node laws.node.mjs STATIC_FOLDER EMPTY_FOLDER */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { fetchFile } from "../worker/boot.node.mjs";
import { Shell } from "../worker/shell.mjs";
import { DiskStore } from "../worker/store.disk.mjs";
import { FILES, court, tried } from "./pages/laws.mjs";

const [bundle, folder] = process.argv.slice(2);
const { boot } = await import("../worker/boot.mjs");
const bytes = async (path) => (path ? new Uint8Array(await readFile(new URL(`../${path}`, import.meta.url))) : new Uint8Array());
const files = Object.fromEntries(await Promise.all(Object.entries(FILES).map(async ([name, path]) => [name, await bytes(path)])));
const { pyodide } = await boot({ base: pathToFileURL(`${bundle}/`), modules: ["promisegrid_worker.entry"], fetchFile });
let count = 0;
const found = await tried(court(pyodide, files), Shell, () => DiskStore.open(join(folder, `${(count += 1)}`)));
console.log(JSON.stringify(found));
process.exit(0);
