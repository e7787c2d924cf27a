// Drives a shim as OpenCode does, without OpenCode: node shim_driver.mjs SHIM COUNT, then one more at the end of stdin.
import { pathToFileURL } from "node:url";

const [shim, count] = process.argv.slice(2);
const plugin = (await import(pathToFileURL(shim))).default;
const client = { app: { log: async () => {} } };
const hooks = await plugin.server({ client, project: { id: "x" }, directory: "/p", worktree: "/p" });
const send = (number) =>
  hooks.event({ event: { type: "todo.updated", properties: { sessionID: "ses_1", text: "x".repeat(200), number } } });
for (let number = 0; number < Number(count); number++) await send(number);
for await (const _ of process.stdin);
await send(Number(count));
await hooks.dispose();
