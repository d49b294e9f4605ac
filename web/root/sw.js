// @ts-check
/**
 * Keeps a copy of the page, so that a tab can be reloaded while its node is gone.
 *
 * Promises: the page itself always comes from the node when the node answers; files under /static/<hash>/ never
 * change, so a copy is as good as the original, and only the copies of the page in use are kept. Nothing else is
 * touched: not /grid, not /app, not /ipfs. Without this worker everything works, but for a reload offline.
 */
const CACHE = "promisegrid-page";
const worker = /** @type {any} */ (globalThis);

worker.addEventListener("install", () => worker.skipWaiting());
worker.addEventListener("activate", (/** @type {any} */ event) => event.waitUntil(worker.clients.claim()));
worker.addEventListener("message", (/** @type {any} */ event) => event.data === "keep" && event.waitUntil(keep(event.source)));
worker.addEventListener("fetch", (/** @type {any} */ event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== location.origin) return;
  if (url.pathname === "/" && event.request.mode === "navigate") event.respondWith(page(event.request));
  else if (url.pathname.endsWith("/node.worker.mjs")) event.respondWith(current(event.request));
  else if (url.pathname.startsWith("/static/")) event.respondWith(fixed(event.request));
});

/** The node's page, else the copy. @param {Request} request */
async function page(request) {
  try {
    return await fetch(request);
  } catch (error) {
    const copy = await (await caches.open(CACHE)).match("/");
    if (copy) return copy;
    throw error;
  }
}

/** The worker's first file: it never changes either, but what the node lets it reach comes with it. @param {Request} request */
async function current(request) {
  return fetch(request).catch(() => fixed(request));
}

/** A file that never changes. @param {Request} request */
async function fixed(request) {
  return (await (await caches.open(CACHE)).match(request.url)) ?? fetch(request);
}

/** Copy the page as it is now, all or nothing, then let go of older ones. @param {any} tab */
async function keep(tab) {
  const cache = await caches.open(CACHE);
  const { files } = await (await fetch("/manifest.json")).json();
  const wanted = Object.keys(files).map((name) => (name === "index.html" ? "/" : `/${name}`)).filter((path) => path === "/" || path.startsWith("/static/"));
  const have = new Set((await cache.keys()).map((request) => new URL(request.url).pathname));
  await cache.addAll(wanted.filter((path) => path === "/" || !have.has(path)));
  const stale = [...have].filter((path) => !wanted.includes(path));
  await Promise.all(stale.map((path) => cache.delete(path)));
  tab?.postMessage("kept");
}
