// The page of a repository: one file at a time, its lines as a list box with one line in the order of tabs.

const AUTHORS = ["ai", "mixed", "human", "unknown"];
const NAMES = { ai: "AI", mixed: "AI, changed by a person", human: "Human", unknown: "Unknown" };
const SHORT = { ai: "AI", mixed: "Mixed", human: "Human", unknown: "" };
const CHUNK = 100; // lines that the browser may leave out together while they are off the screen

const narrow = matchMedia("(max-width: 60rem)");
const byId = (id) => document.getElementById(id);
const list = byId("lines"), form = byId("filters"), detail = byId("detail"), aside = document.querySelector(".detail");
const buttons = new Map([...document.querySelectorAll("button.file")].map((one) => [+one.dataset.file, one]));
let file = null, rows = [], infos = [], current = -1, pinned = -1;

// -- one line ---------------------------------------------------------------------------------------------------

function infosOf(one) {
  // What is known of each line, out of runs of lines alike.
  const found = [];
  for (const [count, who, call, confidence] of one.runs)
    for (let n = 0; n < count; n++) found.push({ who: AUTHORS[who], call, confidence, first: n === 0 });
  return found;
}

const model = (call) => (call.model || "unknown model");
const brief = (name) => (name || "").slice((name || "").lastIndexOf("/") + 1);

function rowOf(number, info) {
  const row = make("div", `row ${info.who}`);
  row.setAttribute("role", "option");
  row.setAttribute("aria-selected", "false");
  row.tabIndex = -1;
  row.dataset.line = number;
  const call = data.calls[info.call];
  const who = info.first ? (call && brief(call.model)) || SHORT[info.who] : "";
  row.append(make("span", "who", who), make("span", "no", number), textOf(number));
  if (info.first && call) row.firstChild.title = model(call);
  if (file.trails[number]) row.classList.add("rewritten");
  return row;
}

function textOf(number) {
  const place = make("span", "text");
  if (!file.text) return place;
  const text = file.text[number - 1], kinds = file.colours && file.colours[number - 1];
  if (!kinds) { place.textContent = text; return place; }
  for (let at = 0, n = 0; n < kinds.length; at += kinds[n], n += 2) {
    const piece = text.slice(at, at + kinds[n]);
    place.append(kinds[n + 1] ? make("span", `t${kinds[n + 1]}`, piece) : piece);
  }
  return place;
}

// -- one file ---------------------------------------------------------------------------------------------------

function open(number, line) {
  const known = file !== data.files[number];
  if (known) {
    file = data.files[number];
    infos = infosOf(file);
    rows = infos.map((info, at) => rowOf(at + 1, info));
    const chunks = [];
    for (let at = 0; at < rows.length; at += CHUNK) {
      const chunk = make("div", "chunk");
      chunk.setAttribute("role", "group");
      chunk.setAttribute("aria-label", `Lines from ${at + 1}`);
      chunk.append(...rows.slice(at, at + CHUNK));
      chunks.push(chunk);
    }
    list.replaceChildren(...chunks);
    list.hidden = false;
    list.scrollTop = 0;
    byId("hint").hidden = true;
    byId("file").textContent = file.path;
    const goto = byId("goto");
    goto.max = rows.length;
    goto.value = "";
    goto.parentElement.hidden = false;
    for (const [at, button] of buttons)
      if (at === number) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    current = pinned = -1;
    paintMatches();
    say(`${file.path}: ${counted(rows.length, "line")}`);
  }
  if (!rows.length) return;
  const target = line || (known ? firstMatch() : current + 1);
  choose(Math.min(Math.max(1, target), rows.length) - 1, { focus: line !== undefined, open: line !== undefined });
}

function sheet(open) {
  // On a narrow screen what is known of a line lies over the page: the page leaves room for it.
  aside.classList.toggle("open", open);
  const height = open && narrow.matches ? `${aside.offsetHeight + 8}px` : "";
  document.documentElement.style.scrollPaddingBottom = document.body.style.paddingBottom = height;
}

