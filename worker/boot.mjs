// @ts-check
/**
 * Start Python and the kernel, from the files that bundle.py made: in a dedicated module worker, or under Node.js.
 *
 * Promises: every download and compilation begins at once; each phase is reported; every failure is a rejection with
 * one sentence, and each phase has a limit in time, so it never hangs. Does not know what the kernel does, nor touch
 * storage, keys or links.
 *
 * Left to itself Pyodide 314 logs some failures and then never settles (a module that cannot be instantiated), or
 * goes on without what it missed (its standard library). So its two downloads and its instantiation are done here.
 */

/**
 * @typedef {{phase: "download", loaded: number, total: number} | {phase: "python"} | {phase: "kernel"} | {phase: "ready"}} Phase
 * @typedef {{pyodide: string, python: string, lock: object, site: string[], sizes: Record<string, number>}} Bundle
 * @typedef {(url: URL, init?: RequestInit) => Promise<Response>} Fetch
 * @typedef {Record<"stall" | "python" | "kernel", number>} Patience  milliseconds
 * @typedef {object} Options
 * @property {string | URL} [base]  the folder of the bundle; by default the one this file was served from
 * @property {(phase: Phase) => void} [onPhase]
 * @property {Fetch} [fetchFile]  for a host whose own fetch cannot read `base`: see boot.node.mjs
 * @property {string[]} [modules]  Python modules to import before it counts as ready
 * @property {Partial<Patience>} [patience]
 */

const WASM = "pyodide.asm.wasm";
const STDLIB = "python.zip";
const LENT = `lent://${STDLIB}`; // the name under which Pyodide gets the bytes already here, from any host

/** Without a byte for so long, or a phase for so long, on a slow telephone, something is broken. @type {Patience} */
const PATIENCE = { stall: 30_000, python: 60_000, kernel: 30_000 };

/** What the user reads when a start fails. */
export class BootError extends Error {
  name = "BootError";
}

/**
 * Start Python and import the kernel.
 * @param {Options} [options]
 * @returns {Promise<{pyodide: any, bundle: Bundle}>}  rejects with BootError, whose message is one sentence
 */
export async function boot({ base = new URL("./", import.meta.url), onPhase = () => {}, fetchFile, modules, patience } = {}) {
  const watch = new Watch({ ...PATIENCE, ...patience });
  const abort = new AbortController();
  const root = new URL(base);
  const start = async () => {
    const downloads = new Downloads(root, fetchFile ?? ((url, init) => fetch(url, init)), abort.signal, watch, onPhase);
    const engine = import(new URL("pyodide.mjs", root).href).catch(unreachable(root));
    const create = import(new URL("pyodide.asm.mjs", root).href).catch(unreachable(root));
    const parts = await all({ bundle: downloads.bundle(), module: downloads.wasm(), stdlib: downloads.bytes(STDLIB), site: downloads.site(), engine, create });
    onPhase({ phase: "python" });
    const pyodide = await watch.during("python", "Python did not start", startPython(root, parts));
    onPhase({ phase: "kernel" });
    await watch.during("kernel", "The kernel did not load", Promise.resolve().then(() => importAll(pyodide, modules)));
    onPhase({ phase: "ready" });
    return { pyodide, bundle: parts.bundle };
  };
  try {
    return await Promise.race([start(), watch.failed]);
  } catch (error) {
    throw error instanceof BootError ? error : new BootError(`PromiseGrid could not start here: ${firstLine(error)}`);
  } finally {
    watch.stop();
    abort.abort();
  }
}

/** The limits in time: one promise that rejects when any of them passes. */
class Watch {
  /** @param {Patience} patience */
  constructor(patience) {
    this.patience = patience;
    /** @type {Promise<never>} */
    this.failed = new Promise((_, reject) => (this.reject = reject));
    this.failed.catch(() => {});
    this.timer = undefined;
  }

  /** @param {keyof Patience} name @param {string} what */
  arm(name, what) {
    clearTimeout(this.timer);
    const ms = this.patience[name];
    this.timer = setTimeout(() => this.reject(new BootError(`${what} within ${ms / 1000} s: reload the page to try again.`)), ms);
  }

  /** @template T @param {keyof Patience} name @param {string} what @param {Promise<T>} promise */
  async during(name, what, promise) {
    this.arm(name, what);
    try {
      return await promise;
    } finally {
      this.stop();
    }
  }

  stop() {
    clearTimeout(this.timer);
  }
}

