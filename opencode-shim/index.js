/**
 * Forwards OpenCode's hooks and events to the agent-trace sidecar, one JSON line per hook, and interprets nothing:
 *
 *   hook -> FORWARDED (the only filter) -> Run.send (id, seq, JSON) -> Sidecar.push (kept until acknowledged) -> FIFO
 *                                                              or LogFolder.push (AGENT_TRACE_LOG_DIR) -> file
 *
 * No hook throws, rejects, prints or waits: OpenCode awaits hooks without a time-out, and its screen is our stdout. Only
 * `dispose` waits, at most DISPOSE_WAIT_MS. No timer and no child of ours keeps OpenCode alive. We write to a FIFO by
 * writeSync, non-blocking: the kernel has a line before its hook returns (a stream would keep most of a burst in memory,
 * where kill -9 takes it), and a full pipe answers EAGAIN instead of making the hook wait.
 *
 * When nothing can be recorded, the user learns why: in OpenCode's log, by a toast, and in the state folder, where
 * `agent-trace-sidecar status` reads it (OpenCode 2 gives its plugins neither log nor toast).
 */
import { spawn } from "node:child_process";
import { createHash, randomFillSync } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

const SHIM_VERSION = "0.3.0";
const KEEP_MAX_BYTES = 32 * 2 ** 20; // of lines not acknowledged: what a dead sidecar may cost OpenCode in memory
const LINE_MAX_BYTES = 16 * 2 ** 20; // one line must not take the room of all others
const PUMP_MAX_BYTES = 2 ** 20; // written in one go, so that sending again never holds up a hook for long
const STRING_MAX_CHARS = 2 ** 16; // a longer line is encoded once, not again each time that the pipe takes nothing
const PUMP_RETRY_MS = [1, 20]; // after a pipe that took something, or nothing
const LOG_FILE_MAX_BYTES = 64 * 2 ** 20;
const DISPOSE_WAIT_MS = 2000;
const BACKOFF_MIN_MS = 250;
const BACKOFF_MAX_MS = 30_000;
const ATTEMPTS = 3; // exits in a row after which a command that never acknowledged anything counts as not working
const STDERR_MAX_CHARS = 2000; // kept of what a sidecar prints last: the reason why it ended
const STDERR_WAIT_MS = 200; // for that, when the exit is known first
const SILENT_MS = 30_000; // without one acknowledgement after which a command counts as not working
const CONFIG_MAX_BYTES = 256 * 1024; // of git's configuration
const FAILURE_KEEP_MS = 30 * 86_400_000;
const REPORTED_MAX = 20; // messages to the user in one process
const PROGRAM = "agent-trace-sidecar";

// A bus event is sent when its row allows it; a part when it is final. The text of a prompt has no `time`.
const always = () => true;
const PARTS = {
  tool: ({ state }) => state.status === "pending" || state.status === "completed" || state.status === "error",
  text: ({ time }) => !time || time.end !== undefined,
  reasoning: ({ time }) => time?.end !== undefined,
  "step-start": always,
  "step-finish": always,
  patch: always,
};
const FORWARDED = new Map(
  `session.created session.updated session.deleted session.error session.idle session.compacted message.updated
   message.removed message.part.removed command.executed file.edited todo.updated vcs.branch.updated permission.asked
   permission.replied`.split(/\s+/).map((type) => [type, always]),
);
// OpenCode 2 names them anew. Its hooks report calls; only those that the provider itself runs pass no hook.
const FORWARDED_2 = new Map(
  `session.created session.deleted session.renamed session.forked session.moved session.agent.selected
   session.model.selected session.input.admitted session.input.promoted session.inbox.enqueued session.inbox.delivered
   session.inbox.cancelled session.synthetic session.execution.started session.execution.succeeded
   session.execution.failed session.execution.interrupted session.step.started session.step.ended session.step.failed
   session.text.ended session.reasoning.ended session.tool.input.started session.shell.started session.shell.ended
   session.skill.activated session.compaction.ended session.compaction.failed session.retry.scheduled
   session.revert.staged session.revert.cleared session.revert.committed session.message.content.updated
   session.metadata.updated session.usage.updated shell.created shell.exited file.edited todo.updated
   vcs.branch.updated permission.asked permission.replied permission.rejected form.created form.replied form.cancelled`
    .split(/\s+/)
    .map((type) => [type, always]),
);
FORWARDED_2.set("session.tool.progress", ({ metadata }) => metadata?.shellID !== undefined);
// What is known and left out: no news for anybody. Any other type is counted, so that a new OpenCode's are noticed.
const LEFT_OUT = new Set(
  `message.part.delta session.status session.diff session.text.started session.text.delta session.reasoning.started
   session.reasoning.delta session.tool.input.ended session.tool.input.delta session.tool.called session.tool.success
   session.tool.failed session.tool.progress session.step.streamed session.instructions.updated
   session.inbox.delivery.changed session.compaction.started session.compaction.delta session.usage.recorded
   agent.updated catalog.updated command.updated config.updated file.watcher.updated global.disposed
   installation.updated installation.update-available integration.updated location.shutdown lsp.updated
   lsp.client.diagnostics
   mcp.browser.open.failed mcp.prompts.changed mcp.resources.changed mcp.status.changed mcp.tools.changed model.updated
   permission.updated plugin.added plugin.updated project.directories.updated project.updated provider.updated
   pty.created pty.deleted pty.exited pty.updated question.asked question.rejected question.replied reference.updated
   server.connected server.heartbeat server.instance.disposed skill.updated tui.command.execute tui.prompt.append
   tui.session.select tui.toast.show websearch.updated workspace.failed workspace.ready workspace.status
   worktree.failed worktree.ready`.split(/\s+/),
);
for (const end of ["called", "success", "failed"]) FORWARDED_2.set(`session.tool.${end}`, (data) => data.executed);
FORWARDED.set("message.part.updated", ({ part }) => Object.hasOwn(PARTS, part.type) && PARTS[part.type](part));

