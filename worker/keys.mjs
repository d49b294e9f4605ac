// @ts-check
/**
 * The tab's keys: this node's own ECDSA P-256 pair, which WebCrypto never lets out, and other people's public ones.
 *
 * Promises: one identity for each store, made once and kept as a non-extractable CryptoKey; `verify` answers
 * true or false and never throws; imported keys are remembered, at most `REMEMBERED` of them.
 * Does not know: what is signed, low s (the kernel makes and requires it), or whom a key belongs to.
 *
 * Algorithms are COSE's: -7 ES256, -8 EdDSA over Ed25519, -37 PS256 (RFC 9053, RFC 8230).
 */
import { StoreError } from "./store.common.mjs";

const REMEMBERED = 256;
const P256 = { name: "ECDSA", namedCurve: "P-256" };
const ES256 = { name: "ECDSA", hash: "SHA-256" };
const PS256 = { name: "RSA-PSS", hash: "SHA-256", saltLength: 32 };

/** DER of the AlgorithmIdentifier rsaEncryption with NULL parameters (RFC 8017, A.1). */
const RSA_ENCRYPTION = Uint8Array.of(0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00);

/** One DER element. @param {number} tag @param {Uint8Array[]} parts */
function der(tag, ...parts) {
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  const length = size < 0x80 ? [size] : size < 0x100 ? [0x81, size] : [0x82, size >> 8, size & 0xff];
  const out = new Uint8Array(1 + length.length + size);
  out.set([tag, ...length]);
  let at = 1 + length.length;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** An RSAPublicKey as the SubjectPublicKeyInfo that WebCrypto reads (RFC 5280, 4.1). @param {Uint8Array} key */
export function spkiOfRsa(key) {
  if (key.length > 0x1000) throw new RangeError("an RSA key of this size is refused");
  return der(0x30, RSA_ENCRYPTION, der(0x03, Uint8Array.of(0), key));
}

/** How each algorithm imports a key and checks with it. @type {Record<number, {load: (key: Uint8Array) => Promise<CryptoKey>, how: any}>} */
const ALGORITHMS = {
  [-7]: { load: (key) => crypto.subtle.importKey("raw", fixed(key, 65), P256, false, ["verify"]), how: ES256 },
  [-8]: { load: (key) => crypto.subtle.importKey("raw", fixed(key, 32), "Ed25519", false, ["verify"]), how: "Ed25519" },
  [-37]: { load: (key) => crypto.subtle.importKey("spki", spkiOfRsa(key), PS256, false, ["verify"]), how: PS256 },
};

/** @param {Uint8Array} key @param {number} length */
function fixed(key, length) {
  if (key.length !== length) throw new RangeError(`a key of ${length} bytes is meant`);
  return key;
}

export class Keys {
  /** @type {Map<string, Promise<CryptoKey>>} in order of last use */
  #imported = new Map();

  /** @param {CryptoKeyPair} pair @param {Uint8Array} publicKey the uncompressed point, 65 bytes */
  constructor(pair, publicKey) {
    this.pair = pair;
    this.publicKey = publicKey;
  }

  /** The identity of this store, made now if there is none. @param {{own: Function, keepOnce: Function}} store */
  static async open(store) {
    if (!globalThis.crypto?.subtle) {
      throw new StoreError("internal", "This page is not a secure context, so the browser gives it no keys; open it by https or on localhost.");
    }
    let pair = await store.own("identity");
    if (!pair) {
      const fresh = await crypto.subtle.generateKey(P256, false, ["sign", "verify"]);
      pair = await store.keepOnce("identity", fresh);
    }
    return new Keys(pair, new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey)));
  }

  /** Raw r‖s, 64 bytes. @param {Uint8Array} message */
  async sign(message) {
    return new Uint8Array(await crypto.subtle.sign(ES256, this.pair.privateKey, message));
  }

  /** @param {number} alg @param {Uint8Array} key @param {Uint8Array} message @param {Uint8Array} signature @returns {Promise<boolean>} */
  async verify(alg, key, message, signature) {
    const algorithm = ALGORITHMS[alg];
    if (!algorithm) return false;
    try {
      return await crypto.subtle.verify(algorithm.how, await this.#import(alg, key), signature, message);
    } catch {
      return false; // a key that cannot be read, or an algorithm this engine lacks
    }
  }

  /** @param {Uint8Array} data */
  async digest(data) {
    return new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  }

  /** @param {number} alg @param {Uint8Array} key @returns {Promise<CryptoKey>} */
  #import(alg, key) {
    const name = `${alg}:${key.join()}`;
    const known = this.#imported.get(name);
    if (known) {
      this.#imported.delete(name);
      this.#imported.set(name, known);
      return known;
    }
    const loading = ALGORITHMS[alg].load(key);
    this.#imported.set(name, loading);
    if (this.#imported.size > REMEMBERED) this.#imported.delete(/** @type {string} */ (this.#imported.keys().next().value));
    return loading;
  }
}
