// The page of a session: what a call was given and gave comes into the document when it is opened.

const form = document.getElementById("show");
const kinds = { said: ["prompt", "text", "thinking"], calls: ["call"], spent: ["step"] };

function diffOf(text) {
  const pre = make("pre", "diff");
  for (const line of text.split("\n")) {
    const kind = /^(\+\+\+|---|@@|Index:|===)/.test(line) ? "meta" : line[0] === "+" ? "added" : line[0] === "-" ? "gone" : "same";
    pre.append(make("span", kind, `${line}\n`));
  }
  return pre;
}

function fill(details) {
  if (details.dataset.filled) return;
  details.dataset.filled = "yes";
  for (const [label, text, isDiff] of data.bodies[details.dataset.body]) {
    const body = isDiff ? diffOf(text) : make("pre", "", text);
    body.tabIndex = 0;
    body.setAttribute("role", "group"); // a landmark each would be too many
    body.setAttribute("aria-label", label);
    details.append(make("h3", "", label), body);
  }
}

document.addEventListener("toggle", (event) => {
  if (event.target.open && event.target.dataset.body !== undefined) fill(event.target);
}, true);

const CHUNK = 200; // opened at once; a long session would stop the browser otherwise

function openAll(open) {
  const all = [...document.querySelectorAll("details[data-body]")];
  const some = (from) => {
    for (const one of all.slice(from, from + CHUNK)) one.open = open;
    if (from + CHUNK < all.length) requestAnimationFrame(() => some(from + CHUNK));
  };
  some(0);
}

document.getElementById("open-all").addEventListener("click", (event) => {
  const open = event.target.textContent === "Open all";
  event.target.textContent = open ? "Close all" : "Open all";
  openAll(open);
});

form.addEventListener("input", () => {
  const given = new FormData(form);
  document.body.classList.toggle("no-spent", !given.has("spent"));
  const off = Object.entries(kinds).filter(([name]) => !given.has(name)).flatMap(([, own]) => own);
  const fits = (item) => {
    if (off.some((kind) => item.classList.contains(kind))) return false;
    if (given.has("only-failed") && !item.matches(".failed, .error, .gap, .dead")) return false;
    return !given.has("only-changes") || item.classList.contains("changed");
  };
  const items = [...document.querySelectorAll(".item")];
  for (const item of items) item.hidden = !fits(item);
  for (const item of items) // what is inside of a subagent keeps the call that started it
    if (!item.hidden) for (let up = item.parentElement.closest(".item"); up; up = up.parentElement.closest(".item")) up.hidden = false;
  const shown = `${counted(items.filter((item) => !item.hidden).length, "item")} of ${items.length.toLocaleString("en")}`;
  document.getElementById("shown").textContent = shown;
  say(`${shown} shown`);
});
