// Plays a session to the shim as OpenCode 2 would: node opencode2.mjs SHIM SCRIPT
//
// The context is built after the published types of @opencode/plugin 2.0 (promise flavour): tool.hook(name, callback)
// resolves to a registration, event.subscribe({signal}) is an async iterable of {id, created, type, data, location?},
// and what setup returns is awaited at shutdown. SCRIPT is JSON: {location, app, sessions?, steps: [{event} | {hook,
// payload}]}. `sessions` are what ctx.session.get knows, by id: {age_ms, ...}; without them there is no such function.
import fs from "node:fs";
import { pathToFileURL } from "node:url";

const [shim, file] = process.argv.slice(2);
const { location, app, sessions, steps } = JSON.parse(fs.readFileSync(file, "utf8"));
const callbacks = new Map();
let registered = 0;
const queue = [];
const asked = [];
let wake = () => {};

const ctx = {
  app,
  location,
  options: {},
  tool: {
    hook: async (name, callback) => {
      callbacks.set(name, callback);
      registered++;
      return { dispose: async () => void registered-- };
    },
  },
  session: sessions && {
    get: async ({ sessionID }) => {
      asked.push(sessionID);
      const { age_ms: age, ...info } = sessions[sessionID];
      return { data: { id: sessionID, time: { created: Date.now() - age }, ...info } };
    },
  },
  event: {
    subscribe: async function* ({ signal }) {
      signal.addEventListener("abort", () => wake());
      while (!signal.aborted) {
        while (queue.length) yield queue.shift();
        await new Promise((resolve) => (wake = resolve));
      }
    },
  },
};

const { default: plugin } = await import(pathToFileURL(shim));
const cleanup = await plugin.setup(ctx);
let number = 0;
if (cleanup === undefined) process.exit(0);
for (const { event, hook, payload } of steps) {
  if (event) {
    queue.push({ id: `evt_${++number}`, created: Date.now(), ...event });
    wake();
    while (queue.length) await new Promise((resolve) => setImmediate(resolve)); // hooks and events keep their order
    await new Promise((resolve) => setImmediate(resolve));
  } else {
    await callbacks.get(hook)(payload);
  }
}
await cleanup();
await new Promise((resolve) => setImmediate(resolve));
console.log(JSON.stringify({ registered, asked, timers: process.getActiveResourcesInfo().filter((it) => it === "Timeout").length }));
