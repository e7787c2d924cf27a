// Stores a log's events as its predecessor did: batches of 50 in one INSERT with ON CONFLICT, one after the other.
// Usage: node node_insert.mjs URL FILE EVENTS
import fs from "node:fs";
import { createRequire } from "node:module";
import readline from "node:readline";

const { Client } = createRequire(`${process.env.NODE_PATH}/`)("pg");
const [url, file, events] = process.argv.slice(2);
const BATCH = 50;

const { searchParams, pathname, username } = new URL(url.replace("@/", "@socket/"));
const client = new Client({
  host: searchParams.get("host"),
  port: Number(searchParams.get("port")),
  user: username,
  database: pathname.slice(1),
});
await client.connect();

async function insert(rows) {
  const places = rows.map((row, n) => `(${row.map((_, m) => `$${n * row.length + m + 1}`).join(",")})`);
  const text = `INSERT INTO agent_trace_events VALUES ${places.join(",")} ON CONFLICT DO NOTHING`;
  await client.query(text, rows.flat());
}

function toRow(line) {
  const { id, at, instance, seq, hook, input, output } = JSON.parse(line);
  const properties = input?.event?.properties ?? input ?? {};
  const part = properties.part ?? {};
  const session = properties.sessionID ?? part.sessionID ?? null;
  const name = input?.event?.type ?? hook;
  const payload = JSON.stringify({ input, output });
  const [message, call] = [part.messageID ?? null, part.callID ?? properties.callID ?? null];
  return [id, new Date(at), instance, seq, session, message, call, name, part.tool ?? null, payload];
}

let rows = [];
let left = Number(events);
for await (const line of readline.createInterface({ input: fs.createReadStream(file) })) {
  if (left-- <= 0) break;
  rows.push(toRow(line));
  if (rows.length === BATCH) {
    await insert(rows);
    rows = [];
  }
}
if (rows.length) await insert(rows);
await client.end();