const quietly = (work) => {
  try {
    return work();
  } catch {
    return undefined;
  }
};

// UUIDv7 from a pool of random bytes: asking the system for each id would cost more than the rest of the line.
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
const pool = Buffer.alloc(4000);
let used = pool.length;
function uuid7(now) {
  if (used === pool.length) [used] = [0, randomFillSync(pool)];
  const time = now.toString(16).padStart(12, "0");
  const b = (index) => HEX[pool[used + index]];
  const variant = HEX[(pool[used + 2] & 0x3f) | 0x80];
  const tail = `${b(4)}${b(5)}${b(6)}${b(7)}${b(8)}${b(9)}`;
  const id = `${time.slice(0, 8)}-${time.slice(8)}-7${b(0)[1]}${b(1)}-${variant}${b(3)}-${tail}`;
  used += 10;
  return id;
}

/** The absolute path of an executable, looked up as a shell does, except that a relative entry of PATH never counts. */
function which(name) {
  const folders = name.includes("/") ? [process.cwd()] : (process.env.PATH ?? "").split(":").filter(path.isAbsolute);
  const runs = (file) => quietly(() => (fs.accessSync(file, fs.constants.X_OK), fs.statSync(file).isFile()));
  return folders.map((folder) => path.resolve(folder, name)).find(runs);
}

