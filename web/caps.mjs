// @ts-check
/** Promises given, held and kept: the part of `globalThis.promisegrid` that is `caps`. */

/**
 * Promises of this node: `promisegrid.caps`. What each takes and gives is in rpc.mjs.
 * @typedef {import("./rpc.mjs").Given} Given
 */
export class Caps {
  #call;

  /** @param {import("./client.mjs").Client} client */
  constructor(client) {
    this.#call = client.call.bind(client);
  }

  /** The promises this node gave, holds or was shown. @returns {Promise<Given[]>} */
  ls() {
    return this.#call("cap.ls");
  }

  /** @param {string} promise @returns {Promise<Given>} */
  show(promise) {
    return this.#call("cap.show", promise);
  }

  /** Promise a did to run a program. @param {{to: string, code?: string, ability?: string, func?: string, policy?: any[][], budget?: Record<string, number>, uses?: number, days?: number, delegate?: number, later?: boolean}} what @returns {Promise<{promise: string, delivered: boolean, token: Uint8Array}>} */
  grant(what) {
    return this.#call("cap.grant", what);
  }

  /** Pass a held promise on, the same or narrower. @param {{parent: string, to: string, func?: string, policy?: any[][], budget?: Record<string, number>, uses?: number, days?: number, delegate?: number}} what @returns {Promise<{promise: string, delivered: boolean, token: Uint8Array}>} */
  delegate(what) {
    return this.#call("cap.delegate", what);
  }

  /** Take a promise that came by other ways than the grid. @param {Uint8Array} token @returns {Promise<string>} */
  accept(token) {
    return this.#call("cap.accept", token);
  }

  /** @param {string} promise @param {string} [reason] */
  revoke(promise, reason = "") {
    return this.#call("cap.revoke", { promise, reason });
  }

  /** Calls that wait to be kept or broken. @returns {Promise<import("./rpc.mjs").Pending[]>} */
  pending() {
    return this.#call("cap.pending");
  }

  /** Calls of this node that somebody else is to keep. @returns {Promise<(import("./rpc.mjs").Pending & {by: string})[]>} */
  awaited() {
    return this.#call("cap.awaited");
  }

  /** What was said of promises, newest first. */
  history() {
    return this.#call("cap.history");
  }

  /** @param {string} call */
  keep(call) {
    return this.#call("cap.keep", call);
  }

  /** @param {string} call @param {string} [reason] */
  break(call, reason = "") {
    return this.#call("cap.break", { call, reason });
  }

  /** Wait for a deferred call; as run. @param {string} call @param {{timeout?: number, signal?: AbortSignal}} [options] timeout in s */
  await(call, { timeout = 600, signal } = {}) {
    return this.#call("cap.await", { call, timeout }, { signal });
  }
}
