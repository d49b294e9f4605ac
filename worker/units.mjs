// @ts-check
/** Numbers as people read them, the same as promisegrid/units.py says them. */

/** A number of bytes: 900 B, 1.5 KiB, 512 MiB. @param {number} bytes */
export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let unit = -1;
  do (bytes /= 1024), (unit += 1);
  while (Math.round(bytes) >= 1024 && unit < units.length - 1);
  return `${bytes.toFixed(bytes < 100 ? 1 : 0).replace(/\.0$/, "")} ${units[unit]}`;
}

/** A whole number in groups of three digits. @param {number | bigint} count */
export const number = (count) => count.toLocaleString("en");