/** A command as words: an array, one absolute path, or a quoted string; one that just names the sidecar gets `run`. */
function words(command) {
  const isFile = !Array.isArray(command) && path.isAbsolute(command) && fs.existsSync(command);
  const whole = isFile ? [command] : Array.isArray(command) ? command : undefined;
  const parts = whole ?? command.match(/(?:[^\s"']|"[^"]*"|'[^']*')+/g);
  const argv = whole ?? parts.map((part) => part.replace(/"([^"]*)"|'([^']*)'/g, "$1$2"));
  if (path.basename(argv[0]) === "uvx") return pinned(argv);
  return argv.length === 1 || /(^|\/)agent[-_]trace[-_]sidecar$/.test(argv.at(-1)) ? [...argv, "run"] : argv;
}

/** The sidecar's state folder, by the same rule as in its own settings. */
const STATE_FOLDER = (({ AGENT_TRACE_STATE_DIR, XDG_STATE_HOME, HOME }) => {
  const base = XDG_STATE_HOME || path.join(HOME || os.homedir(), ".local", "state");
  return path.resolve("/", AGENT_TRACE_STATE_DIR?.trim() || path.join(base, PROGRAM));
})(process.env);

/** The text of a regular file; a pipe of its name makes nobody wait. */
function readSmall(file) {
  const { O_RDONLY, O_NONBLOCK, S_IFMT, S_IFREG } = fs.constants;
  const fd = fs.openSync(file, O_RDONLY | O_NONBLOCK);
  try {
    const { mode, size } = fs.fstatSync(fd);
    if ((mode & S_IFMT) !== S_IFREG || size > CONFIG_MAX_BYTES) throw new Error(`${file} is not read`);
    return fs.readFileSync(fd, "utf8");
  } finally {
    fs.closeSync(fd);
  }
}

// Which repositories are recorded: AGENT_TRACE_REPOSITORIES, read as the sidecar's workspace/repository_rules.py reads it.
const RULES_HOW =
  "give paths (/work, ~/private) or URLs (github.com/acme, https://gitlab/acme), with ! before what is denied";
const SCHEME = /^([a-z][a-z0-9+.-]*):\/\/([^/]*)(.*)$/is;
const SCP = /^(?:[^/@]*@)?([^/:]+):(.*)$/s;

const pathName = (name) => path.posix.normalize(name).replace(/^\/*/, "/").replace(/\/+$/, "");

const urlName = (name) =>
  name.replace(/\/{2,}/g, "/").replace(/\/+$/, "").toLowerCase().replace(/\.git$/, "").replace(/\/+$/, "");

/** The one form of a remote's URL: `host/path` in small letters, or an absolute path, relative ones below `base`. */
function canonical(name, base = "/") {
  const scheme = SCHEME.exec(name);
  const scp = scheme ? undefined : SCP.exec(name);
  if (scheme?.[1].toLowerCase() === "file" || (!scheme && !scp)) {
    return pathName(path.posix.resolve(base, scheme ? scheme[3] : name));
  }
  const host = scheme?.[2].slice(scheme[2].lastIndexOf("@") + 1).replace(/:\d*$/, "");
  return urlName(scheme ? `${host}/${scheme[3].replace(/[?#].*$/s, "")}` : `${scp[1]}/${scp[2]}`);
}

/** Matches a name, and whatever lies below it. */
function matcher(pattern) {
  const wildcards = { "**/": "(?:.*/)?", "**": ".*", "*": "[^/]*" };
  const literal = (part) => part.replace(/[^\w/]/g, (character) => `\\u{${character.codePointAt(0).toString(16)}}`);
  const body = pattern.split(/(\*\*\/|\*\*|\*)/).map((part) => wildcards[part] ?? literal(part));
  const found = new RegExp(`^${body.join("")}(?:/.*)?$`, "su");
  return (name) => found.test(name);
}

const realPath = (file) => quietly(() => fs.realpathSync.native(file)) ?? file;

/** A path with the links before its first wildcard resolved. */
function resolvedPattern(pattern) {
  const segments = pattern.split("/");
  const at = segments.findIndex((segment) => segment.includes("*"));
  const plain = at < 0 ? segments.length : at;
  return [realPath(segments.slice(0, plain).join("/") || "/"), ...segments.slice(plain)].join("/");
}

/** One pattern: what it denies or allows, and what it matches; throws a sentence where it can't be read. */
function rule(entry) {
  const [, bang, pattern] = /^(!?)\s*(.*?)$/s.exec(entry.trim());
  const denies = bang === "!";
  if (!pattern || pattern.length > 1000) throw new Error(`a pattern is ${pattern ? "too long" : "empty"}: ${RULES_HOW}.`);
  const odd = /[?[\]{}\\]/.exec(pattern);
  if (odd) {
    throw new Error(`'${pattern}' has '${odd[0]}': the wildcards are * (within a segment) and ** (across /).`);
  }
  if (pattern === "*" || pattern === "**") return { denies, matches: [() => true] };
  if (/^(\/|~\/|~$)/.test(pattern)) {
    const whole = pattern.replace(/^~/, () => process.env.HOME || os.homedir());
    return { denies, matches: [whole, resolvedPattern(whole)].map((form) => matcher(pathName(form))) };
  }
  const [first] = pattern.split("/", 1);
  const isNamed = SCHEME.test(pattern) || SCP.test(pattern);
  if (!isNamed && (/^\.\.?$/.test(first) || !/[.*]/.test(first))) {
    throw new Error(`'${pattern}' is neither a path nor a URL: ${RULES_HOW}.`);
  }
  return { denies, isUrl: true, matches: [matcher(isNamed ? canonical(pattern) : urlName(pattern))] };
}

/** The URLs of all remotes of the repository around a folder; throws where they can't be read. */
function remoteUrls(folder) {
  let root = folder;
  let entry;
  while (!(entry = fs.statSync(path.join(root, ".git"), { throwIfNoEntry: false }))) {
    if (root === path.dirname(root)) return [];
    root = path.dirname(root);
  }
  const own = path.join(root, ".git");
  const git = entry.isDirectory() ? own : path.resolve(root, /^gitdir: (.*)/.exec(readSmall(own))[1].trim());
  const pointer = path.join(git, "commondir");
  const common = fs.existsSync(pointer) ? path.resolve(git, readSmall(pointer).trim()) : git;
  const urls = [];
  let isRemote = false;
  for (const line of readSmall(path.join(common, "config")).split("\n")) {
    const section = /^\s*\[\s*([\w.-]*)[^\]"]*(?:"(?:[^"\\]|\\.)*")?\s*\]?/.exec(line);
    if (section) isRemote = /^remote(\.|$)/i.test(section[1]);
    const url = /^\s*(?:push)?url\s*=\s*"?([^"\s;#]+)/i.exec(section ? line.slice(section[0].length) : line);
    if (isRemote && url) urls.push(canonical(url[1], root));
  }
  return urls;
}

/** Whether a directory is to be recorded; it is read once, when OpenCode opens it. Throws where a pattern is wrong. */
function isRecorded(directory, worktree) {
  const text = process.env.AGENT_TRACE_REPOSITORIES?.trim();
  if (!text) return true;
  const rules = text.split(",").map(rule);
  const places = [directory, worktree].filter((place) => typeof place === "string" && place);
  const names = [...places, ...places.map(realPath)].map(pathName);
  const root = places.find((place) => place !== "/");
  const urls = root ? quietly(() => remoteUrls(root)) : [];
  if (!urls && rules.some(({ isUrl }) => isUrl)) return false; // a file that can't be read may name what is denied
  names.push(...(urls ?? []));
  const has = ({ matches }) => names.some((name) => matches.some((match) => match(name)));
  const allowing = rules.filter(({ denies }) => !denies);
  return !rules.some((one) => one.denies && has(one)) && (!allowing.length || allowing.some(has));
}

/** How to start the sidecar that `init` was run from, for when none is on PATH; only from a file that is our user's. */
function installed() {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants; // nor does a pipe of that name make OpenCode wait
  const fd = fs.openSync(path.join(STATE_FOLDER, "sidecar.json"), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const { uid, mode, size } = fs.fstatSync(fd);
    const isOurs = uid === process.getuid() && (mode & 0o170022) === fs.constants.S_IFREG;
    return isOurs && size < 65_536 ? JSON.parse(fs.readFileSync(fd, "utf8")).command : undefined;
  } finally {
    fs.closeSync(fd);
  }
}

/** `uvx` fetches a program by its name: only when it is named as the command, and then of this very version. */
function pinned(argv) {
  const whole = argv.length === 1 ? [...argv, "agent-trace-sidecar", "run"] : argv;
  const at = whole.indexOf("agent-trace-sidecar");
  return [...whole.map((word, i) => (i === at ? `${word}@${SHIM_VERSION}` : word)), ...(at === whole.length - 1 ? ["run"] : [])];
}

/** The launch order. None starts in the project's folder, whose files it might import, read or run. */
function launchOrder(option) {
  const given = [process.env.AGENT_TRACE_SIDECAR, option].filter((command) => command?.length);
  return [
    ...given.map((command) => ({ argv: quietly(() => words(command)) })),
    { argv: ["agent-trace-sidecar", "run"] },
    { argv: quietly(installed) },
    { argv: ["python3", "-I", "-m", "agent_trace_sidecar", "run"], isGuess: true },
  ]
    .map(({ argv, isGuess }) => ({ file: quietly(() => which(argv[0])), args: argv?.slice(1), isGuess }))
    .filter(({ file }) => file);
}

const INSTALL = `install it with \`uv tool install ${PROGRAM}\`, then restart OpenCode`;

/** One sentence with what is wrong and what to do. */
function sentence({ state, command, code, signal, stderr }) {
  const ended = `${path.basename(command ?? "")} ended with ${signal ? `signal ${signal}` : `exit code ${code}`}`;
  const why = stderr ? stderr.replace(`${PROGRAM}: `, "") : `${ended}. Run \`${PROGRAM} doctor\`.`;
  switch (state) {
    case "missing":
      return `Nothing is recorded: ${PROGRAM} is not installed here; ${INSTALL}.`;
    case "stopped":
      return `Nothing is recorded: ${why}`;
    case "failing":
      return `Recording fails and is tried again: ${why}`;
    case "silent":
      return `Nothing is recorded: ${command} does not acknowledge any event. Run \`${PROGRAM} doctor\`.`;
    case "dropping":
      return `Events are dropped: the sidecar takes none. Run \`${PROGRAM} status\`.`;
    default:
      return `Nothing is recorded: ${stderr}`;
  }
}

/** Without a URL's password, control characters and excess length. */
const presentable = (text) =>
  text.replace(/(:\/\/)[^@\s/]*@/g, "$1***@").replace(/[\x00-\x1f\x7f-\x9f]+/g, " ").trim().slice(0, 500);

/** What is known of a directory's failures is one file in the state folder, replaced as a whole. */
function failureFile(directory) {
  const name = createHash("sha256").update(directory).digest("hex").slice(0, 16);
  return path.join(STATE_FOLDER, "failures", `${name}.json`);
}

function replaceFile(file, content) {
  const missing = [];
  for (let folder = path.dirname(file); !fs.existsSync(folder); folder = path.dirname(folder)) missing.unshift(folder);
  for (const folder of missing) fs.mkdirSync(folder, 0o700); // recursive hangs below /proc in Node
  fs.writeFileSync(`${file}.${process.pid}`, content, { mode: 0o600 });
  fs.renameSync(`${file}.${process.pid}`, file);
}

/** Leaves a failure in the state folder for `status`, and removes those that are over. */
function keepFailure(failure, directory) {
  const file = failureFile(directory);
  replaceFile(file, JSON.stringify({ ...failure, directory, opencode: shared.version }));
  for (const name of fs.readdirSync(path.dirname(file))) {
    const other = path.join(path.dirname(file), name);
    if (fs.statSync(other).mtimeMs < Date.now() - FAILURE_KEEP_MS) fs.unlinkSync(other);
  }
}

/** Notes that this directory records again; what was lost before stays known for a while. */
function keepRecovery(directory) {
  const file = failureFile(directory);
  const failure = quietly(() => JSON.parse(fs.readFileSync(file, "utf8")));
  if (failure && !failure.recovered_at) replaceFile(file, JSON.stringify({ ...failure, recovered_at: Date.now() }));
}

/**
 * Reports to the user what keeps this process from recording: each cause once, and once more with the next prompt,
 * because a toast at the start of a process may go unseen. `shared.failure` is the present one.
 */
const problems = {
  failed(failure) {
    const full = { at: Date.now(), ...failure, stderr: presentable(failure.stderr ?? "") };
    shared.failure = { ...full, message: presentable(sentence(full)) };
    for (const directory of shared.served.keys()) this.keep(directory);
    this.report(shared.failure.message, "error");
  },

  keep(directory) {
    if (shared.failure) quietly(() => keepFailure(shared.failure, directory));
  },

  recovered() {
    shared.failure = undefined;
    for (const directory of shared.served.keys()) quietly(() => keepRecovery(directory));
  },

  report(message, level, time = "first") {
    if (shared.reported.has(`${time} ${message}`) || shared.reported.size >= REPORTED_MAX) return;
    shared.reported.add(`${time} ${message}`);
    for (const speak of shared.speakers.values()) quietly(() => speak(message, level));
  },

  remind() {
    if (shared.failure) this.report(shared.failure.message, "error", "again");
  },
};

/** Calls back with both ends of a FIFO that has no name any more, or with nothing where none can be made. */
function openFifo(done) {
  const { O_RDONLY, O_WRONLY, O_NONBLOCK } = fs.constants;
  const name = path.join(os.tmpdir(), `agent-trace-${uuid7(Date.now())}`);
  const made = (code) => {
    const opener = code === 0 && quietly(() => fs.openSync(name, O_RDONLY | O_NONBLOCK)); // or `both` would wait
    const both = () => ({ write: fs.openSync(name, O_WRONLY | O_NONBLOCK), read: fs.openSync(name, O_RDONLY) });
    const ends = opener && quietly(both);
    if (opener) fs.closeSync(opener);
    quietly(() => fs.unlinkSync(name));
    done(ends || undefined);
  };
  const maker = quietly(() => spawn(which("mkfifo"), ["-m", "600", name], { stdio: "ignore" }));
  if (maker) maker.on("error", () => {}).on("close", made).unref();
  else done(undefined);
}

/** Closes one end. Closing a descriptor twice would close what OpenCode has opened since, so it is forgotten first. */
function shut(fifo, end) {
  const fd = fifo?.[end];
  if (fd === undefined) return;
  fifo[end] = undefined;
  quietly(() => fs.closeSync(fd));
}

/** The last line that a sidecar prints to stderr. Its warnings, which start with the program's name, are passed on. */
function lastLine(stream) {
  const last = { text: "", ended: !stream };
  let partial = "";
  const take = (lines) => {
    for (const line of lines.map((each) => each.trim()).filter(Boolean)) {
      last.text = line.slice(-STDERR_MAX_CHARS);
      if (line.startsWith(`${PROGRAM}: warning: `)) problems.report(presentable(line), "warn");
    }
  };
  stream?.on("error", () => {}).on("data", (chunk) => {
    const lines = (partial + chunk).split("\n");
    partial = lines.pop().slice(-STDERR_MAX_CHARS);
    take(lines);
  });
  stream?.on("end", () => [take([partial]), (last.ended = true)]);
  stream?.unref?.();
  return last;
}

/** One sidecar at a time, restarted when it dies, and the lines that it has not acknowledged yet. */
class Sidecar {
  // Of {seq, line, bytes}: the first `sent`, and `offset` bytes of the next, are in the pipe of the present sidecar. A
  // line stays a string as long as it can: in Bun a Buffer makes work for the garbage collector, more than all of the hook.
  kept = [];
  keptBytes = 0;
  sent = 0;
  offset = 0;
  pipe = undefined; // while a sidecar runs: write() returns how many bytes were taken
  retry = undefined;
  waiting = [];
  ending = false;
  dead = false; // nothing can be delivered any more
  attempt = 0;
  failures = 0;
  proven = false; // the present command has acknowledged something: it is never given up
  cause = undefined; // how the first command that did not work ended
  recovering = true; // the next acknowledgement shows that this process records

  constructor(option) {
    this.commands = launchOrder(option);
    this.start();
  }

  /** False: given up. The oldest lines stay, so that what the next sidecar gets has its gap at the end. */
  push(seq, line) {
    const bytes = Buffer.byteLength(line);
    if (bytes > LINE_MAX_BYTES) return false;
    if (this.keptBytes + bytes > KEEP_MAX_BYTES) {
      if (!shared.failure) this.fail({ state: "dropping" });
      return false;
    }
    this.kept.push({ seq, bytes, line: line.length > STRING_MAX_CHARS ? Buffer.from(line) : line });
    this.keptBytes += bytes;
    this.pump();
    return true;
  }

  start() {
    if (!this.commands.length) return this.stop();
    openFifo((fifo) => {
      const { file, args } = this.commands[0];
      const stdio = [fifo?.read ?? "pipe", "pipe", "pipe"];
      const child = quietly(() => spawn(file, args, { stdio, cwd: "/", detached: true }));
      const stderr = lastLine(child?.stderr);
      const silent = setTimeout(() => this.silent(), SILENT_MS).unref();
      let over = false;
      const onEnd = (code, signal) => {
        if (over) return;
        over = true;
        clearTimeout(silent);
        shut(fifo, "read"); // until now it kept a write to a dying sidecar from raising
        shut(fifo, "write");
        this.ended(code, signal, stderr.text);
      };
      const onExit = (code, signal) => {
        if (code === 0 || stderr.ended) return onEnd(code, signal);
        setTimeout(() => onEnd(code, signal), STDERR_WAIT_MS).unref(); // 'close' may wait for a grandchild's end
      };
      if (!child?.stdout) return onEnd(-1, null);
      child.on("error", () => onEnd(-1, null)).on("exit", onExit).on("close", onEnd).unref();
      child.stdin?.on("error", () => {}).unref?.();
      let partial = "";
      child.stdout.on("error", () => {}).on("data", (chunk) => {
        const lines = (partial + chunk).split("\n");
        partial = lines.pop().slice(-4096); // bounded, should a line never end
        if (!over) for (const line of lines) this.acknowledged(quietly(() => JSON.parse(line).ack));
      });
      child.stdout.unref?.();
      const write = (line, offset) => (offset ? fs.writeSync(fifo.write, line, offset) : fs.writeSync(fifo.write, line));
      const toFifo = (line, offset) => quietly(() => write(line, offset)); // EAGAIN: nothing taken
      const toStream = (line) => (child.stdin.write(line), Buffer.byteLength(line));
      if (fifo) this.pipe = { write: toFifo, close: () => shut(fifo, "write") };
      else this.pipe = { write: toStream, close: () => void child.stdin.end() };
      this.pump();
    });
  }

  /** Writes what the pipe takes now; the rest is tried again soon. */
  pump() {
    let room = PUMP_MAX_BYTES;
    while (this.pipe && room > 0 && this.sent < this.kept.length) {
      const next = this.kept[this.sent];
      const bytes = this.pipe.write(next.line, this.offset);
      if (!bytes) break;
      room -= bytes;
      this.offset += bytes;
      if (this.offset === next.bytes) [this.sent, this.offset] = [this.sent + 1, 0];
      else if (typeof next.line === "string") next.line = Buffer.from(next.line); // the rest begins at a byte
    }
    if (this.pipe && this.sent < this.kept.length) {
      const again = () => [(this.retry = undefined), this.pump()];
      this.retry ??= setTimeout(again, PUMP_RETRY_MS[room < PUMP_MAX_BYTES ? 0 : 1]).unref();
    } else if (this.ending) {
      this.pipe = this.pipe?.close();
    }
  }

  acknowledged(seq) {
    if (!Number.isSafeInteger(seq)) return;
    let count = 0;
    while (count < this.sent && this.kept[count].seq <= seq) this.keptBytes -= this.kept[count++].bytes;
    this.kept.splice(0, count);
    this.sent -= count;
    [this.attempt, this.failures, this.proven] = [0, 0, true];
    if (this.recovering) problems.recovered();
    this.recovering = false;
    this.settle();
    this.pump();
  }

  ended(code, signal, stderr) {
    [this.pipe, this.sent, this.offset] = [undefined, 0, 0];
    if (this.ending && (code === 0 || !this.kept.length)) return this.stop();
    const { file, isGuess } = this.commands[0];
    const failure = { command: file, code, signal, stderr };
    if (!this.proven && !isGuess) this.cause ??= failure;
    this.failures++;
    let wait = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** this.attempt++) * (0.5 + Math.random() / 2);
    if (!this.proven && code === 2 && stderr.startsWith(`${PROGRAM}: `)) {
      [this.commands, this.cause, wait] = [[], failure, 0]; // a wrong setting is wrong for all of them
    } else if (!this.proven && !signal && this.failures >= ATTEMPTS) {
      this.commands.shift();
      [this.attempt, this.failures, wait] = [0, 0, 0];
    } else if (this.ending || this.failures >= ATTEMPTS) {
      this.fail({ state: this.ending ? "stopped" : "failing", ...failure });
    }
    if (!this.commands.length) return this.stop();
    setTimeout(() => this.start(), wait).unref();
  }

  silent() {
    if (!this.proven && this.sent) this.fail({ state: "silent", command: this.commands[0].file });
  }

  fail(failure) {
    this.recovering = true;
    problems.failed(failure);
  }

  /** No command works, or the last sidecar has ended as it should. */
  stop() {
    const [next] = this.commands; // only a command that has ended with success is still there
    if (next && this.kept.length) this.fail({ state: "silent", command: next.file });
    else if (!next) this.fail({ state: this.cause ? "stopped" : "missing", ...this.cause });
    [this.dead, this.kept, this.keptBytes] = [true, [], 0];
    this.settle();
  }

  settle() {
    const first = this.kept[0]?.seq ?? Infinity;
    this.waiting = this.waiting.filter(({ seq, resolve }) => first <= seq || resolve());
  }

  /** Resolves when the line `seq` is acknowledged or given up, at the latest after DISPOSE_WAIT_MS. */
  drained(seq) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, DISPOSE_WAIT_MS);
      this.waiting.push({ seq, resolve: () => (clearTimeout(timer), resolve()) });
      this.settle();
    });
  }

  end() {
    this.ending = true;
    this.pump();
  }
}

