// @ts-check
/**
 * What a person dropped or chose, as files with their places: the page's twin of the command line's gather.py.
 *
 * Promises: the same folder gives the same list here and there. Hidden files are left out, empty folders are kept, and
 * order does not matter. A browser shows no symbolic links: it follows them or leaves them out.
 */
import { NodeError } from "./rpc.mjs";

/** Files of one folder taken at once, as the node takes them. */
export const FILES_MAX = 100_000;
const DEPTH = 200;

/** @typedef {{name: string, folder: boolean, files: {path: string, file: File}[], empty: string[], size: number}} Gathered paths are below the folder */

/** A file by itself. @param {File} file @returns {Gathered} */
export const single = (file) => ({ name: file.name, folder: false, files: [{ path: file.name, file }], empty: [], size: file.size });

/** Everything that was dropped, each thing by itself. Call it in the drop itself. @param {DataTransfer} dropped @returns {Promise<Gathered[]>} */
export function fromDrop(dropped) {
  const entries = [...dropped.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  return Promise.all(entries.filter((entry) => entry !== null).map(async (entry) => (entry instanceof File ? single(entry) : fromEntry(/** @type {any} */ (entry)))));
}

/** @param {any} entry @returns {Promise<Gathered>} */
async function fromEntry(entry) {
  if (entry.isFile) return single(await fileOf(entry));
  const found = folder(entry.name);
  await below(entry, "", found, async (/** @type {any} */ inner) => (inner.isDirectory ? null : fileOf(inner)), readAll);
  return found;
}

/** A folder from the system's own dialog. @param {FileSystemDirectoryHandle} handle @returns {Promise<Gathered>} */
export async function fromHandle(handle) {
  const found = folder(handle.name);
  const list = async (/** @type {any} */ from) => {
    const inner = [];
    for await (const one of from.values()) inner.push(one);
    return inner;
  };
  await below(handle, "", found, async (/** @type {any} */ inner) => (inner.kind === "directory" ? null : inner.getFile()), list);
  return found;
}

/** A folder from a file input, which tells of no empty folders. @param {FileList} list @returns {Gathered} */
export function fromInput(list) {
  const found = folder(list[0]?.webkitRelativePath.split("/")[0] ?? "");
  for (const file of list) {
    const path = file.webkitRelativePath.split("/").slice(1);
    if (!path.some((name) => name.startsWith("."))) take(found, path.join("/"), file);
  }
  return found;
}

/** @param {string} name @returns {Gathered} */
const folder = (name) => ({ name, folder: true, files: [], empty: [], size: 0 });

/** @param {Gathered} found @param {string} path @param {File} file */
function take(found, path, file) {
  if (found.files.length >= FILES_MAX) throw new NodeError("too_large", `“${found.name}” holds more than ${FILES_MAX} files; store its folders one by one.`);
  found.files.push({ path, file });
  found.size += file.size;
}

/**
 * Everything below a folder.
 * @param {any} from @param {string} path @param {Gathered} found
 * @param {(inner: any) => Promise<File | null>} file null for a folder @param {(from: any) => Promise<any[]>} list
 */
async function below(from, path, found, file, list) {
  if (path.split("/").length > DEPTH) throw new NodeError("too_large", `“${found.name}” is nested deeper than ${DEPTH} folders.`);
  const inner = (await list(from)).filter(({ name }) => !name.startsWith("."));
  if (!inner.length && path) found.empty.push(path);
  for (const one of inner) {
    const place = path ? `${path}/${one.name}` : one.name;
    const data = await file(one);
    if (data) take(found, place, data);
    else await below(one, place, found, file, list);
  }
}

/** The file of a dropped entry. @param {any} entry @returns {Promise<File>} */
const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, () => reject(new NodeError("bad_file", `“${entry.name}” cannot be read.`))));

/** What a dropped folder holds: a browser tells a hundred at a time. @param {any} entry @returns {Promise<any[]>} */
async function readAll(entry) {
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, () => reject(new NodeError("bad_file", `The folder “${entry.name}” cannot be read.`))));
    if (!some.length) return found;
    found.push(...some);
  }
}
