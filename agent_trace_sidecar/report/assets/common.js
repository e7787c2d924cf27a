"use strict";
// What all pages share. Data reaches the document as text alone: textContent, never markup.

const data = JSON.parse(document.getElementById("data").textContent);

function make(element, className, text) {
  const made = document.createElement(element);
  if (className) made.className = className;
  if (text !== undefined && text !== null) made.textContent = text;
  return made;
}

const counted = (number, name) => `${number.toLocaleString("en")} ${name}${number === 1 ? "" : "s"}`;

function say(text) {
  document.getElementById("live").textContent = text;
}

const remembered = {
  // A page from a file may have no storage.
  get: () => { try { return localStorage.getItem("agent-trace-theme") || ""; } catch { return ""; } },
  set: (value) => { try { localStorage.setItem("agent-trace-theme", value); } catch { /* not remembered, then */ } },
};

function paint(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

{
  const choice = document.getElementById("theme");
  choice.value = remembered.get();
  paint(choice.value);
  choice.addEventListener("change", () => { paint(choice.value); remembered.set(choice.value); });
}

async function copy(text, source) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    getSelection().selectAllChildren(source);
    say("Selected: copy with the keyboard.");
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  copy(source.textContent, source);
});
