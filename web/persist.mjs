// @ts-check
/**
 * The browser's promise not to throw the store away: asked for once there is something to keep, never before.
 *
 * A browser that asks the person (Firefox) would otherwise ask somebody who has done nothing yet; one that decides by
 * itself (Chromium, Safari) goes by use, and would say no. Asked once a visit. Does not know: what it answers; whoever
 * wants to know asks the node's `storage`.
 */

/** Verbs that leave something of the person's own: content, what is kept or published of it, promises to others. */
const WORTH = new Set(["put", "put.end", "put.close", "folder", "putTree", "pin", "publish", "log.move", "serve", "cap.grant", "cap.delegate", "cap.accept"]);

/** @param {EventTarget} client whose `called` event tells a verb that was answered */
export function persistAfter(client) {
  const heard = (/** @type {Event} */ event) => {
    const { detail: verb } = /** @type {CustomEvent<string>} */ (event);
    if (!WORTH.has(verb) || navigator.userActivation?.hasBeenActive === false) return;
    client.removeEventListener("called", heard);
    navigator.storage?.persist?.().catch(() => false);
  };
  client.addEventListener("called", heard);
}