/** Appends to `<instance>.<n>.jsonl`, one write per line, for an `agent-trace-sidecar tail` that follows the folder. */
class LogFolder {
  number = 0;
  bytes = 0;
  fd = undefined;

  constructor(folder, instance) {
    Object.assign(this, { folder, instance });
  }

  push(_seq, line) {
    const size = Buffer.byteLength(line);
    if (this.bytes && this.bytes + size > LOG_FILE_MAX_BYTES) this.end();
    try {
      if (this.fd === undefined) quietly(() => fs.mkdirSync(this.folder, 0o700)); // recursive hangs below /proc in Node
      this.fd ??= fs.openSync(this.file(++this.number, ".jsonl"), "ax", 0o600);
      const bytes = fs.writeSync(this.fd, line);
      this.bytes += bytes;
      if (this.bytes === bytes) problems.recovered(); // the first line of a file
      if (bytes < size) this.end(); // the disk is full: the cut line is a file's last, the next one starts whole
      return bytes === size;
    } catch (error) {
      const stderr = `the folder of AGENT_TRACE_LOG_DIR can't be written: ${error.message}.`;
      if (!shared.failure) problems.failed({ state: "folder", stderr });
      return false;
    }
  }

  file = (number, ending) => path.join(this.folder, `${this.instance}.${number}${ending}`);