function choose(at, { focus = false, open = true } = {}) {
  if (current >= 0) {
    rows[current].tabIndex = -1;
    rows[current].classList.remove("chosen");
    rows[current].setAttribute("aria-selected", "false");
  }
  current = pinned = at;
  rows[at].tabIndex = 0;
  rows[at].classList.add("chosen");
  rows[at].setAttribute("aria-selected", "true");
  if (focus) rows[at].focus({ preventScroll: true });
  show(at);
  if (open) sheet(true);
  if (focus || open) rows[at].scrollIntoView({ block: "nearest" });
  else list.scrollTop = rows[at].offsetTop - list.offsetTop - list.clientHeight / 4;
  history.replaceState(null, "", `#${encodeURIComponent(file.path)}:${at + 1}`);
}

// -- what is known of a line ------------------------------------------------------------------------------------

function show(at) {
  const info = infos[at], call = data.calls[info.call];
  byId("detail-title").textContent = `Line ${at + 1}`;
  const parts = [make("p", `who-${info.who}`, NAMES[info.who])];
  if (call) parts.push(factsOf(call, info, file.moved[at + 1]));
  else parts.push(make("p", "quiet", info.who === "human"
    ? "Not written by a recorded call: the line existed before the first one, or appeared between or after calls."
    : "Nothing is recorded about this line, or the recorded data contradicts itself."));
  const trail = file.trails[at + 1];
  if (trail) {
    const earlier = make("ol");
    for (const number of trail) {
      const one = data.calls[number];
      const session = data.sessions[one.session] || {};
      earlier.append(make("li", "", `${model(one)} with ${one.tool || "an unknown tool"}, ${one.at} UTC, session ${session.title || one.session || "unknown"}`));
    }
    parts.push(make("h3", "", call ? "Other calls that wrote at this place" : "Earlier calls that wrote at this place"), earlier);
  }
  detail.replaceChildren(...parts);
}

function factsOf(call, info, moved) {
  const session = data.sessions[call.session] || {}, parent = data.sessions[session.parent];
  const facts = make("dl");
  const add = (name, value) => { if (value) facts.append(make("dt", "", name), make("dd", "", value)); };
  add("Model", model(call));
  add("Session", session.title || call.session || "unknown");
  if (session.href) {
    const link = make("a", "", facts.lastChild.textContent);
    link.href = session.href;
    facts.lastChild.replaceChildren(link);
  }
  if (session.title) add("Session id", call.session);
  if (session.parent) add("Subagent of", (parent && parent.title) || session.parent);
  add("Session cost", session.cost && `${session.cost}, ${session.tokens.toLocaleString("en")} tokens`);
  if (parent) add("Parent session cost", `${parent.cost}, ${parent.tokens.toLocaleString("en")} tokens`);
  add("Prompt", call.prompt);
  add("Tool", call.tool);
  add("Time", `${call.at} UTC`);
  add("Recorded by", session.user);
  add("Written at", moved);
  add("Evidence", `${call.method}, confidence ${Math.round(info.confidence * 100)} %`);
  return facts;
}

// -- filters ----------------------------------------------------------------------------------------------------

let wanted = () => true, filtering = false;

function readFilters() {
  const given = new FormData(form);
  const authors = new Set(given.getAll("author"));
  const name = given.get("model"), session = given.get("session"), from = given.get("from"), to = given.get("to");
  const ofCall = Boolean(name || session || from || to);
  filtering = ofCall || authors.size < AUTHORS.length;
  wanted = (who, number) => {
    if (!authors.has(who)) return false;
    if (!ofCall) return true;
    const call = data.calls[number];
    return Boolean(call) && (!name || call.model === name) && (!session || call.session === session) &&
      (!from || call.at.slice(0, 10) >= from) && (!to || call.at.slice(0, 10) <= to);
  };
}

