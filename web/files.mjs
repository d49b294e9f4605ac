// @ts-check
/** The Files view: what to store, what is kept, and a look into anything by its CID. Its place in the URL is #/files/CID/path. */
import { Browser } from "./files-browse.mjs";
import { Kept } from "./files-kept.mjs";
import { PutPanel } from "./files-put.mjs";
import { byId } from "./ui.mjs";

export class Files {
  #kept;
  #browser;

  /** @param {import("./api.mjs").PromiseGrid} grid @param {import("./client.mjs").Client} client */
  constructor(grid, client) {
    this.#kept = new Kept(grid);
    this.#browser = new Browser(grid, this.#kept);
    new PutPanel(grid, this.#kept);
    client.addEventListener("ready", () => this.shown && this.#kept.refresh());
  }

  get shown() {
    return !byId("files-view").hidden;
  }

  /** Show what the URL names, or leave the view. @param {string} hash @returns {boolean} whether the view is meant */
  route(hash) {
    const found = /^#\/files(?:\/(.*))?$/.exec(hash);
    if (!found) {
      this.#browser.clear();
      return false;
    }
    const [cid = "", ...path] = (found[1] ?? "").split("/").filter(Boolean).map(plain);
    this.#kept.refresh();
    this.#browser.show(cid, path);
    return true;
  }
}

/** A part of the URL as it is meant. @param {string} part */
function plain(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
