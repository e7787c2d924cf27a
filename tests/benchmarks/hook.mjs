// What a hook costs inside OpenCode: run in its own Bun, with the real shim and a real sidecar.
// Usage: BUN_BE_BUN=1 opencode hook.mjs SHIM KIND EVENTS PAUSE_US BURST; prints JSON: {p50, p99} in microseconds per call, and
// {cpu}, the milliseconds of the processor that the whole process took for all calls and the pauses between them.
// KIND: forwarded | dropped | empty | insert (a hook that awaits an INSERT: its cost is a round trip to Postgres).
import { pathToFileURL } from "node:url";

const [shim, kind, eventsText, pauseText, burstText] = process.argv.slice(2);
const burst = Number(burstText); // events in one turn of the event loop; then so many pauses
const events = Number(eventsText);
const pauseNs = Number(pauseText) * 1000;
const WARM = Math.min(2000, events);

const text = "All work and no play makes a dull log. ".repeat(18); // the line has 1 KB
const part = (n) => ({ id: `prt_${n}`, sessionID: "ses_1", messageID: "msg_1", type: "text", text, time: { start: 1, end: 2 } });
const forwarded = (n) => ({
  event: { id: `evt_${n}`, type: "message.part.updated", properties: { sessionID: "ses_1", part: part(n), time: 1 } },
});
const dropped = (n) => ({
  event: { id: `evt_${n}`, type: "message.part.delta", properties: { sessionID: "ses_1", messageID: "msg_1", delta: "x", n } },
});

async function hookOf() {
  if (kind === "empty") return [async () => {}, async () => {}];
  if (kind === "insert") {
    const { SQL } = await import("bun");
    const { searchParams, pathname, username } = new URL(process.env.AGENT_TRACE_DATABASE_URL.replace("@/", "@socket/"));
    const sql = new SQL({
      path: `${searchParams.get("host")}/.s.PGSQL.${searchParams.get("port")}`,
      username,
      database: pathname.slice(1),
      max: 1,
    });
    await sql`CREATE TABLE IF NOT EXISTS hooked (line jsonb)`;
    return [(input) => sql`INSERT INTO hooked VALUES (${input})`, () => sql.close()];
  }
  const plugin = (await import(pathToFileURL(shim))).default;
  const client = { app: { log: async () => {} }, _client: { get: async () => ({ data: { version: "1.18.33" } }) } };
  const place = { client, project: { id: "p" }, directory: process.cwd(), worktree: process.cwd() };
  const hooks = await plugin.server(place, {});
  await new Promise((resolve) => setTimeout(resolve, 1500)); // the sidecar has started
  return [hooks.event, hooks.dispose];
}

const [hook, end] = await hookOf();
const make = kind === "dropped" ? dropped : forwarded;
const inputs = Array.from({ length: events + WARM }, (_, n) => make(n));
const took = new Float64Array(events);
let before = process.cpuUsage();
for (let n = 0; n < inputs.length; n++) {
  if (n === WARM) before = process.cpuUsage();
  const began = Bun.nanoseconds();
  const waiting = hook(inputs[n]);
  if (kind === "insert" || waiting) await waiting;
  const ended = Bun.nanoseconds();
  if (n >= WARM) took[n - WARM] = (ended - began) / 1000;
  if (pauseNs && n % burst === burst - 1) await new Promise((resolve) => setTimeout(resolve, (burst * pauseNs) / 1e6));
}
const { user, system } = process.cpuUsage(before);
await end();
took.sort();
const cpu = (user + system) / 1000;
console.log(JSON.stringify({ p50: took[events >> 1], p99: took[Math.floor(events * 0.99)], cpu }));
process.exit(0);
