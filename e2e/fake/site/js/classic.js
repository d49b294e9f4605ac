globalThis.order = ["classic"];
document.addEventListener("DOMContentLoaded", () => order.push("there"));
addEventListener("load", () => (document.body.dataset.loaded = "yes"));
