// A tab's store that writes until it is killed, or looks what is there afterwards. Driven by e2e/test_tab_kill.py.
import { IdbStore } from "/worker/store.mjs";
import { check, write } from "./batches.mjs";

globalThis.onmessage = async ({ data }) => {
  const store = await IdbStore.open({ onwait() {}, onlost() {} });
  if ("round" in data) await write(store, data.round, (n) => globalThis.postMessage(n));
  else globalThis.postMessage(await check(store, data.check));
};
