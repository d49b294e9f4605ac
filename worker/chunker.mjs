// @ts-check
/**
 * The buzhash chunker in the JavaScript engine at hand. Twin of promisegrid_node/chunker.py.
 *
 *     const buzhash = new Buzhash(module);       // compiled from promisegrid/chunker/chunker.wasm
 *     buzhash.cut(data, last);                   // the lengths of the chunks that `data` begins with
 *
 * Promises: the same cuts as `promisegrid.chunker.Buzhash`, the specification.
 * Does not know: hashes of blocks, nor which thread it is on.
 */

/** Bytes of the largest chunk. */
export const LARGEST = 512 * 1024;

export class Buzhash {
  /** @param {WebAssembly.Module} module */
  constructor(module) {
    const exports = /** @type {Record<string, any>} */ (new WebAssembly.Instance(module).exports);
    const { buffer } = exports.memory; // it never grows, so this stays
    this.room = new Uint8Array(buffer, exports.input(), exports.room());
    this.words = new Uint32Array(buffer, exports.lengths());
    this.run = exports.cut;
  }

  /** How far it is certain; all of `data` if nothing follows (`last`). @param {Uint8Array} data @param {boolean} last */
  cut(data, last) {
    /** @type {number[]} */
    const lengths = [];
    for (let at = 0; at < data.length; ) {
      const piece = data.subarray(at, at + this.room.length);
      this.room.set(piece);
      const count = this.run(piece.length, last && at + piece.length === data.length ? 1 : 0);
      if (count === 0) break;
      for (const length of this.words.subarray(0, count)) {
        lengths.push(length);
        at += length;
      }
    }
    return lengths;
  }
}

/** Cuts what arrives piece by piece: what is given back is whole chunks, with their lengths. */
export class Cutter {
  /** @type {Uint8Array} what is not cut yet */
  #held = new Uint8Array();

  /** @param {Buzhash} buzhash */
  constructor(buzhash) {
    this.buzhash = buzhash;
  }

  /** @param {Uint8Array} data @param {boolean} last nothing follows @returns {{data: Uint8Array, lengths: number[]}} */
  take(data, last) {
    const whole = new Uint8Array(this.#held.length + data.length);
    whole.set(this.#held);
    whole.set(data, this.#held.length);
    const lengths = this.buzhash.cut(whole, last);
    const end = lengths.reduce((sum, length) => sum + length, 0);
    this.#held = whole.slice(end);
    return { data: whole.subarray(0, end), lengths };
  }
}
