import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const SHIM = path.join(HERE, "..", "index.js");
const { cases } = JSON.parse(fs.readFileSync(path.join(HERE, "../../tests/data/repository_rules.json"), "utf8"));
const OURS = ["AGENT_TRACE_REPOSITORIES", "AGENT_TRACE_LOG_DIR", "AGENT_TRACE_STATE_DIR", "HOME"];
let modules = 0;

/** A fresh copy of the shim that writes to a folder of logs; the environment is put back afterwards. */
async function shim(t, patterns) {
  const folder = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "rules-")));
  const before = Object.fromEntries(OURS.map((name) => [name, process.env[name]]));
  const logs = path.join(folder, "logs");
  const settings = [patterns, logs, path.join(folder, "state"), "/home/anna"];
  OURS.forEach((name, at) => (process.env[name] = settings[at]));
  t.after(() => {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    fs.rmSync(folder, { recursive: true });
  });
  delete globalThis[Symbol.for("agent-trace-sidecar/1")];
  const logged = [];
  const client = { app: { log: async ({ body }) => logged.push(body) }, tui: { showToast: async () => {} } };
  const plugin = (await import(`${pathToFileURL(SHIM)}?rules${modules++}`)).default;
  const open = (directory, worktree = directory) => plugin.server({ client, project: { id: "x" }, directory, worktree });
  const lines = () => {
    const files = fs.existsSync(logs) ? fs.readdirSync(logs) : [];
    const texts = files.map((file) => fs.readFileSync(path.join(logs, file), "utf8"));
    return texts.join("").split("\n").filter(Boolean).map((line) => JSON.parse(line));
  };
  return { plugin, folder, open, lines, logged, state: path.join(folder, "state") };
}

function configure(root, remotes) {
  fs.mkdirSync(path.join(root, ".git"), { recursive: true });
  const sections = Object.entries(remotes).map(([name, url]) => `[remote "${name}"]\n\turl = ${url}\n\tfetch = +x\n`);
  fs.writeFileSync(path.join(root, ".git/config"), `[core]\n\tbare = false\n${sections.join("")}[branch "main"]\n`);
}

test("the cases that the sidecar's tests have too", async (t) => {
  for (const { patterns, path: place, remotes, recorded, error } of cases) {
    await t.test(JSON.stringify([patterns, place, remotes]), async (inner) => {
      const { folder, open, lines, logged } = await shim(inner, patterns);
      let directory = place ?? "/anywhere";
      if (remotes) {
        directory = path.join(folder, "w");
        configure(directory, remotes);
        process.env.AGENT_TRACE_REPOSITORIES = patterns.replace("!/w", `!${directory}`);
      }
      const hooks = await open(directory);
      await hooks.dispose?.();
      assert.equal(lines().length, recorded ? 2 : 0);
      if (error) assert.ok(logged[0].message.includes(error), logged[0]?.message);
      else assert.deepEqual(logged, []);
    });
  }
});

test("nothing of a denied directory is written or started, in a process that records another one", async (t) => {
  const { folder, open, lines, state } = await shim(t, "!*/secret");
  configure(path.join(folder, "s"), { origin: "git@example.com:secret/x.git" });
  process.env.AGENT_TRACE_REPOSITORIES = "!example.com/secret";
  const denied = await open(path.join(folder, "s"));
  assert.deepEqual(denied, {});
  assert.equal(fs.existsSync(state), false);
  const hooks = await open("/open");
  hooks.event({ event: { type: "session.idle", properties: {} } });
  await hooks.dispose();
  assert.deepEqual(lines().map(({ directory }) => directory), ["/open", "/open", "/open"]);
});

test("a linked worktree has the remotes of its repository", async (t) => {
  const { folder, open } = await shim(t, "!example.com/secret");
  configure(path.join(folder, "main"), { origin: "https://example.com/secret" });
  const own = path.join(folder, "main/.git/worktrees/second");
  fs.mkdirSync(own, { recursive: true });
  fs.writeFileSync(path.join(own, "commondir"), "../..\n");
  fs.mkdirSync(path.join(folder, "second/below"), { recursive: true });
  fs.writeFileSync(path.join(folder, "second/.git"), `gitdir: ${own}\n`);
  assert.deepEqual(await open(path.join(folder, "second/below"), "/"), {});
});

test("links are followed in patterns and in places", async (t) => {
  const { folder, open } = await shim(t, "!/x");
  fs.mkdirSync(path.join(folder, "real/shop"), { recursive: true });
  fs.symlinkSync(path.join(folder, "real"), path.join(folder, "link"));
  for (const pattern of ["real", "link"]) {
    process.env.AGENT_TRACE_REPOSITORIES = `!${folder}/${pattern}/s*`;
    for (const place of ["real", "link"]) assert.deepEqual(await open(`${folder}/${place}/shop`), {});
  }
});

test("a configuration that cannot be read, or is a pipe, denies where a URL matters, and makes nobody wait", async (t) => {
  const { folder, open, lines } = await shim(t, "!example.com/secret");
  fs.mkdirSync(path.join(folder, "w/.git/config"), { recursive: true });
  assert.deepEqual(await open(path.join(folder, "w")), {});
  fs.mkdirSync(path.join(folder, "p/.git"), { recursive: true });
  execFileSync("mkfifo", [path.join(folder, "p/.git/config")]);
  assert.deepEqual(await open(path.join(folder, "p")), {});
  process.env.AGENT_TRACE_REPOSITORIES = "!/elsewhere";
  await (await open(path.join(folder, "w"))).dispose();
  assert.equal(lines().length, 2);
});

test("a pattern that cannot be read records nothing, and is told to the user and to status", async (t) => {
  const { open, lines, logged, state } = await shim(t, "acme/*");
  const hooks = await open("/p");
  await hooks["chat.message"]({}, {});
  assert.deepEqual(lines(), []);
  assert.match(logged[0].message, /^Nothing is recorded: AGENT_TRACE_REPOSITORIES: 'acme\/\*' is neither a path nor a URL/);
  const [kept] = fs.readdirSync(path.join(state, "failures"));
  assert.match(fs.readFileSync(path.join(state, "failures", kept), "utf8"), /"directory":"\/p"/);
});

test("OpenCode 2: an event without a place is not sent where another directory is denied", async (t) => {
  const { plugin, lines } = await shim(t, "!/secret");
  const queue = [];
  const context = (directory) => ({
    location: { directory },
    options: {},
    app: { version: "2" },
    session: { get: async () => undefined },
    tool: { hook: async () => ({ dispose() {} }) },
    event: {
      async *subscribe() {
        yield* queue;
        await new Promise(() => {});
      },
    },
  });
  queue.push({ type: "todo.updated", data: { sessionID: "ses_secret", text: "hidden" } });
  queue.push({ type: "todo.updated", location: { directory: "/secret" }, data: { sessionID: "ses_secret" } });
  queue.push({ type: "todo.updated", location: { directory: "/open" }, data: { sessionID: "ses_open" } });
  assert.equal(await plugin.setup(context("/secret")), undefined);
  const leave = await plugin.setup(context("/open"));
  const sessions = () =>
    lines().filter(({ hook }) => hook === "event").map(({ input }) => input.event.properties.sessionID);
  while (!sessions().includes("ses_open")) await new Promise(setImmediate);
  await leave();
  assert.deepEqual(sessions(), ["ses_open"]);
});