  drained = async () => {};

  end() {
    if (this.fd === undefined) return;
    quietly(() => fs.closeSync(this.fd));
    quietly(() => fs.renameSync(this.file(this.number, ".jsonl"), this.file(this.number, ".done.jsonl")));
    [this.fd, this.bytes] = [undefined, 0];
  }
}

/** From the first directory that OpenCode opens to the last it closes: one instance, one numbering, one sidecar. */
class Run {
  directories = 0;
  instance = uuid7(Date.now());
  seq = 0;
  lost = 0;

  constructor(option) {
    const folder = process.env.AGENT_TRACE_LOG_DIR;
    this.sink = folder ? new LogFolder(folder, this.instance) : new Sidecar(option);
  }

  /** A line that cannot be made or kept leaves a gap in `seq`; the lines after it count those lost so far. */
  send(place, hook, input, output) {
    if (this.sink.dead) return;
    const at = Date.now();
    const seq = ++this.seq;
    try {
      let line = `{"v":1,"id":"${uuid7(at)}","seq":${seq},"at":${at},"instance":"${this.instance}"`;
      line += `,"hook":"${hook}",${place}`;
      if (this.lost) line += `,"lost":${this.lost}`;
      if (input !== undefined) line += `,"input":${JSON.stringify(input) ?? null}`;
      if (output !== undefined) line += `,"output":${JSON.stringify(output) ?? null}`;
      if (!this.sink.push(seq, `${line}}\n`)) this.lost++;
    } catch {
      this.lost++; // a BigInt, a cycle, a getter that throws, a string past the engine's limit
    }
  }

