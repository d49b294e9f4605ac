/** An app that tries everything; what came of it is left on its body for e2e/test_page_apps.py. */
import { grid } from "./grid.js";

const SOMETHING = "bafkreih7f3nuv2nj6jptk6vhnwsnmw4mn3tlvkdcfxdpssnmq26tqthvwq";
const tried = {};

async function attempt(name, act) {
  try {
    tried[name] = (await act()) ?? "done";
  } catch (error) {
    tried[name] = typeof error.code === "string" ? error.code : error.name;
  }
}

const addOne = (number) => grid.run({ handler: "add", func: "add_one", args: [number] });

const { granted } = await grid.ready;
await attempt("get", () => grid.get(SOMETHING));
await attempt("put", () => grid.put("x"));
await attempt("other", () => grid.run({ handler: "other" }));
await attempt("inherited", () => grid.run({ handler: "constructor" }));
await attempt("files", () => grid.run({ handler: "add", files: SOMETHING }));
await attempt("huge", () => grid.run({ handler: "add", stdin: new Uint8Array(65 * 1024 * 1024) }));
await attempt("own", async () => (await addOne(41)).value);
await attempt("crowd", async () => {
  const all = await Promise.allSettled(Array.from({ length: 30 }, () => addOne(1)));
  return all.some((one) => one.reason?.code === "busy");
});
await attempt("parent", () => parent.document.title);
await attempt("network", () => fetch("/healthz"));
await attempt("storage", () => localStorage.length);
document.body.dataset.tried = JSON.stringify({ ...tried, granted, origin: self.origin });
