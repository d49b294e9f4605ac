// @ts-check
/**
 * Blocks from trustless gateways with `fetch`: the tab's half of `effects.Gateway`. Twin of the node's `fetching.py`.
 *
 * Promises: only the address given is asked, and no redirect is followed; no cookie or referrer goes along; at most
 * `most` bytes are taken, within `ms`. A page's policy lets its worker ask only the gateways that the node it came
 * from names; any other one fails as if nobody were there.
 * Does not know: which gateways there are, nor whether the bytes are the block.
 */
import { joined } from "./bytes.mjs";
import { NodeError } from "./rpc.mjs";

const NONE_HERE = [404, 410, 451];
const PATIENCE = [429, 503];

export class Gateways {
  /** @type {Map<number, AbortController>} */
  #asked = new Map();

  /** One raw block, or null where there is none. Rejects with busy, out_of_time, too_large or closed.
   * @param {number} ticket @param {string} url @param {string} cid @param {number} most @param {number} ms @returns {Promise<Uint8Array | null>} */
  async block(ticket, url, cid, most, ms) {
    const asked = new AbortController();
    this.#asked.set(ticket, asked);
    const late = setTimeout(() => asked.abort(new NodeError("out_of_time", `${url} did not send ${cid} in time.`)), ms);
    try {
      return await ask(url, cid, most, asked.signal);
    } catch (error) {
      if (asked.signal.aborted) throw asked.signal.reason;
      if (error instanceof NodeError) throw error;
      throw new NodeError("closed", `${url} could not be asked (${/** @type {any} */ (error).message}). A tab may ask the gateways that its node names: \`promisegrid gateways add ${url}\` there, then reload.`);
    } finally {
      clearTimeout(late);
      this.#asked.delete(ticket);
    }
  }

  /** @param {number} ticket */
  cancel(ticket) {
    this.#asked.get(ticket)?.abort(new NodeError("cancelled", "The call was cancelled."));
  }
}

/** @param {string} url @param {string} cid @param {number} most @param {AbortSignal} signal */
async function ask(url, cid, most, signal) {
  const response = await fetch(`${url}/ipfs/${cid}?format=raw`, {
    headers: { Accept: "application/vnd.ipld.raw" },
    redirect: "error",
    credentials: "omit",
    referrerPolicy: "no-referrer",
    cache: "no-store",
    signal,
  });
  if (NONE_HERE.includes(response.status)) return null;
  if (PATIENCE.includes(response.status)) throw new NodeError("busy", `${url} asks for patience (${response.status}).`);
  if (response.status !== 200) throw new NodeError("closed", `${url} answered ${response.status}.`);
  return read(url, response, most);
}

/** @param {string} url @param {Response} response @param {number} most */
async function read(url, response, most) {
  const parts = [];
  let size = 0;
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  for (let { done, value } = await reader.read(); !done && value; { done, value } = await reader.read()) {
    size += value.length;
    if (size > most) {
      reader.cancel();
      throw new NodeError("too_large", `${url} sent more than a block's ${most} bytes.`);
    }
    parts.push(value);
  }
  return joined(parts, size);
}