  async leave() {
    this.directories--;
    await this.sink.drained(this.seq);
    if (this.directories || shared.run !== this) return; // OpenCode may have opened a directory while we waited
    shared.run = undefined;
    this.sink.end();
  }
}

// Every project may have its own copy of this file, and OpenCode loads each as a module of its own: what there must be
// one of per process is therefore global. `owners` has the copy that serves a directory, so that a second one (in the
// user's configuration, say) does not send everything twice.
const shared = (globalThis[Symbol.for("agent-trace-sidecar/1")] ??= {
  owners: new Map(),
  served: new Map(), // directories, and how often: until their last lines are delivered, also after they were given back
  speakers: new Map(),
  reported: new Set(),
  denied: false, // whether a directory of this process is not to be recorded
});
const thisCopy = {};

/** OpenCode's version from the npm package that its binary lies in; other ways to install it have no such file. */
function packagedVersion() {
  const file = path.join(path.dirname(process.execPath), "..", "package.json");
  const { name, version } = JSON.parse(fs.readFileSync(file, "utf8"));
  return name.startsWith("opencode-") ? version : undefined;
}

const STRANGERS_MAX = 100;
/** How often a type in neither table has come: reported the first time, and whenever it has doubled. */
const strangers = new Map();
function stranger(type) {
  if (typeof type !== "string" || LEFT_OUT.has(type) || type.startsWith("session.next.")) return undefined;
  if (strangers.size >= STRANGERS_MAX && !strangers.has(type)) return undefined;
  const count = (strangers.get(type) ?? 0) + 1;
  strangers.set(type, count);
  return (count & (count - 1)) === 0 ? { type: type.slice(0, 100), unknown: count } : undefined;
}

