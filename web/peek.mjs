// @ts-check
/** What bytes are, as far as a page may show them: a picture of a known kind, text, or neither. Never markup. */
import { size } from "./units.mjs";

/** How much of a text is shown. */
export const TEXT_BYTES = 64 * 1024;
/** The largest picture that is shown, and the largest that is drawn by code (SVG). */
export const IMAGE_BYTES = 32 * 1024 * 1024;
const SVG_BYTES = 1024 * 1024;

const IMAGES = [
  { type: "image/png", magic: [0x89, 0x50, 0x4e, 0x47] },
  { type: "image/jpeg", magic: [0xff, 0xd8, 0xff] },
  { type: "image/gif", magic: [0x47, 0x49, 0x46, 0x38] },
  { type: "image/webp", magic: [0x52, 0x49, 0x46, 0x46, -1, -1, -1, -1, 0x57, 0x45, 0x42, 0x50] },
];

/** The type of a picture by how its bytes begin; null for anything else. @param {Uint8Array} bytes */
export function imageType(bytes) {
  return IMAGES.find(({ magic }) => magic.every((byte, at) => byte < 0 || bytes[at] === byte))?.type ?? null;
}

/** Whether a file of this name and size may be an SVG to show. @param {string} name @param {number} bytes */
export const isSvg = (name, bytes) => /\.svg$/i.test(name) && bytes <= SVG_BYTES;

/**
 * An SVG as something only an <img> takes: there it runs nothing and fetches nothing, and a data: URL is no page of
 * ours when somebody opens it by itself. @param {Uint8Array} bytes
 */
export function svgUrl(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return `data:image/svg+xml;base64,${btoa(text)}`;
}

/** Bytes as text, cut at TEXT_BYTES; null when they are none. `whole` is the file's size. @param {Uint8Array} bytes @param {number} [whole] */
export function asText(bytes, whole = bytes.length) {
  try {
    const cut = whole > TEXT_BYTES;
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, TEXT_BYTES), { stream: cut });
    return text.includes("\0") ? null : text + (cut ? `\n… ${size(whole - TEXT_BYTES)} more; save it to see all` : "");
  } catch {
    return null;
  }
}
