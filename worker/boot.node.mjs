// @ts-check
/** What boot.mjs needs under Node.js: a fetch of files, which Node's own is not. */
import { readFile } from "node:fs/promises";

/** @type {import("./boot.mjs").Fetch} */
export async function fetchFile(url) {
  if (url.protocol !== "file:") return fetch(url);
  const data = await readFile(url);
  return new Response(data, { headers: { "content-type": url.pathname.endsWith(".wasm") ? "application/wasm" : "application/octet-stream" } });
}