/** Whether to record a directory. A pattern that can't be read denies everything, and is reported. */
function allowed(directory, worktree, speak) {
  try {
    if (isRecorded(directory, worktree)) return true;
  } catch (error) {
    shared.served.set(directory, 1);
    if (speak) shared.speakers.set(directory, speak);
    problems.failed({ state: "setting", stderr: `AGENT_TRACE_REPOSITORIES: ${error.message}` });
  }
  shared.denied = true;
  return false;
}

/** Takes a directory for this copy: how to send its lines, and how to give it back. Nothing if another copy has it. */
function enter({ directory, worktree, project }, api, option, speak) {
  if ((shared.owners.get(directory) ?? thisCopy) !== thisCopy) return undefined;
  shared.owners.set(directory, thisCopy);
  if (!allowed(directory, worktree, speak)) return undefined;
  shared.served.set(directory, (shared.served.get(directory) ?? 0) + 1);
  if (speak) shared.speakers.set(directory, speak);
  problems.keep(directory);
  const place =
    (api === 1 ? "" : `"api":${api},`) +
    `"directory":${JSON.stringify(directory) ?? null},"worktree":${JSON.stringify(worktree) ?? null}`;
  const run = (shared.run ??= new Run(option));
  run.directories++;
  let greeted = false;
  let gone = false;
  const hello = () => {
    if (greeted) return;
    greeted = true;
    run.send(place, "hello", { shim: SHIM_VERSION, opencode: shared.version, api, project });
  };
  const send = (hook, input, output) => {
    if (gone) return;
    hello();
    run.send(place, hook, input, output);
  };
  const leave = async () => {
    if (gone) return;
    send("bye");
    gone = true;
    shared.owners.delete(directory);
    shared.speakers.delete(directory);
    await run.leave();
    const still = shared.served.get(directory) - 1;
    if (still) shared.served.set(directory, still);
    else shared.served.delete(directory);
  };
  return { run, hello, send, leave };
}

/** OpenCode 1: hooks by name, and bus events among them. */
function open({ client, project, directory, worktree }, option) {
  const speak = (message, level) => {
    const quiet = (answer) => void Promise.resolve(answer).catch(() => {}); // awaited, OpenCode would wait for itself
    quietly(() => quiet(client.app.log({ body: { service: "agent-trace", level, message } })));
    const variant = level === "warn" ? "warning" : level;
    quietly(() => quiet(client.tui.showToast({ body: { title: "agent-trace", message, variant, duration: 10_000 } })));
  };
  const entered = enter({ directory, worktree, project }, 1, option, speak);
  if (!entered) return shared.failure ? { "chat.message": async () => problems.remind() } : {};
  const { hello, send, leave } = entered;
  const forward = (hook) => (input, output) => send(hook, input, output);
  shared.version ??= quietly(packagedVersion);
  // else hello waits for OpenCode's answer or the first hook, whichever comes first
  const asked = shared.version ? undefined : quietly(() => client._client.get({ url: "/global/health" }));
  if (asked?.then) asked.then((answer) => (shared.version = answer?.data?.version), () => {}).then(hello);
  else hello();
  return {
    event: (input) => {
      const wants = quietly(() => FORWARDED.get(input.event.type));
      const unknown = wants ? undefined : quietly(() => stranger(input.event.type));
      if (unknown) send("event", { event: unknown });
      else if (wants && quietly(() => wants(input.event.properties))) send("event", input);
    },
    "tool.execute.before": forward("tool.execute.before"),
    "tool.execute.after": forward("tool.execute.after"),
    "chat.message": (input, output) => {
      problems.remind();
      send("chat.message", input, output);
    },
    "command.execute.before": forward("command.execute.before"),
    dispose: leave,
  };
}

