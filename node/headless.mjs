#!/usr/bin/env node
// @ts-check
/**
 * The node of a tab without the tab: the very bundle a browser gets, under Node.js 20 or newer.
 *
 *     node node/headless.mjs --peer URL [--home DIR] [--serve CPU] [--memory BYTES] [--bundle DIR] [--json]
 *
 * Promises: the kernel in Pyodide, handlers on Node.js's own WebAssembly in threads of their own; a store on the disk
 * and a key file (0600) in the home, nobody else's at the same time; dials its peer again after every loss; Ctrl-C and
 * SIGTERM stop it cleanly. Prints what happens, one line each; with --json one object a line.
 * Does not know: what a page knows, and it has no door: it is driven by its peers and by its options.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync } from "node:crypto";
import { readdirSync, statSync } from "node:fs";
import { mkdir, open, readFile, rename, stat } from "node:fs/promises";
import { availableParallelism, homedir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { Thread, readyForThreads } from "./headless.thread.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const HELP = `usage: node node/headless.mjs --peer URL [options]

Run a node of a grid under Node.js, with the bundle that tabs run.

  --peer URL      a join URL (http://host:port/#/join/…) or the address of a node (http://host:port)
  --home DIR      where key and store are kept (PROMISEGRID_HOME, else ~/.promisegrid-nodejs)
  --serve CPU     run programs for members: so many at once; 0 for none
  --memory BYTES  memory of each of them (268435456)
  --bundle DIR    what ./build.sh bundle made (build/web)
  --json          print one JSON object a line

example: node node/headless.mjs --peer http://127.0.0.1:8420/#/join/… --serve 2`;

/** What the user got wrong; ends with 2. */
class Usage extends Error {}

/** @param {string[]} words */
function read(words) {
  /** @type {Record<string, {type: "string"} | {type: "boolean", short?: string}>} */
  const options = { peer: { type: "string" }, home: { type: "string" }, serve: { type: "string" }, memory: { type: "string" }, bundle: { type: "string" }, json: { type: "boolean" }, help: { type: "boolean", short: "h" } };
  try {
    return /** @type {Record<string, any>} */ (parseArgs({ args: words, options }).values);
  } catch (error) {
    throw new Usage(/** @type {Error} */ (error).message);
  }
}

/** @param {string | undefined} text @param {string} name @param {number} most */
function whole(text, name, most) {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!/^\d+$/.test(text) || value > most) throw new Usage(`--${name} takes a whole number up to ${most}, not ${JSON.stringify(text)}.`);
  return value;
}

