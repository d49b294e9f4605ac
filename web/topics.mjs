// @ts-check
/** Topics in the page: which are followed, what was said in one of them, and saying something. */
import { byId, el, glyph, short } from "./ui.mjs";

const SHOWN = 100;
/** Between looks: each reads all that is shown. */
const SOON_MS = 100;
const TEXT_CHARS = 2_000;

/** @typedef {import("./api.mjs").Entry} Entry */

export class TopicsPanel {
  #topic = "";
  /** The next look, while it waits. @type {Promise<void> | null} */
  #soon = null;
  /** The look under way. @type {Promise<void>} */
  #now = Promise.resolve();

  /** @param {import("./api.mjs").PromiseGrid} grid @param {import("./client.mjs").Client} client */
  constructor(grid, client) {
    this.grid = grid;
    this.client = client;
    this.#on("topic-form", async () => {
      const topic = byId("topic-name").value.trim();
      await grid.follow(topic);
      byId("topic-name").value = "";
      this.#topic = topic;
    });
    this.#on("say-form", async () => {
      await grid.publish(this.#topic, byId("say-text").value);
      byId("say-text").value = "";
    });
    byId("topic-leave").addEventListener("click", () => this.#try(() => grid.leave(this.#topic)));
    for (const kind of ["topic", "topics"]) grid.addEventListener(kind, () => !byId("net-view").hidden && this.refresh());
  }

  /** @param {string} id @param {() => Promise<void>} work */
  #on(id, work) {
    byId(id).addEventListener("submit", (/** @type {SubmitEvent} */ event) => (event.preventDefault(), this.#try(work)));
  }

  /** @param {() => Promise<any>} work */
  async #try(work) {
    byId("topic-error").textContent = "";
    await work().catch((error) => (byId("topic-error").textContent = error.message));
    await this.refresh();
  }

  /** Look again, in a moment, once for all reasons to until then: whoever talks without a pause puts nothing off. */
  refresh() {
    return (this.#soon ??= this.#again());
  }

  async #again() {
    await new Promise((resolve) => setTimeout(resolve, SOON_MS));
    await this.#now.catch(() => {});
    this.#soon = null;
    await (this.#now = this.#refresh());
  }

  /** What is followed, and what was said in the one on show. */
  async #refresh() {
    const topics = await this.grid.topics().catch(() => /** @type {string[]} */ ([]));
    if (!topics.includes(this.#topic)) this.#topic = topics[0] ?? "";
    const topic = this.#topic;
    const entries = topic ? await this.grid.entries(topic, SHOWN).catch(() => []) : [];
    if (topic !== this.#topic) return void this.refresh();
    byId("topic-list").replaceChildren(...(topics.length > 1 ? topics.map((topic) => el("li", {}, this.#tab(topic))) : []));
    byId("topic-one").hidden = !this.#topic;
    byId("topic-title").textContent = this.#topic;
    byId("topic-empty").hidden = !this.#topic || entries.length > 0;
    const said = byId("topic-said");
    said.replaceChildren(...entries.map((entry) => this.#entry(entry)));
    said.scrollTop = said.scrollHeight;
  }

  /** @param {string} topic */
  #tab(topic) {
    const made = el("button", { class: "small", type: "button", ariaPressed: `${topic === this.#topic}` }, topic.length > 32 ? `${topic.slice(0, 31)}…` : topic);
    made.addEventListener("click", () => {
      this.#topic = topic;
      this.refresh();
    });
    return made;
  }

  /** @param {Entry} entry */
  #entry({ by, at, body }) {
    const mine = by === this.client.node?.did;
    const when = new Date(at);
    const who = el("span", { class: "name", title: by }, glyph(by, 16), mine ? "this node" : short(by));
    return el("li", { class: mine ? "mine" : "" }, el("p", { class: "split" }, who, el("time", { dateTime: when.toISOString(), title: when.toLocaleString() }, when.toLocaleTimeString([], { hour12: false }))), el("p", {}, readable(body)));
  }
}

/** What somebody said, as text. @param {any} body */
function readable(body) {
  if (body instanceof Uint8Array) {
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(body).slice(0, TEXT_CHARS);
    } catch {
      return `${body.length} bytes`;
    }
  }
  if (typeof body === "string") return body.slice(0, TEXT_CHARS);
  const plain = (/** @type {string} */ _, /** @type {any} */ value) => (typeof value === "bigint" ? `${value}` : value instanceof Uint8Array ? `${value.length} bytes` : value);
  return (JSON.stringify(body, plain, 1) ?? "").slice(0, TEXT_CHARS);
}