/** OpenCode 2: hooks are registered, and events of all directories come as one stream. Returns the cleanup. */
async function open2(ctx) {
  const directory = ctx.location?.directory ?? process.cwd();
  const project = ctx.location?.project;
  const place = { directory, worktree: project?.directory ?? directory, project };
  const entered = enter(place, 2, ctx.options?.command);
  if (!entered) return undefined;
  const { run, hello, send, leave } = entered;
  shared.version ??= ctx.app?.version;
  hello();
  const isAlone = () => run.directories === 1 && !shared.denied;
  const sessions = new Set(); // an event without a directory is ours if its session is, or if nobody else is here
  const isOurs = ({ location, data }) => {
    const ours = location ? location.directory === directory : sessions.has(data?.sessionID) || isAlone();
    if (ours && data?.sessionID) sessions.add(data.sessionID);
    return ours;
  };
  const readable = (error) => ({ ...error, message: error.message }); // an Error's message is lost in JSON otherwise
  // A session that was created before this plugin was up is requested; OpenCode does not announce it again.
  const begun = new Set();
  const introduce = (id) => {
    if (!id || begun.has(id)) return;
    begun.add(id);
    const asked = quietly(() => ctx.session.get({ sessionID: id }));
    const tell = (answer) => {
      const info = answer?.data ?? answer;
      const type = info?.time?.created >= performance.timeOrigin - 1000 ? "session.created" : "session.updated";
      if (info?.id === id) send("event", { event: { type, asked: true, properties: { ...info, sessionID: id } } });
    };
    if (asked?.then) asked.then((answer) => quietly(() => tell(answer))).catch(() => {});
  };
  // Durable events of a session are numbered. `skipped` counts those not sent since the last one that was.
  const numbers = new Map();
  const numbered = ({ durable, data }, sent) => {
    const session = durable?.aggregateID ?? data?.sessionID;
    if (durable === undefined) return undefined;
    const before = numbers.get(session) ?? 0;
    numbers.set(session, sent ? 0 : before + 1);
    return before || undefined;
  };
  const forward = (event) => {
    if (!quietly(() => isOurs(event))) return;
    if (event.type === "session.created") begun.add(event.data?.sessionID);
    else introduce(event.data?.sessionID);
    const wants = FORWARDED_2.get(event.type);
    const sent = Boolean(wants && quietly(() => wants(event.data)));
    const skipped = quietly(() => numbered(event, sent));
    if (sent) {
      const { id, type, created, durable, location, data } = event;
      send("event", { event: { id, type, created, durable, skipped, location, properties: data } });
    } else if (!wants) {
      const unknown = stranger(event.type);
      if (unknown) send("event", { event: { ...unknown, properties: { sessionID: event.data?.sessionID } } });
    }
  };
  const hook = (name) => (event) => {
    quietly(() => (sessions.add(event.sessionID), introduce(event.sessionID)));
    quietly(() => send(`tool.${name}`, event.error ? { ...event, error: readable(event.error) } : event));
  };
  const stopping = new AbortController();
  const listen = async () => {
    while (!stopping.signal.aborted) {
      try {
        for await (const event of ctx.event.subscribe({ signal: stopping.signal })) {
          quietly(() => forward(event));
        }
      } catch {
        // OpenCode's server was reloaded: subscribe again
      }
      await new Promise((resolve) => setTimeout(resolve, BACKOFF_MIN_MS).unref());
    }
  };
  void listen();
  const names = ["execute.before", "execute.after"];
  const hooks = names.map((name) => Promise.resolve(quietly(() => ctx.tool.hook(name, hook(name)))).catch(() => {}));
  await Promise.race([Promise.all(hooks), new Promise((resolve) => setTimeout(resolve, DISPOSE_WAIT_MS).unref())]);
  return async () => {
    stopping.abort();
    for (const registered of hooks) registered.then((it) => it?.dispose()).catch(() => {});
    await leave();
  };
}

const disabled = () => /^\s*(false|0|off|no)\s*$/i.test(process.env.AGENT_TRACE_ENABLED ?? "");

export default {
  id: "agent-trace-sidecar",
  /** OpenCode 1.x calls it once per directory. */
  server: async (input, options) => (disabled() ? {} : (quietly(() => open(input, options?.command)) ?? {})),
  /** OpenCode 2.x calls it once per directory; 1.18 does too, with a context that has neither `tool` nor `event`. */
  setup: async (ctx) => {
    const is2 = quietly(() => typeof ctx.tool.hook === "function" && typeof ctx.event.subscribe === "function");
    return is2 && !disabled() ? open2(ctx).catch(() => {}) : undefined;
  },
};
