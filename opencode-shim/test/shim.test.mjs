import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const SHIM = path.join(HERE, "..", "index.js");
const FAKE = path.join(HERE, "fake-sidecar");
const OURS = `AGENT_TRACE_SIDECAR AGENT_TRACE_ENABLED AGENT_TRACE_LOG_DIR FROM_HOST AGENT_TRACE_STATE_DIR PATH TMPDIR`.split(" ");
const MKFIFO = execFileSync("which", ["mkfifo"], { encoding: "utf8" }).trim();
const VERSION = JSON.parse(fs.readFileSync(path.join(HERE, "..", "package.json"), "utf8")).version;
let modules = 0;

/** How many processes want each processor: a deadline counts seconds of a quiet machine. */
const crowding = () => Math.max(1, os.loadavg()[0] / os.availableParallelism());

/** Waits until `get` gives something true, and returns it; `what` names it for the error. */
async function eventually(get, what = get, deadlineMs = 20_000) {
  for (let waited = 0, last = Date.now(); ; ) {
    const value = get();
    if (value) return value;
    waited += (Date.now() - last) / crowding();
    last = Date.now();
    if (waited > deadlineMs) assert.fail(`not within ${deadlineMs} ms: ${typeof what === "string" ? what : what()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const jsonl = (file) => {
  const text = fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "";
  return text.split("\n").slice(0, -1).map((line) => JSON.parse(line)); // the last one may be half written
};

const folders = [];
// At the end of its test a sidecar may be about to start, or to end, and its shim writes of that into the folder later.
const gone = { recursive: true, force: true, maxRetries: 9 };
process.once("exit", () => folders.forEach((folder) => fs.rmSync(folder, gone)));

/** A fresh copy of the shim's module, as in a process of its own, with an environment that is put back afterwards. */
async function shim(t, env = {}, mode = "ack") {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "shim-"));
  folders.push(folder);
  const log = path.join(folder, "log.jsonl");
  const before = Object.fromEntries(OURS.map((name) => [name, process.env[name]]));
  for (const name of OURS.slice(0, 4)) delete process.env[name];
  fs.copyFileSync(FAKE, path.join(folder, "fake-sidecar.mjs"));
  const command = `"${process.execPath}" '${path.join(folder, "fake-sidecar.mjs")}' ${log} ${mode}`;
  const state = path.join(folder, "state");
  Object.assign(process.env, { AGENT_TRACE_SIDECAR: command, AGENT_TRACE_STATE_DIR: state }, env);
  for (const [name, value] of Object.entries(env)) if (value === undefined) delete process.env[name];
  t.after(() => {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    for (const { pid } of jsonl(`${log}.starts`)) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // gone already
      }
    }
  });
  const logged = [];
  const toasts = [];
  const client = {
    app: { log: async ({ body }) => logged.push(body) },
    tui: { showToast: async ({ body }) => toasts.push(body) },
  };
  delete globalThis[Symbol.for("agent-trace-sidecar/1")];
  const copy = async () => (await import(`${pathToFileURL(SHIM)}?${modules++}`)).default;
  const plugin = await copy();
  const open = (directory = "/p", options, from = plugin) =>
    from.server({ client, project: { id: "x" }, directory, worktree: directory }, options);
  const lines = () => jsonl(log);
  const starts = () => jsonl(`${log}.starts`).filter((entry) => !entry.eof);
  const failures = () => {
    const kept = path.join(state, "failures");
    return (fs.existsSync(kept) ? fs.readdirSync(kept) : []).map((name) => JSON.parse(fs.readFileSync(path.join(kept, name))));
  };
  const got = (count) => eventually(() => lines().length >= count && lines(), () => `${count} lines, not ${lines().length}`);
  return { plugin, copy, open, log, folder, lines, starts, got, logged, toasts, failures, state, client };
}

const busEvent = (type, properties = {}) => ({ event: { id: "evt_1", type, properties } });
const noGap = (lines) => assert.deepEqual(lines.map((line) => line.seq), lines.map((_, index) => index + 1));

test("a session reaches the sidecar in wire format 1, from hello to bye", async (t) => {
  const { open, got, starts } = await shim(t, { FROM_HOST: "yes" });
  const hooks = await open("/p");
  hooks["tool.execute.before"]({ tool: "edit", sessionID: "s", callID: "c" }, { args: { filePath: "é\n\ud800" } });
  hooks["chat.message"]({ sessionID: "s" }, { message: {}, parts: [] });
  hooks.event(busEvent("session.created", { sessionID: "s" }));
  await hooks.dispose();
  const lines = await got(5);
  noGap(lines);
  assert.deepEqual(lines.map((line) => line.hook), ["hello", "tool.execute.before", "chat.message", "event", "bye"]);
  assert.deepEqual(lines[0].input, { shim: "0.3.0", api: 1, project: { id: "x" } });
  assert.deepEqual(lines[1].input, { tool: "edit", sessionID: "s", callID: "c" });
  assert.deepEqual(lines[1].output, { args: { filePath: "é\n\ud800" } });
  assert.equal(new Set(lines.map((line) => line.instance)).size, 1);
  assert.equal(new Set(lines.map((line) => line.id)).size, 5);
  for (const line of lines) {
    assert.match(line.id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.equal(parseInt(line.id.slice(0, 13).replace("-", ""), 16), line.at);
    assert.deepEqual([line.v, line.directory, line.worktree], [1, "/p", "/p"]);
  }
  assert.equal(starts()[0].fromHost, "yes");
});

const part = (type, more) => busEvent("message.part.updated", { part: { type, ...more } });
const FILTER = [
  [true, busEvent("session.idle")],
  [true, busEvent("permission.replied")],
  [false, busEvent("message.part.delta")],
  [false, busEvent("session.diff")],
  [false, busEvent("session.status")],
  [false, busEvent("file.watcher.updated")],
  [false, busEvent("constructor")],
  [true, part("tool", { state: { status: "pending" } })],
  [false, part("tool", { state: { status: "running" } })],
  [true, part("tool", { state: { status: "completed" } })],
  [true, part("tool", { state: { status: "error" } })],
  [true, part("step-start")],
  [true, part("step-finish")],
  [true, part("patch")],
  [false, part("constructor")],
  [false, part("text", { time: { start: 1 } })],
  [true, part("text", { time: { start: 1, end: 2 } })],
  [true, part("text", { text: "a prompt" })],
  [false, part("reasoning", { time: { start: 1 } })],
  [true, part("reasoning", { time: { start: 1, end: 2 } })],
  [false, undefined],
  [false, {}],
  [false, { event: { get type() { throw new Error("hostile"); } } }],
];

test("one table says what is worth sending", async (t) => {
  const { open, got } = await shim(t);
  const hooks = await open();
  for (const [, input] of FILTER) assert.equal(hooks.event(input), undefined);
  await hooks.dispose();
  const wanted = FILTER.filter(([sent]) => sent).map(([, input]) => input);
  wanted.splice(2, 0, { event: { type: "constructor", unknown: 1 } }); // a type that the table does not know is counted
  const lines = await got(wanted.length + 2);
  assert.deepEqual(lines.slice(1, -1).map((line) => line.input), wanted);
});

test("hello carries OpenCode's version, and the first hook does not wait for it", async (t) => {
  const { client, open, got } = await shim(t);
  let answer;
  client._client = { get: () => new Promise((resolve) => (answer = resolve)) };
  const early = await open("/early");
  early.event(busEvent("session.idle"));
  answer({ data: { version: "1.18.33" } });
  await new Promise(setImmediate);
  await open("/late");
  const lines = await got(3);
  assert.deepEqual(lines.map((line) => [line.hook, line.directory, line.input.opencode]), [
    ["hello", "/early", undefined],
    ["event", "/early", undefined],
    ["hello", "/late", "1.18.33"],
  ]);
});

const OFF = ["false", "FALSE", "0", "off", "No", " false "];
test("AGENT_TRACE_ENABLED=false means no hook, no child, no file", async (t) => {
  for (const value of OFF) {
    const { open, starts, plugin } = await shim(t, { AGENT_TRACE_ENABLED: value, AGENT_TRACE_LOG_DIR: "/nowhere" });
    assert.deepEqual(await open(), {}, value);
    assert.equal(await plugin.setup({}), undefined);
    assert.deepEqual(starts(), []);
  }
});

test("a sidecar that is killed is started again and gets what it had not acknowledged, in order", async (t) => {
  const { open, got, starts, lines } = await shim(t, {}, "die");
  const hooks = await open();
  hooks.event(busEvent("session.idle"));
  await eventually(() => starts().length === 2, "a second start");
  hooks.event(busEvent("session.idle"));
  await hooks.dispose();
  await got(4);
  const byId = new Map(lines().map((line) => [line.id, line]));
  noGap([...byId.values()]);
  assert.ok(lines().length > byId.size, "the first lines came twice, with the ids they had");
});

test("what a sidecar that stopped reading has missed comes when it reads again", async (t) => {
  const { open, got, log } = await shim(t, {}, "drain-late");
  const hooks = await open();
  const texts = Array.from({ length: 2000 }, (_, n) => "größe 日本語 🙂 ".repeat(n % 100 ? n % 100 : 7000) + n); // cut anywhere
  for (const text of texts) hooks.event(busEvent("session.idle", { text }));
  fs.writeFileSync(`${log}.go`, "");
  const lines = await got(2001);
  noGap(lines);
  assert.deepEqual(lines.slice(1).map((line) => line.input.event.properties.text), texts);
});

test("the memory of lines not acknowledged has a bound, and what is given up is counted", async (t) => {
  const { open, got, log } = await shim(t, {}, "drain-late");
  const hooks = await open();
  const send = (bytes) => hooks.event(busEvent("session.idle", { text: "x".repeat(bytes) }));
  send(17 * 2 ** 20); // seq 2: too long for a line
  for (let i = 0; i < 4; i++) send(10 * 2 ** 20); // seq 3 to 6: the last one is past the bound
  send(10);
  fs.writeFileSync(`${log}.go`, "");
  const lines = await got(5);
  assert.deepEqual(lines.map((line) => [line.seq, line.lost]), [[1, undefined], [3, 1], [4, 1], [5, 1], [7, 2]]);
});

test("hostile values throw out of no hook, and are counted as lost", async (t) => {
  const { open, got } = await shim(t);
  const hooks = await open();
  const cycle = {};
  cycle.self = cycle;
  const hostile = [
    { big: 1n },
    cycle,
    { get x() { throw new Error("getter"); } },
    { toJSON() { throw new Error("toJSON"); } },
    new Proxy({}, { ownKeys() { throw new Error("proxy"); } }),
  ];
  for (const value of hostile) assert.equal(hooks["tool.execute.after"]({ tool: "x" }, value), undefined);
  for (const value of [undefined, null, () => {}, { toJSON: () => undefined }, "\u0000\ud800"]) {
    assert.equal(hooks["tool.execute.after"](value, value), undefined);
  }
  const lines = await got(6);
  assert.deepEqual(lines.map((line) => [line.seq, line.lost]), [1, 7, 8, 9, 10, 11].map((seq) => [seq, seq > 1 ? 5 : undefined]));
});

test("several directories share one sidecar, and each line carries its own directory", async (t) => {
  const { open, got, starts } = await shim(t);
  const [a, b] = [await open("/a"), await open("/b")];
  a.event(busEvent("session.idle"));
  b.event(busEvent("session.idle"));
  await a.dispose();
  b.event(busEvent("session.idle"));
  a.event(busEvent("session.idle"));
  await b.dispose();
  const lines = await got(7);
  noGap(lines);
  assert.deepEqual(lines.map((line) => `${line.hook} ${line.directory}`), [
    "hello /a", "hello /b", "event /a", "event /b", "bye /a", "event /b", "bye /b",
  ]);
  assert.equal(starts().length, 1);
});

test("two copies of the shim share one sidecar, and only one of them serves a directory", async (t) => {
  const { copy, open, got, starts } = await shim(t);
  const other = await copy();
  const [a, twice, b] = [await open("/a"), await open("/a", {}, other), await open("/b", {}, other)];
  assert.deepEqual(twice, {});
  await Promise.all([a.dispose(), b.dispose()]);
  const again = await open("/a", {}, other);
  assert.ok(again.event);
  const lines = await got(4);
  assert.equal(starts().length, 1);
  noGap(lines.slice(0, 4));
});

test("after dispose the sidecar sees its stdin end, and a new server() starts another instance", async (t) => {
  const { open, got, starts, log } = await shim(t);
  await (await open()).dispose();
  await eventually(() => jsonl(`${log}.starts`).some((entry) => entry.eof), "end of stdin");
  const again = await open();
  await Promise.all([again.dispose(), again.dispose()]);
  const lines = await got(4);
  assert.deepEqual(lines.map((line) => `${line.seq} ${line.hook}`), ["1 hello", "2 bye", "1 hello", "2 bye"]);
  assert.equal(new Set(lines.map((line) => line.instance)).size, 2);
  assert.equal(starts().length, 2);
});

test("a server() that comes while dispose still waits keeps the sidecar", async (t) => {
  const { open, got, starts } = await shim(t, {}, "silent");
  const first = await open("/a");
  const waiting = first.dispose();
  const second = await open("/b");
  await waiting;
  second.event(busEvent("session.idle"));
  noGap(await got(4));
  assert.equal(starts().length, 1);
});

test("dispose waits two seconds for a sidecar that says nothing, and no longer", async (t) => {
  const { open } = await shim(t, {}, "silent");
  const hooks = await open();
  const start = performance.now();
  const late = new Promise((resolve) => setTimeout(resolve, 3000, "late").unref()); // on a busy machine both are later
  assert.equal(await Promise.race([hooks.dispose(), late]), undefined);
  assert.ok(performance.now() - start > 1900);
});

/** A PATH of one folder with the named programs: each is the fake sidecar, or exits at once. */
function programs(folder, names) {
  const bin = path.join(folder, "bin");
  fs.mkdirSync(bin);
  for (const [name, mode] of Object.entries(names)) {
    const body = `#!/bin/sh\nexec "${process.execPath}" "${FAKE}" "${folder}/log.jsonl" ${mode} ${name} "$@"\n`;
    fs.writeFileSync(path.join(bin, name), body, { mode: 0o755 });
  }
  fs.symlinkSync(MKFIFO, path.join(bin, "mkfifo"));
  return bin;
}

const RUN = ["run"];
const ARGS = ["agent-trace-sidecar", "run"];
const UVX = [`agent-trace-sidecar@${VERSION}`, "run"];
const LAUNCH = [
  // what is there, AGENT_TRACE_SIDECAR, option, the program that runs, its arguments
  [{ a: "ack", b: "ack", "agent-trace-sidecar": "ack" }, "a x 'y z'", "b", "a", ["x", "y z"]],
  [{ a: "ack" }, "a", undefined, "a", RUN],
  [{ a: "ack" }, "/absolute/a", undefined, "a", RUN],
  [{ b: "ack", "agent-trace-sidecar": "ack" }, "missing", "b", "b", RUN],
  [{ b: "ack", "agent-trace-sidecar": "ack" }, undefined, ["b", "x y"], "b", ["x y"]],
  [{ b: "ack", "agent-trace-sidecar": "ack" }, undefined, "b agent-trace-sidecar", "b", ARGS],
  [{ "agent-trace-sidecar": "ack", uvx: "ack" }, undefined, undefined, "agent-trace-sidecar", RUN],
  [{ uvx: "ack", python3: "ack" }, "", undefined, "python3", ["-I", "-m", "agent_trace_sidecar", "run"]],
  [{ uvx: "ack" }, "uvx", undefined, "uvx", UVX],
  [{ uvx: "ack" }, "uvx agent-trace-sidecar", undefined, "uvx", UVX],
  [{ uvx: "ack" }, undefined, ["uvx", "--offline", "agent-trace-sidecar", "run"], "uvx", ["--offline", ...UVX]],
  [{ uvx: "ack" }, "uvx agent-trace-sidecar==1 run", undefined, "uvx", ["agent-trace-sidecar==1", "run"]],
];

test("the launch order", async (t) => {
  for (const [names, variable, option, program, args] of LAUNCH) {
    const { folder, open, starts, lines } = await shim(t, { AGENT_TRACE_SIDECAR: undefined });
    process.env.PATH = programs(folder, names);
    if (variable !== undefined) process.env.AGENT_TRACE_SIDECAR = variable.replace("/absolute", process.env.PATH);
    await open("/p", { command: option });
    await eventually(() => lines().length === 1, `${program} gets hello`);
    assert.deepEqual(starts().at(-1).argv.slice(2), [program, ...args]);
    assert.equal(starts().at(-1).cwd, "/"); // never the project
  }
});

const REFUSED = {
  "others may write it": (file) => fs.chmodSync(file, 0o666),
  "a link": (file) => (fs.renameSync(file, `${file}.x`), fs.symlinkSync(`${file}.x`, file)),
  "a pipe": (file) => (fs.unlinkSync(file), execFileSync(MKFIFO, [file])),
  "no JSON": (file) => fs.writeFileSync(file, "{"),
};

test("the command that init has left is run only from a file of our user's own", async (t) => {
  for (const [why, spoil] of [["ours", () => {}], ...Object.entries(REFUSED)]) {
    const { folder, open, starts, state } = await shim(t, { AGENT_TRACE_SIDECAR: undefined });
    process.env.PATH = programs(folder, { own: "ack", python3: "ack" });
    const command = JSON.stringify({ command: [path.join(process.env.PATH, "own"), "run"] });
    fs.mkdirSync(state, { mode: 0o700 });
    fs.writeFileSync(path.join(state, "sidecar.json"), command, { mode: 0o600 });
    spoil(path.join(state, "sidecar.json"));
    await open("/p");
    await eventually(() => starts().length, why);
    assert.equal(starts()[0].argv[2], why === "ours" ? "own" : "python3", why);
  }
});

test("with no sidecar the user is told once, by log and toast, and the state folder keeps it", async (t) => {
  const { folder, open, logged, toasts, failures, starts } = await shim(t, { AGENT_TRACE_SIDECAR: undefined });
  process.env.PATH = programs(folder, { uvx: "ack", python3: "exit" });
  const hooks = await open("/a");
  await eventually(() => logged.length, "a warning");
  assert.equal(starts().length, 3);
  hooks.event(busEvent("session.idle"));
  await hooks.dispose();
  await (await open("/b")).dispose();
  assert.deepEqual(logged.map((body) => [body.service, body.level]), [["agent-trace", "error"]]);
  assert.match(logged[0].message, /^Nothing is recorded: agent-trace-sidecar is not installed here; install it with/);
  assert.deepEqual(toasts.map(({ message, variant }) => [message, variant]), [[logged[0].message, "error"]]);
  assert.deepEqual(failures().map(({ directory, state }) => `${directory} ${state}`).sort(), ["/a missing", "/b missing"]);
});

const refusing = (folder, text, code = 2) => {
  const program = path.join(folder, "refusing");
  fs.writeFileSync(program, `#!/bin/sh\necho '${text}' >&2\nexit ${code}\n`, { mode: 0o755 });
  return program;
};

test("a wrong setting is told in the sidecar's own words, at once, and once more with the next prompt", async (t) => {
  const { folder, open, logged, toasts, failures } = await shim(t);
  const text = "agent-trace-sidecar: AGENT_TRACE_CAPTURE is wrong; postgresql://me:hunter2@db/x is not shown.";
  process.env.AGENT_TRACE_SIDECAR = refusing(folder, text);
  const hooks = await open("/p");
  await eventually(() => toasts.length, "a toast");
  const told = "Nothing is recorded: AGENT_TRACE_CAPTURE is wrong; postgresql://***@db/x is not shown.";
  assert.deepEqual(logged.map(({ message }) => message), [told]);
  for (let i = 0; i < 2; i++) hooks["chat.message"]({ sessionID: "s" }, { message: {}, parts: [] });
  assert.equal(toasts.length, 2);
  const [kept] = failures();
  assert.deepEqual([kept.code, kept.message, kept.directory], [2, told, "/p"]);
  await hooks.dispose();
});

test("a failure is marked as over when the directory records again", async (t) => {
  const { folder, open, failures, plugin, got } = await shim(t);
  const works = process.env.AGENT_TRACE_SIDECAR;
  process.env.AGENT_TRACE_SIDECAR = refusing(folder, "agent-trace-sidecar: no");
  const first = await open("/p");
  await eventually(() => failures().length, "a failure");
  await first.dispose();
  process.env.AGENT_TRACE_SIDECAR = works;
  const second = await open("/p", undefined, plugin);
  await got(1);
  await eventually(() => failures()[0].recovered_at, "a recovery");
  await second.dispose();
});

test("a sidecar that dies again and again after it worked is reported, and its lines are kept", async (t) => {
  const { folder, open, log, failures, toasts, got } = await shim(t);
  const hooks = await open("/p");
  await eventually(() => globalThis[Symbol.for("agent-trace-sidecar/1")].run.sink.proven, "an acknowledgement");
  const [{ pid }] = jsonl(`${log}.starts`);
  fs.renameSync(path.join(folder, "fake-sidecar.mjs"), path.join(folder, "gone"));
  process.kill(pid, "SIGKILL");
  await eventually(() => toasts.length, "a toast");
  assert.equal(failures()[0].state, "failing");
  fs.renameSync(path.join(folder, "gone"), path.join(folder, "fake-sidecar.mjs"));
  hooks.event(busEvent("session.idle"));
  await hooks.dispose();
  noGap(await got(3));
});

test("without a FIFO the lines go through an ordinary pipe", async (t) => {
  const { open, got } = await shim(t, { TMPDIR: "/nowhere" });
  const hooks = await open();
  for (let i = 0; i < 3000; i++) hooks.event(busEvent("session.idle", { text: "x".repeat(1000) }));
  await hooks.dispose();
  noGap(await got(3002));
});

test("AGENT_TRACE_LOG_DIR gets one file per process, rotated by size, finished files marked", async (t) => {
  const { open, folder, starts } = await shim(t);
  const dir = (process.env.AGENT_TRACE_LOG_DIR = path.join(folder, "logs"));
  const [a, b] = [await open("/a"), await open("/b")];
  for (let i = 0; i < 5; i++) a.event(busEvent("session.idle", { text: "x".repeat(15 * 2 ** 20) }));
  const names = fs.readdirSync(dir).sort();
  const instance = names[0].split(".")[0];
  assert.deepEqual(names, [`${instance}.1.done.jsonl`, `${instance}.2.jsonl`]);
  assert.equal(fs.statSync(path.join(dir, names[1])).mode & 0o777, 0o600);
  await Promise.all([a.dispose(), b.dispose()]);
  assert.deepEqual(fs.readdirSync(dir).sort(), [`${instance}.1.done.jsonl`, `${instance}.2.done.jsonl`]);
  const lines = [1, 2].flatMap((n) => jsonl(path.join(dir, `${instance}.${n}.done.jsonl`)));
  noGap(lines);
  assert.equal(lines.length, 9);
  assert.deepEqual(starts(), []);
});

test("a log folder that cannot be made costs one warning", async (t) => {
  const { open, logged } = await shim(t, { AGENT_TRACE_LOG_DIR: "/proc/nowhere" });
  const hooks = await open();
  hooks.event(busEvent("session.idle"));
  await hooks.dispose();
  assert.equal(logged.length, 1);
});

/** Runs `body` in a Node of its own, which has `hooks` and `hooks2`; returns how it ended. */
function host(t, log, mode, body) {
  const script = `
    import plugin from ${JSON.stringify(SHIM)};
    const hooks = await plugin.server({ client: {}, directory: "/p", worktree: "/p" });
    const idle = (text) => hooks.event({ event: { type: "session.idle", properties: { text } } });
    ${body}`;
  const env = { ...process.env, AGENT_TRACE_SIDECAR: `${process.execPath} ${FAKE} ${log} ${mode}` };
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { env, stdio: ["ignore", "pipe", "pipe"] });
  t.after(() => child.kill("SIGKILL"));
  let printed = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (printed += chunk));
  return new Promise((resolve) => child.on("close", (code, signal) => resolve({ code, signal, printed })));
}

test("nothing is printed, and nothing of ours keeps a host alive that does not dispose", async (t) => {
  for (const mode of ["ack", "silent", "exit", "die"]) {
    const { log } = await shim(t);
    const end = await host(t, log, mode, `idle("x"); await new Promise((resolve) => setTimeout(resolve, 400));`);
    assert.deepEqual(end, { code: 0, signal: null, printed: "" }, mode);
  }
});

test("what the pipe has taken survives a kill -9 of the host in the same tick", async (t) => {
  const { log, got } = await shim(t);
  const started = `import fs from "node:fs"; while (!fs.existsSync(${JSON.stringify(log)})) await new Promise(setImmediate);`;
  // As many as a pipe holds, since a busy machine lets nobody read it meanwhile.
  const body = `${started} for (let i = 0; i < 50; i++) idle("x".repeat(300)); process.kill(process.pid, "SIGKILL");`;
  const end = await host(t, log, "ack", body);
  assert.equal(end.signal, "SIGKILL");
  noGap(await got(51));
});