function filter() {
  readFilters();
  let lines = 0, files = 0;
  data.files.forEach((one, number) => {
    let own = 0;
    for (const [count, who, call] of one.runs) if (wanted(AUTHORS[who], call)) own += count;
    lines += own;
    files += own > 0;
    const button = buttons.get(number);
    if (button) button.parentElement.hidden = filtering && !own;
  });
  const text = filtering ? `${counted(lines, "line")} in ${counted(files, "file")}` : "";
  byId("matches").textContent = text;
  if (filtering) say(`${text} match`);
  paintMatches();
}

function paintMatches() {
  rows.forEach((row, at) => row.classList.toggle("off", filtering && !wanted(infos[at].who, infos[at].call)));
}

const matches = (at) => wanted(infos[at].who, infos[at].call) && (filtering || infos[at].who !== "unknown");
const firstMatch = () => Math.max(0, infos.findIndex((_, at) => matches(at))) + 1;

function next(step) {
  // To the next block of lines that match.
  let at = current;
  while (at >= 0 && at < rows.length && matches(at) && infos[at].call === infos[current].call) at += step;
  while (at >= 0 && at < rows.length && !matches(at)) at += step;
  if (at >= 0 && at < rows.length) choose(at, { focus: true });
  else say("No further lines match.");
}

// -- events -----------------------------------------------------------------------------------------------------

const KEYS = {
  ArrowDown: () => Math.min(current + 1, rows.length - 1),
  ArrowUp: () => Math.max(current - 1, 0),
  PageDown: () => Math.min(current + 30, rows.length - 1),
  PageUp: () => Math.max(current - 30, 0),
  Home: () => 0,
  End: () => rows.length - 1,
};

// Where nothing has the focus, the keys are those of the lines.
const isForLines = (target) => list.contains(target) || target === document.body || target.id === "main";

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !rows.length) return;
  if (!isForLines(event.target)) return;
  if (KEYS[event.key]) choose(KEYS[event.key](), { focus: true });
  else if (event.key === "n") next(1);
  else if (event.key === "p") next(-1);
  else if (event.key === "Escape") sheet(false);
  else return;
  event.preventDefault();
});
const lineOf = (event) => { const row = event.target.closest(".row"); return row ? row.dataset.line - 1 : -1; };
list.addEventListener("click", (event) => { const at = lineOf(event); if (at >= 0) choose(at, { focus: true }); });
list.addEventListener("mouseover", (event) => { const at = lineOf(event); if (at >= 0) show(at); });
list.addEventListener("mouseleave", () => { if (pinned >= 0) show(pinned); });
byId("close").addEventListener("click", () => sheet(false));
narrow.addEventListener("change", () => sheet(false));
byId("goto").addEventListener("change", (event) => { if (event.target.value) open(data.files.indexOf(file), +event.target.value); });
document.querySelector(".tree").addEventListener("click", (event) => {
  const button = event.target.closest("button.file");
  if (!button) return;
  open(+button.dataset.file);
  if (narrow.matches) document.querySelector(".code").scrollIntoView();
});
form.addEventListener("input", filter);
form.addEventListener("reset", () => setTimeout(filter));
form.addEventListener("submit", (event) => event.preventDefault());

function fromAddress() {
  // #PATH:LINE, so that a line can be pointed at.
  const at = location.hash.lastIndexOf(":");
  let path = location.hash.slice(1, at > 0 ? at : undefined);
  try { path = decodeURIComponent(path); } catch { return false; }
  const number = data.files.findIndex((one) => one.path === path);
  if (number >= 0) open(number, at > 0 ? +location.hash.slice(at + 1) || 1 : undefined);
  return number >= 0;
}
document.querySelector(".filters").open = !narrow.matches;
addEventListener("hashchange", fromAddress);
if (!fromAddress() && data.files.length) {
  const most = data.files.map((one) => one.counts[0] + one.counts[1]);
  open(most.indexOf(Math.max(...most)));
}
