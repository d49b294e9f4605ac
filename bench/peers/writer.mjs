// @ts-check
/**
 * One writer of many, told what to do by lines on its standard input, whatever it writes with.
 *
 * Times are nanoseconds of the machine's monotonic clock, which all processes share.
 */
import {createInterface} from 'node:readline';

const PATIENCE_MS = 20_000;

export const now = () => Number(process.hrtime.bigint());
/** @param {object} said */
const say = (said) => process.stdout.write(`${JSON.stringify(said)}\n`);
/** @param {number} ms */
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** What this process saw, and when; the first sight of each entry counts. */
export class Seen {
  /** @type {Map<string, number>} */
  times = new Map();

  /** @param {string} name */
  add(name) {
    if (!this.times.has(name)) this.times.set(name, now());
  }
}

/**
 * Say where to find this one, join the first, write at the rate told, and wait until all is seen.
 *
 * @param {object} side
 * @param {unknown} side.address what the others need to join this one
 * @param {Seen} side.seen
 * @param {(address: any) => Promise<void>} side.join
 * @param {(text: string) => Promise<unknown>} side.write
 */
export async function take_part({address, seen, join, write}) {
  const lines = createInterface({input: process.stdin})[Symbol.asyncIterator]();
  const told = async () => {
    const {value, done} = await lines.next();
    return done ? process.exit(0) : JSON.parse(value);
  };
  say({address});
  const {first} = await told();
  if (first) await join(first);
  say({ready: true});
  const {name, start, count, everyNs, total} = await told();
  /** @type {Record<string, number>} */
  const written = {};
  const begun = process.cpuUsage();
  const writing = [];
  for (let number = 0; number < count; number++) {
    await sleep(Math.max(0, (start + number * everyNs - now()) / 1e6));
    const entry = `${name}-${number}`;
    written[entry] = now();
    writing.push(write(entry));
  }
  await Promise.all(writing);
  for (let waited = 0; seen.times.size < total && waited < PATIENCE_MS; waited += 50) await sleep(50);
  const {user, system} = process.cpuUsage(begun);
  say({written, seen: Object.fromEntries(seen.times), cpuMs: (user + system) / 1000});
  await told();
}
