// @ts-check
/** Bytes that came in pieces. */

/** One piece of them all, in a buffer of its own. @param {Uint8Array[]} parts @param {number} size their bytes together */
export function joined(parts, size) {
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
