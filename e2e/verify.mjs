// @ts-check
/** The tab's verification under Node.js: [[alg, key, message, signature], …] in base64 on stdin, [bool, …] on stdout. */
import { readFileSync } from "node:fs";
import { Keys } from "../worker/keys.mjs";

const keys = new Keys(/** @type {any} */ (null), new Uint8Array());
const verdicts = [];
for (const [alg, ...parts] of JSON.parse(readFileSync(0, "utf8"))) {
  const [key, message, signature] = parts.map((part) => new Uint8Array(Buffer.from(part, "base64")));
  verdicts.push(await keys.verify(alg, key, message, signature));
}
console.log(JSON.stringify(verdicts));