/** The bundle's files, fetched together, counted and checked. */
class Downloads {
  /** @param {URL} root @param {Fetch} fetchFile @param {AbortSignal} signal @param {Watch} watch @param {(p: Phase) => void} onPhase */
  constructor(root, fetchFile, signal, watch, onPhase) {
    Object.assign(this, { root, fetchFile, signal, watch, onPhase });
    this.loaded = 0;
    /** @type {Promise<Bundle>} */
    this.described = this.response("bundle.json").then(async (response) => this.checked(JSON.parse(await response.text())));
    this.described.catch(() => {});
    this.total = 0;
    this.progress(0);
  }

  bundle() {
    return this.described;
  }

  /** @param {Bundle} bundle */
  checked(bundle) {
    const counted = [WASM, STDLIB, ...bundle.site.map((name) => `site/${name}`)];
    this.total = counted.reduce((sum, name) => sum + bundle.sizes[name], 0);
    return bundle;
  }

  /** @param {number} bytes */
  progress(bytes) {
    this.loaded += bytes;
    this.onPhase({ phase: "download", loaded: this.loaded, total: this.total });
    this.watch.arm("stall", `The download of Python got nothing more from ${this.root.host || "the disk"}`);
  }

  /** @param {string} name */
  async response(name) {
    const response = await this.fetchFile(new URL(name, this.root), { signal: this.signal }).catch(unreachable(this.root));
    if (!response.ok) throw new BootError(`The node answered ${response.status} for ${name}: rebuild its pages with ./build.sh bundle, then reload.`);
    if ((response.headers.get("content-type") ?? "").startsWith("text/html")) throw notThat(name);
    return response;
  }

  /** The body, passed on chunk by chunk: its first bytes and its length are checked, its progress told. @param {string} name @param {number[]} magic */
  async body(name, magic) {
    const response = await this.response(name);
    let seen = 0;
    const flush = async () => {
      const size = (await this.described).sizes[name];
      if (seen !== size) throw new BootError(`${name} ended after ${seen} of ${size} bytes: reload the page to fetch it again.`);
    };
    const check = new TransformStream({
      transform: (chunk, controller) => {
        if (seen === 0 && magic.some((byte, i) => chunk[i] !== byte)) throw notThat(name);
        seen += chunk.length;
        this.progress(chunk.length);
        controller.enqueue(chunk);
      },
      flush,
    });
    if (!response.body) throw notThat(name);
    return new Response(response.body.pipeThrough(check), { headers: { "content-type": "application/wasm" } });
  }

  /** @param {string} name @param {number[]} [magic] */
  async bytes(name, magic = [0x50, 0x4b]) {
    const body = await this.body(name, magic);
    return new Uint8Array(await body.arrayBuffer().catch(lost(name, this.root)));
  }

  /** Python itself, compiled while it arrives. */
  async wasm() {
    const body = await this.body(WASM, [0, 0x61, 0x73, 0x6d]);
    return WebAssembly.compileStreaming(body).catch(lost("Python's WebAssembly", this.root));
  }

  /** The files to place before Python starts. @returns {Promise<[string, Uint8Array][]>} */
  async site() {
    const { site } = await this.described;
    return Promise.all(site.map(async (name) => [name, await this.bytes(`site/${name}`, [])]));
  }
}

/**
 * @param {URL} root
 * @param {{bundle: Bundle, module: WebAssembly.Module, stdlib: Uint8Array, site: [string, Uint8Array][], engine: any, create: any}} parts
 */
async function startPython(root, { bundle, module, stdlib, site, engine, create }) {
  /** @type {string[]} */
  const said = [];
  const path = root.protocol === "file:" ? decodeURIComponent(root.pathname) : root.href;
  const lent = lendFetch(stdlib);
  let broken = (/** @type {unknown} */ _) => {};
  const failure = new Promise((_, reject) => (broken = reject));
  const loading = engine.loadPyodide({
    indexURL: path,
    stdLibURL: LENT,
    lockFileContents: { info: bundle.lock, packages: {} },
    packageBaseUrl: path,
    enableRunUntilComplete: false, // it needs stack switching, which not every browser has
    env: { PYTHONDONTWRITEBYTECODE: "1" }, // the hash seed stays random: strangers choose keys of our dictionaries
    stdin: () => null,
    stdout: (/** @type {string} */ line) => console.log(line),
    stderr: (/** @type {string} */ line) => void (said.push(line), console.warn(line)),
    fsInit: async (/** @type {any} */ FS, /** @type {{sitePackages: string}} */ { sitePackages }) => place(FS, sitePackages, site),
    createPyodideModule: (/** @type {any} */ settings) => create.default({ ...settings, instantiateWasm: instantiator(module, broken) }),
  });
  try {
    const pyodide = await Promise.race([loading, failure]);
    if (pyodide.version !== bundle.pyodide) throw new Error(`it is version ${pyodide.version}, not ${bundle.pyodide}`);
    return pyodide;
  } catch (error) {
    throw new BootError(`Python could not start: ${firstLine(said.find((line) => line.includes("rror")) ?? error)}.`);
  } finally {
    lent.giveBack();
  }
}

