// The index of a site: sessions can be narrowed to those with a text in their row.

const rows = [...document.querySelectorAll("#sessions tbody tr")].map((row) => [row, row.textContent.toLowerCase()]);

document.getElementById("search").addEventListener("input", (event) => {
  const wanted = event.target.value.trim().toLowerCase();
  let shown = 0;
  for (const [row, text] of rows) shown += !(row.hidden = !text.includes(wanted));
  say(`${counted(shown, "session")} shown`);
});
