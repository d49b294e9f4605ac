// @ts-check
/**
 * The tab's database: opened, made anew or brought up to date, and IndexedDB's events as promises.
 *
 * Promises: opening ends within `OPEN_MS`, or says who is in the way; every failure is a StoreError in words for a person.
 * A tab that holds an older version open is told, and lets go. Does not know: what the rows mean.
 */
import { StoreError, TABLES, above } from "./store.common.mjs";

export const DATABASE = "promisegrid";
const VERSION = 2; // 1 had no kv, streams and pins
const OPEN_MS = 10_000;
export const OWN = "own"; // "epoch" → number, "identity" → CryptoKeyPair
export const MODULES = "modules"; // derived: code CID → guarded module; a cache, never a block
export const SHELF = "shelf"; // what MODULES holds: the same keys → {bytes, at, info}

/**
 * The keys of a scan: greater than `after`, beginning with `prefix`; null for all of them.
 * @param {Uint8Array} prefix @param {Uint8Array} after
 */
export function scanRange(prefix, after) {
  const end = above(prefix);
  const past = after.length > 0 && indexedDB.cmp(after, prefix) >= 0;
  if (past && end && indexedDB.cmp(after, end) >= 0) return undefined; // nothing can follow
  const lower = past ? after : prefix;
  if (end) return IDBKeyRange.bound(lower, end, past, true);
  return lower.length > 0 ? IDBKeyRange.lowerBound(lower, past) : null;
}

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
export function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(refusal(request.error));
  });
}

/** A value the database has lost is no value: browsers keep large ones in files of their own, and files rot.
 * @param {IDBRequest<any>} request @returns {Promise<any>} undefined where there is none, or none that can be read */
export function remains(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = (event) => {
      if (request.error?.name === "AbortError") return reject(refusal(request.error));
      event.preventDefault(); // the transaction goes on
      resolve(undefined);
    };
  });
}

/** @param {IDBTransaction} transaction @returns {Promise<void>} */
export function finished(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(refusal(transaction.error));
  });
}

/** Why IndexedDB did not do it, in our words. @param {DOMException | null} error */
export function refusal(error) {
  if (error?.name === "QuotaExceededError") {
    return new StoreError("disk_full", "This browser's storage for the node is full; free some disk space and try again.");
  }
  return new StoreError("internal", `The browser's database failed (${error?.name ?? "aborted"}: ${error?.message ?? "no reason given"}).`);
}

/** Why IndexedDB did not open. @param {DOMException | null} error */
function closed(error) {
  if (error?.name === "QuotaExceededError") return refusal(error);
  if (error?.name === "VersionError") return new StoreError("newer", "The store was made by a newer version of this page; reload to get it.");
  return new StoreError("refused", `This browser refuses the page its database (${error?.name ?? "no reason given"}).`);
}

/** The request to open, or null where the browser throws instead of answering. */
function ask() {
  try {
    return indexedDB.open(DATABASE, VERSION);
  } catch {
    return null;
  }
}

/**
 * Open the database, or reject with a StoreError that a person can read.
 * @param {{onwait: (text: string) => void, onlost: (text: string) => void}} told
 * @returns {Promise<IDBDatabase>}
 */
export function openDatabase({ onwait, onlost }) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(
      () => reject(new StoreError("late", "The browser's database did not open within 10 s; close other tabs of this node, then reload.")),
      OPEN_MS,
    );
    const request = ask();
    if (!request) return clearTimeout(late), reject(new StoreError("refused", "This browser refuses the page its database."));
    request.onblocked = () => {
      clearTimeout(late);
      onwait("Another tab holds an older version of the store; close it to go on.");
    };
    request.onupgradeneeded = () => {
      for (const name of [...TABLES, OWN, MODULES, SHELF]) {
        if (!request.result.objectStoreNames.contains(name)) request.result.createObjectStore(name);
      }
    };
    request.onerror = () => {
      clearTimeout(late);
      reject(closed(request.error));
    };
    request.onsuccess = () => {
      clearTimeout(late);
      const database = request.result;
      database.onversionchange = () => {
        database.close();
        onlost("A newer version of this page has taken over the store; reload this tab.");
      };
      database.onclose = () => onlost("The browser closed the node's database (its site data was cleared); reload this tab.");
      resolve(database);
    };
  });
}
