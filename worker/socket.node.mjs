// @ts-check
/** The WebSocket of Node.js versions that have none of their own: npm's `ws`, which speaks the browser's interface. */
export { WebSocket } from "ws";