/** What a join URL or a node's address says. @param {string} text @returns {import("../worker/rpc.mjs").Config} */
export function configOf(text) {
  let url;
  try {
    url = new URL(text);
  } catch {
    throw new Usage(`--peer takes a join URL or a node's address, such as http://127.0.0.1:8420/, not ${JSON.stringify(text)}.`);
  }
  const secure = { "https:": true, "wss:": true, "http:": false, "ws:": false }[url.protocol];
  if (secure === undefined) throw new Usage(`--peer takes an address that begins with http, https, ws or wss, not ${url.protocol}`);
  const [, way, grid, invite] = url.hash.replace(/^#/, "").split("/");
  const joins = way === "join";
  return { static: "", ws: `${secure ? "wss" : "ws"}://${url.host}/grid`, url: `${secure ? "https" : "http"}://${url.host}`, grid: joins ? grid : undefined, invite: joins ? invite : undefined };
}

/** The folder of the bundle's files. @param {string} [bundle] */
function staticOf(bundle = join(ROOT, "build", "web")) {
  const folder = join(resolve(bundle), "static");
  try {
    const [name] = readdirSync(folder).sort((a, b) => statSync(join(folder, b)).mtimeMs - statSync(join(folder, a)).mtimeMs);
    if (name) return join(folder, name);
  } catch {
    // told below
  }
  throw new Usage(`There is no bundle in ${resolve(bundle)}: make it with ./build.sh bundle.`);
}

/** This home's key, made when there is none: PKCS#8 in a file that nobody else may read. @param {string} home */
async function keyOf(home) {
  const path = join(home, "key.pem");
  const kept = await readFile(path, "utf8").catch((error) => (error.code === "ENOENT" ? null : Promise.reject(error)));
  if (kept === null) {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const file = await open(`${path}.new`, "w", 0o600);
    await file.writeFile(privateKey.export({ type: "pkcs8", format: "pem" }));
    await file.sync();
    await file.close();
    await rename(`${path}.new`, path);
    return privateKey;
  }
  if ((await stat(path)).mode & 0o077) throw new Usage(`Others can read ${path}: chmod 600 it, or use another --home.`);
  try {
    return createPrivateKey(kept);
  } catch {
    throw new Usage(`${path} is not a key: put it back, or use another --home.`);
  }
}

/** As WebCrypto holds it: the pair, and the public point. @param {import("node:crypto").KeyObject} key */
async function pairOf(key) {
  const jwk = /** @type {any} */ (key.export({ format: "jwk" }));
  if (jwk.crv !== "P-256") throw new Usage("The home's key is not of the curve P-256: use another --home.");
  const how = { name: "ECDSA", namedCurve: "P-256" };
  const shown = /** @type {any} */ (createPublicKey(key).export({ format: "jwk" }));
  const privateKey = await crypto.subtle.importKey("jwk", jwk, how, false, ["sign"]);
  const publicKey = await crypto.subtle.importKey("jwk", shown, how, true, ["verify"]);
  return { pair: { privateKey, publicKey }, point: new Uint8Array(await crypto.subtle.exportKey("raw", publicKey)) };
}

/** Where a node under Node.js keeps its things, and what it starts workers with. @param {string} home @param {string} files */
function placeOf(home, files) {
  const base = pathToFileURL(`${files}/`);
  return {
    worker: (/** @type {string} */ file) => /** @type {any} */ (new Thread(new URL(file, base))),
    keeping: async (/** @type {any} */ { onphase }) => {
      onphase("store", `Opening the store in ${home}`);
      await mkdir(home, { recursive: true, mode: 0o700 });
      const [{ DiskStore }, { Keys }] = await Promise.all([import("../worker/store.disk.mjs"), import(new URL("keys.mjs", base).href)]);
      const store = await DiskStore.open(join(home, "promisebase.level"));
      const { pair, point } = await pairOf(await keyOf(home));
      return { store, keys: new Keys(pair, point) };
    },
  };
}

/** @param {string[]} words */
async function main(words) {
  const options = read(words);
  if (options.help) return void console.log(HELP);
  if (!options.peer) throw new Usage("--peer is missing: give a node's join URL.");
  const serve = whole(options.serve, "serve", 64);
  const memory = whole(options.memory, "memory", 2 ** 32) ?? 256 * 1024 ** 2;
  const home = resolve(options.home ?? process.env.PROMISEGRID_HOME ?? join(homedir(), ".promisegrid-nodejs"));
  const files = staticOf(options.bundle);
  const say = (/** @type {string} */ kind, /** @type {any} */ detail, /** @type {string} */ text) => console.log(options.json ? JSON.stringify({ kind, ...detail }) : text);
  await readyForThreads();
  const { Node } = await import(pathToFileURL(join(files, "node.mjs")).href);
  const config = { ...configOf(options.peer), static: files, engine: `Node.js/${process.versions.node}` };
  const told = {
    onphase: (/** @type {string} */ phase, /** @type {string} */ text, /** @type {number} */ done) => done === undefined && say("phase", { phase, text }, text),
    onevent: (/** @type {string} */ kind, /** @type {any} */ detail) => heard(say, kind, detail),
    onfailed: (/** @type {string} */ code, /** @type {string} */ message) => end(code, message),
  };
  const node = new Node(config, told, placeOf(home, files));
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => void stop(node, say));
  try {
    const { did, grid } = await node.start();
    const ask = (/** @type {string} */ verb, /** @type {any} */ args) => node.call(verb, args, { ask: (/** @type {string} */ question, /** @type {any} */ about = null) => node.shell.ask(question, about), progress: () => {} });
    if (serve !== undefined) await ask("serve", serve ? { cpu: serve, memory } : false);
    say("ready", { did, grid, url: config.url }, `This node is ${did}, of grid ${grid ?? "none yet"}.${serve ? ` It runs ${serve} programs at once for members.` : ""} Ctrl-C stops it.`);
  } catch (error) {
    const { code, message } = /** @type {any} */ (error);
    end(code ?? "internal", message ?? `${error}`);
  }
}

/** @param {(kind: string, detail: any, text: string) => void} say @param {string} kind @param {any} detail */
function heard(say, kind, detail) {
  if (kind === "link") say("link", detail, detail.text);
  else if (kind === "peer") say("peer", detail, `${detail.did || "A peer"} is ${detail.event}${detail.reason ? `: ${detail.reason}` : ""}`);
  else if (kind === "receipt") say("receipt", detail, `Ran ${detail.code} ${detail.func} for ${detail.for}${detail.cached ? " (remembered)" : ""}`);
  else if (kind === "message" && detail.refused) say("refused", detail, `Refused ${detail.code} for ${detail.for}: ${detail.text}`);
}

/** @param {any} node @param {(kind: string, detail: any, text: string) => void} say */
async function stop(node, say) {
  say("stopped", {}, "Stopped.");
  node.shell?.stop("cancelled", "The node is stopping.");
  const late = setTimeout(() => process.exit(0), 3_000);
  await node.shell?.host.store.close();
  clearTimeout(late);
  process.exit(0);
}

/** @param {string} code @param {string} message */
function end(code, message) {
  console.error(`headless: ${message}`);
  process.exit(code === "bad_args" ? 2 : 1);
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  globalThis.navigator ??= /** @type {any} */ ({ hardwareConcurrency: availableParallelism(), userAgent: "" });
  main(process.argv.slice(2)).catch((error) => {
    console.error(`headless: ${error instanceof Usage ? error.message : (error.stack ?? error)}`);
    process.exit(error instanceof Usage ? 2 : 1);
  });
}
