"""Figures: bars as inline SVG, and what the page's script draws over time; the numbers of each are in a table.

Nothing has a style attribute. Colours come from the style sheet by class, and nothing is shown by colour alone.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from agent_trace_sidecar.report.html import Html, el, join

_AUTHORS: Final = ("ai", "mixed", "human", "unknown")
_STEPS: Final = 20
COLOURS: Final = ("s0", "s1", "s2", "s3", "s4", "s5")
"""Of series; "quiet" is for what they are compared with, "bad" for failures."""


def share_bar(counts: Mapping[str, int], name: str) -> Html:
    """One bar of the shares of the four kinds of author."""
    total = sum(counts.values())
    parts, x = [], 0.0
    for who in _AUTHORS:
        width = 100 * counts.get(who, 0) / total if total else 0
        if width:
            parts.append(_rect(x, 0, width, 8, who))
        x += width
    said = ", ".join(f"{counts.get(who, 0)} {who}" for who in _AUTHORS if counts.get(who))
    return el(
        "svg",
        *parts,
        class_="shares",
        viewBox="0 0 100 8",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{name}: {said or 'no lines'}",
    )


def duration_bar(seconds: float, longest: float) -> Html:
    """How long something took, beside the longest, in twentieths: one element, as a session may have thousands."""
    width = max(1, round(_STEPS * seconds / longest)) if longest > 0 else 1
    return el("i", class_=f"duration d{min(_STEPS, max(1, width))}")


class Series(msgspec.Struct, frozen=True):
    """One row of values of a plot over time."""

    name: str
    colour: str
    """As in `COLOURS`."""
    unit: str
    """cost, tokens or lines: each has an axis of its own."""
    values: Sequence[float]


class TimePlot(msgspec.Struct, frozen=True):
    """What the page's script draws."""

    kind: str
    """bars: stacked, for days; steps: each value lasts until the next."""
    at: Sequence[float]
    """Seconds since the epoch."""
    series: Sequence[Series]


class Figure(NamedTuple):
    """A plot's words: what it shows, its numbers, and the statement that they come from."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    sql: str
    note: str = ""
    labels: int = 1
    """So many columns at the left are names."""

    def html(self, plot: Html | None, name: str) -> Html:
        """The figure; `name` is unique in the page."""
        copy = el("button", "Copy", type="button", data_copy=f"sql-{name}", aria_label=f"Copy the SQL of: {self.title}")
        numbers = el("details", el("summary", "Numbers"), self._table(), class_="numbers")
        source = el("details", el("summary", "SQL"), copy, el("pre", self.sql, id=f"sql-{name}", tabindex=0))
        words = [el("p", self.note, class_="quiet")] if self.note else []
        return el("figure", el("figcaption", el("h2", self.title)), plot, *words, numbers, source, id=name)

    def _table(self) -> Html:
        head = el("tr", *(el("th", one, scope="col", class_=self._kind(at)) for at, one in enumerate(self.heads)))
        rows = [el("tr", *(self._cell(at, one) for at, one in enumerate(row))) for row in self.rows]
        caption = el("caption", self.title, class_="unseen")
        table = el("table", caption, el("thead", head), el("tbody", *rows))
        return el("div", table, class_="wide", tabindex=0, role="group", aria_label=f"Numbers: {self.title}")

    def _cell(self, at: int, text: str) -> Html:
        return el("td", text, class_=self._kind(at)) if at else el("th", text, scope="row", class_=self._kind(at))

    def _kind(self, at: int) -> str | None:
        return "label" if at < self.labels else None


def time_plot(name: str, summary: str, series: Mapping[str, str]) -> Html:
    """A place for a plot over time, which the page's script draws from the data of this name.

    Args:
        name: its key in the page's `plots`, see `TimePlot`.
        summary: a sentence that says the same; it makes room for the values that the reader points at.
        series: the names of the series and their colours.
    """
    place = el("div", class_="time-plot", data_plot=name, role="img", aria_label=summary)
    return join((place, el("p", summary, class_="readout"), legend(list(series), list(series.values()))))


def bars(
    rows: Sequence[tuple[str | Html, Sequence[float]]],
    texts: Sequence[str],
    names: Sequence[str],
    colours: Sequence[str],
) -> Html:
    """A bar for each name, one above the other; several values lie in front of each other, the first one behind."""
    top = max((max(values, default=0) for _, values in rows), default=0) or 1
    parts = []
    for (name, values), text in zip(rows, texts, strict=True):
        drawn = [
            _rect(0, 0, 100 * value / top, 8, colour) for value, colour in zip(values, colours, strict=True) if value
        ]
        svg = el("svg", *drawn, class_="hbar", viewBox="0 0 100 8", preserveAspectRatio="none", aria_hidden="true")
        title = None if isinstance(name, Html) else name
        parts.append(el("li", el("span", name, class_="name", title=title), svg, el("span", text, class_="figure")))
    shown = el("ul", *parts, class_="hbars")
    return join((shown, legend(names, colours))) if len(names) > 1 else shown


def legend(names: Sequence[str], colours: Sequence[str]) -> Html:
    """What the colours stand for."""
    keys = [el("li", name, class_=f"key key-{colour}") for name, colour in zip(names, colours, strict=False)]
    return el("ul", *keys, class_="legend")


def _rect(x: float, y: float, width: float, height: float, colour: str) -> Html:
    place = {"x": _short(x), "y": _short(y), "width": _short(width), "height": _short(height)}
    return el("rect", class_=f"fill-{colour}", **place)


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