/** Pyodide fetches two files by itself, as soon as it is called: it gets what is here already. @param {Uint8Array} stdlib */
function lendFetch(stdlib) {
  const own = globalThis.fetch;
  globalThis.fetch = (input, init) => {
    const url = String(input instanceof Request ? input.url : input).replace(/\/$/, "");
    if (url.endsWith(`/${WASM}`)) return new Promise(() => {}); // instantiator() needs no second copy
    return url === LENT ? Promise.resolve(new Response(stdlib)) : own(input, init);
  };
  return { giveBack: () => void (globalThis.fetch = own) };
}

/**
 * What Pyodide's own does, with two differences: a failure is told, and the two functions that recognise a JavaScript error
 * are the plain ones Pyodide keeps for iOS (its others are inside pyodide.mjs; a call from Python costs the same).
 * @param {WebAssembly.Module} module @param {(error: unknown) => void} broken
 */
function instantiator(module, broken) {
  return (/** @type {any} */ imports, /** @type {(instance: WebAssembly.Instance, module: WebAssembly.Module) => void} */ done) => {
    const marker = Symbol("error marker");
    imports.env.Jsv_GetError_import = () => marker;
    imports.env.JsvError_Check = (/** @type {unknown} */ value) => value === marker;
    WebAssembly.instantiate(module, imports).then((instance) => done(instance, module)).catch(broken);
    return {};
  };
}

/** @param {any} FS @param {string} folder @param {[string, Uint8Array][]} files */
function place(FS, folder, files) {
  for (const [name, data] of files) {
    FS.mkdirTree(`${folder}/${name}`.replace(/\/[^/]*$/, ""));
    FS.writeFile(`${folder}/${name}`, data, { canOwn: true });
  }
}

/** @param {any} pyodide @param {string[]} [modules] */
function importAll(pyodide, modules = ["promisegrid", "promisegrid_worker"]) {
  for (const name of ["prepared", ...modules]) {
    try {
      pyodide.pyimport(name).destroy();
    } catch (error) {
      const lines = String(error instanceof Error ? error.message : error).trim().split("\n");
      throw new BootError(`The kernel could not be loaded: importing ${name} failed with ${lines[lines.length - 1]}.`);
    }
  }
}

/** Promise.all by name. @template {Record<string, Promise<any>>} T @param {T} promises @returns {Promise<{[K in keyof T]: Awaited<T[K]>}>} */
async function all(promises) {
  const values = await Promise.all(Object.values(promises));
  return /** @type {any} */ (Object.fromEntries(Object.keys(promises).map((name, i) => [name, values[i]])));
}

/** @param {string} name */
function notThat(name) {
  return new BootError(`The answer for ${name} is not that file: something between this tab and the node replaced it; check the address, then reload.`);
}

/** @param {URL} root @returns {(error: unknown) => never} */
function unreachable(root) {
  return (error) => {
    throw new BootError(`The node at ${root.host || root.pathname} cannot be reached (${firstLine(error)}): start it or go online, then reload.`);
  };
}

/** @param {string} what @param {URL} root @returns {(error: unknown) => never} */
function lost(what, root) {
  return (error) => {
    if (error instanceof BootError) throw error;
    if (error instanceof WebAssembly.CompileError) throw new BootError(`This browser cannot compile ${what} (${firstLine(error)}): update the browser, or allow WebAssembly for this page.`);
    if (error instanceof RangeError) throw new BootError(`There is not enough memory for ${what}: close other tabs, then reload.`);
    return unreachable(root)(error);
  };
}

/** @param {unknown} error */
function firstLine(error) {
  return String(error instanceof Error ? error.message || error.name : error).trim().split("\n")[0].replace(/\.$/, "");
}
