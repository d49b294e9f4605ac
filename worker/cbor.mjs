// @ts-check
/**
 * CBOR (RFC 8949) between this shell and its own Python, and nothing else: what a turn carries.
 *
 * Promises: `decode(encode(x))` is x for null, booleans, numbers, BigInt within 64 bits, strings, Uint8Array,
 * arrays and plain objects with string keys. A number without fraction is written as an integer, so Python
 * sees int for 2 and float for 2.5. Integers past 2^53 come back as BigInt, never rounded.
 * Does not know: tags, indefinite lengths, canonical order. Bytes from a peer never come here; only the
 * kernel reads those.
 */

const TEXT = new TextEncoder();
const UTF8 = new TextDecoder("utf-8", { fatal: true });
const START = 1024;

class Writer {
  constructor() {
    this.bytes = new Uint8Array(START);
    this.view = new DataView(this.bytes.buffer);
    this.at = 0;
  }

  /** Make room for `more` bytes and return where they begin. @param {number} more */
  room(more) {
    const at = this.at;
    this.at += more;
    if (this.at > this.bytes.length) {
      const grown = new Uint8Array(Math.max(this.at, this.bytes.length * 2));
      grown.set(this.bytes.subarray(0, at));
      this.bytes = grown;
      this.view = new DataView(grown.buffer);
    }
    return at;
  }

  /** @param {number} value */
  byte(value) {
    const at = this.room(1); // first: it may replace this.bytes
    this.bytes[at] = value;
  }

  /** A major type and its argument. @param {number} major @param {number} n */
  head(major, n) {
    const m = major << 5;
    if (n < 24) this.byte(m | n);
    else if (n < 0x100) {
      this.byte(m | 24);
      this.byte(n);
    } else if (n < 0x10000) {
      const at = this.room(3);
      this.bytes[at] = m | 25;
      this.view.setUint16(at + 1, n);
    } else if (n < 0x100000000) {
      const at = this.room(5);
      this.bytes[at] = m | 26;
      this.view.setUint32(at + 1, n);
    } else this.wide(m, BigInt(n));
  }

  /** An argument of 64 bits. @param {number} m @param {bigint} n */
  wide(m, n) {
    if (n > 0xffffffffffffffffn) throw new RangeError(`${n} does not fit 64 bits; use a smaller number or a text`);
    const at = this.room(9);
    this.bytes[at] = m | 27;
    this.view.setBigUint64(at + 1, n);
  }

  /** @param {number} x */
  number(x) {
    if (Number.isSafeInteger(x) && !Object.is(x, -0)) this.head(x < 0 ? 1 : 0, x < 0 ? -1 - x : x);
    else {
      const at = this.room(9);
      this.bytes[at] = 0xfb;
      this.view.setFloat64(at + 1, x);
    }
  }

  /** @param {Uint8Array} data */
  blob(data) {
    this.head(2, data.length);
    const at = this.room(data.length);
    this.bytes.set(data, at);
  }

  /** @param {string} text */
  text(text) {
    const data = TEXT.encode(text);
    this.head(3, data.length);
    const at = this.room(data.length);
    this.bytes.set(data, at);
  }

  /** @param {any} x */
  any(x) {
    if (x === null || x === undefined) this.byte(0xf6);
    else if (typeof x === "string") this.text(x);
    else if (typeof x === "number") this.number(x);
    else if (typeof x === "boolean") this.byte(x ? 0xf5 : 0xf4);
    else if (typeof x === "bigint") x < 0n ? this.wide(0x20, -1n - x) : this.wide(0, x);
    else if (x instanceof Uint8Array) this.blob(x);
    else if (x instanceof ArrayBuffer) this.blob(new Uint8Array(x));
    else if (ArrayBuffer.isView(x)) this.blob(new Uint8Array(x.buffer, x.byteOffset, x.byteLength));
    else if (Array.isArray(x)) {
      this.head(4, x.length);
      for (const item of x) this.any(item);
    } else if (typeof x === "object") {
      const entries = Object.entries(x).filter(([, value]) => value !== undefined);
      this.head(5, entries.length);
      for (const [key, value] of entries) {
        this.text(key);
        this.any(value);
      }
    } else throw new TypeError(`a ${typeof x} cannot be sent to the node; send data`);
  }
}

class Reader {
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  /** The argument of a head byte. @param {number} info @returns {number | bigint} */
  argument(info) {
    const at = this.at;
    if (info < 24) return info;
    if (info === 24) return (this.at += 1), this.view.getUint8(at);
    if (info === 25) return (this.at += 2), this.view.getUint16(at);
    if (info === 26) return (this.at += 4), this.view.getUint32(at);
    if (info !== 27) throw new RangeError(`unexpected CBOR length form ${info}`);
    this.at += 8;
    const wide = this.view.getBigUint64(at);
    return wide <= 0x1fffffffffffffn ? Number(wide) : wide;
  }

  /** A copy of the next `n` bytes: it owns its buffer, so it may be stored or transferred. @param {number} n */
  take(n) {
    const data = this.bytes.slice(this.at, this.at + n);
    if (data.length !== n) throw new RangeError("the turn ends early");
    this.at += n;
    return data;
  }

  /** @returns {any} */
  any() {
    const head = this.bytes[this.at++];
    const info = head & 31;
    if (head >> 5 === 7) return this.simple(info);
    const n = this.argument(info);
    switch (head >> 5) {
      case 0: return n;
      case 1: return typeof n === "number" && n < 0x1fffffffffffff ? -1 - n : -1n - BigInt(n);
      case 2: return this.take(Number(n));
      case 3: {
        const text = UTF8.decode(this.bytes.subarray(this.at, this.at + Number(n)));
        this.at += Number(n);
        return text;
      }
      case 4: return Array.from({ length: Number(n) }, () => this.any());
      case 5: return Object.fromEntries(Array.from({ length: Number(n) }, () => [this.any(), this.any()]));
      default: throw new RangeError("tags are not expected between the shell and its Python");
    }
  }

  /** @param {number} info */
  simple(info) {
    const at = this.at;
    if (info === 20 || info === 21) return info === 21;
    if (info === 22) return null;
    if (info === 26) return (this.at += 4), this.view.getFloat32(at);
    if (info === 27) return (this.at += 8), this.view.getFloat64(at);
    throw new RangeError(`unexpected CBOR simple value ${info}`);
  }
}

/** One item as bytes. The result is a view of a buffer of its own. @param {any} value @returns {Uint8Array} */
export function encode(value) {
  const writer = new Writer();
  writer.any(value);
  return writer.bytes.subarray(0, writer.at);
}

/** The item these bytes are; anything after it is an error. @param {Uint8Array} bytes @returns {any} */
export function decode(bytes) {
  const reader = new Reader(bytes);
  const value = reader.any();
  if (reader.at !== bytes.length) throw new RangeError("bytes are left over after the turn");
  return value;
}
