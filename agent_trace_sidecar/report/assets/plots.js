// Plots over time, drawn by uPlot on a canvas. The numbers of each stand beside it in a table.
// data.plots: by name {kind: "bars" | "steps", at: [seconds], series: [{name, colour, unit, values}]}

const DAY_S = 86400;
const DAYS = [1, 2, 7, 14, 28, 56, 112].map((days) => days * DAY_S);
const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, ...DAYS];
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const dollars = (value) => `$${value.toLocaleString("en", value >= 1 ? { minimumFractionDigits: 2, maximumFractionDigits: 2 } : { maximumFractionDigits: 4 })}`;
const round = (value) => (value >= 1000 ? `$${compact.format(value)}` : `$${value.toLocaleString("en", { maximumSignificantDigits: 3 })}`);
const widthOf = (_, labels) => 14 + 7 * Math.max(3, ...(labels || []).map((one) => one.length)); // at 12 px
const UNITS = {
  cost: { axis: round, value: dollars },
  tokens: { axis: (value) => compact.format(value), value: (value) => counted(value, "token") },
  lines: { axis: (value) => (Number.isInteger(value) ? compact.format(value) : ""), value: (value) => counted(value, "line") },
};
const probe = document.body.appendChild(make("i"));
probe.hidden = true;

function colour(name) {
  // A custom property may be light-dark(): only as a colour of something it is one.
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

function stacked(series) {
  // Each with all below it added, the highest first: what is drawn later covers the lower part.
  const sums = series[0].values.map(() => 0);
  return series.map((one) => one.values.map((value, at) => (sums[at] += value))).reverse();
}

const moment = (plot, at) => {
  const text = new Date(plot.at[at] * 1000).toISOString();
  return plot.kind === "bars" ? text.slice(0, 10) : `${text.slice(11, 19)} UTC`;
};

function optionsOf(plot, place, readout) {
  const bars = plot.kind === "bars", first = readout.textContent;
  const units = [...new Set(plot.series.map((one) => one.unit))];
  const look = { stroke: colour("quiet"), font: "12px system-ui, sans-serif", grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
  const drawn = [...plot.series].reverse();
  return {
    width: place.clientWidth,
    height: place.clientHeight,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, y: false, points: { show: !bars } },
    scales: {
      x: { range: (_, low, high) => (bars ? [low - DAY_S / 2, high + DAY_S / 2] : high > low ? [low, high] : [low - 1, high + 1]) },
      ...Object.fromEntries(units.map((unit) => [unit, { range: (_, low, high) => [0, (high || 1) * 1.06] }])),
    },
    axes: [
      { ...look, grid: { show: false }, space: 70, size: 30, incrs: (bars ? DAYS : SECONDS), values: [
        [DAY_S, "{D} {MMM}", null, null, null, null, null, null, 1],
        [60, "{HH}:{mm}", null, null, null, null, null, null, 1],
        [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1],
      ] },
      ...units.map((unit, at) => ({ ...look, scale: unit, side: at ? 1 : 3, size: widthOf, grid: at ? { show: false } : look.grid, values: (_, found) => found.map(UNITS[unit].axis) })),
    ],
    series: [{}, ...drawn.map((one) => (bars
      ? { scale: one.unit, fill: colour(one.colour), stroke: colour(one.colour), width: 0, paths: uPlot.paths.bars({ size: [0.75, 40] }), points: { show: false } }
      : { scale: one.unit, ...(one.colour === "gone" ? { fill: colour("line") } : { stroke: colour(one.colour), width: 2 }), paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } }))],
    hooks: { setCursor: [({ cursor }) => {
      const at = cursor.idx;
      if (at === null || at === undefined || cursor.left < 0) { readout.textContent = first; return; }
      const values = plot.series.filter((one) => !bars || one.values[at]).map((one) => `${one.name} ${UNITS[one.unit].value(one.values[at])}`);
      readout.textContent = `${moment(plot, at)}: ${values.join(", ") || "none"}`;
    }] },
  };
}

function draw(place) {
  const plot = data.plots[place.dataset.plot];
  const values = plot.kind === "bars" ? stacked(plot.series) : plot.series.map((one) => one.values).reverse();
  const readout = place.nextElementSibling;
  let chart = null;
  const again = () => {
    if (chart) chart.destroy();
    chart = new uPlot(optionsOf(plot, place, readout), [plot.at, ...values], place);
  };
  again();
  new ResizeObserver(() => chart.setSize({ width: place.clientWidth, height: place.clientHeight })).observe(place);
  return again;
}

{
  const plots = [...document.querySelectorAll("[data-plot]")].map(draw);
  const repaint = () => plots.forEach((again) => again());
  document.getElementById("theme").addEventListener("change", repaint);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
}
