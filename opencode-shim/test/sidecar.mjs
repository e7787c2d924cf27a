// A sidecar that writes what it reads to a file and acknowledges it: node sidecar.mjs LOG [MODE].
// MODE: ack | silent | drain-late (reads nothing until it is told by LOG.go) | exit (code 3 at once) | die (once)
import fs from "node:fs";

const [log, mode = "ack"] = process.argv.slice(2);
const note = (entry) => fs.appendFileSync(`${log}.starts`, `${JSON.stringify({ pid: process.pid, ...entry })}\n`);
note({ argv: process.argv.slice(2), cwd: process.cwd(), fromHost: process.env.FROM_HOST });
const firstStart = fs.readFileSync(`${log}.starts`, "utf8").trim().split("\n").length === 1;
if (mode === "exit") process.exit(3);

let chunks = [];
const read = () =>
  process.stdin.on("data", (chunk) => {
    chunks.push(chunk);
    if (!chunk.includes(10)) return;
    const lines = Buffer.concat(chunks).toString().split("\n");
    chunks = [Buffer.from(lines.pop())];
    fs.appendFileSync(log, lines.map((line) => `${line}\n`).join(""));
    if (mode === "die" && firstStart) process.kill(process.pid, "SIGKILL"); // read, not acknowledged
    if (mode !== "silent" && lines.length) console.log(JSON.stringify({ ack: JSON.parse(lines.at(-1)).seq }));
  });
process.stdin.on("end", () => note({ eof: true }));
if (mode === "drain-late") {
  const wait = setInterval(() => fs.existsSync(`${log}.go`) && (clearInterval(wait), read()), 20);
} else read();
