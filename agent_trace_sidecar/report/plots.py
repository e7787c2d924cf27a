"""Plots as inline SVG, without a style attribute or a script; the numbers of each stand beside it in a table.

Coordinates are those of a viewBox that grows with the page, so text is HTML or scales with it. Colours come from the
style sheet by class, and nothing is shown by colour alone.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from agent_trace_sidecar.report.html import Html, el, join, money

_AUTHORS: Final = ("ai", "mixed", "human", "unknown")
_WIDTH: Final = 720
_WIDE: Final = 1200
"""Of a plot that has a row of the page to itself."""
_HEIGHT: Final = 150
_LEFT: Final = 84
_RIGHT: Final = 8
_TOP: Final = 8
_BOTTOM: Final = 26
_BASE: Final = _HEIGHT - _BOTTOM
_PLOT: Final = _BASE - _TOP
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
        numbers = el("details", el("summary", "Numbers"), self._table(), class_="numbers", open=plot is None)
        source = el("details", el("summary", "SQL"), copy, el("pre", self.sql, id=f"sql-{name}", tabindex=0))
        words = [el("p", self.note, class_="quiet")] if self.note else []
        shown = plot if plot is not None else el("p", "Not enough data for a plot.", class_="quiet")
        return el("figure", el("figcaption", el("h2", self.title)), shown, *words, numbers, source, id=name)

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


def running_line(points: Sequence[tuple[datetime, float, int]]) -> Html:
    """Cost (a line) and tokens (an area) over time, each as they add up, on a scale of its own."""
    start, end = points[0][0], points[-1][0]
    span = (end - start).total_seconds() or 1.0
    cost, tokens = points[-1][1], points[-1][2]

    def path(values: Sequence[float]) -> str:
        found = [f"M{_LEFT} {_BASE}"]
        for (at, _, _), value in zip(points, values, strict=True):
            x = _LEFT + (_WIDE - _LEFT - _RIGHT) * (at - start).total_seconds() / span
            found.append(f"H{_short(x)}V{_short(_BASE - _PLOT * value / (values[-1] or 1))}")
        return "".join(found)

    said = f"Total cost {money(cost)} (line), total tokens {tokens:,} (area)."
    drawn = (
        el("path", d=f"{path([one[2] for one in points])}V{_BASE}Z", class_="area"),
        _axis(_WIDE),
        el("path", d=path([one[1] for one in points]), class_="curve"),
        _text(_LEFT - 8, _TOP + 12, money(cost), "end"),
        *_ends(start.strftime("%H:%M:%S"), end.strftime("%H:%M:%S"), _WIDE),
    )
    return join((_svg(said, _WIDE, *drawn), el("p", said, class_="quiet")))


def day_bars(days: Sequence[str], series: Mapping[str, Sequence[float]], unit: str, colours: Sequence[str]) -> Html:
    """A bar for each day, stacked by series, with their names beside their colours."""
    top = max((sum(values[at] for values in series.values()) for at in range(len(days))), default=0) or 1
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(days))
    width = max(1.0, min(step - 2, 48.0))
    drawn = []
    for at, day in enumerate(days):
        y = float(_BASE)
        for (name, values), colour in zip(series.items(), colours, strict=False):
            height = _PLOT * values[at] / top
            if height:
                y -= height
                tip = el("title", f"{day}, {name}: {values[at]:,.0f} {unit}")
                drawn.append(el("g", tip, _rect(_LEFT + (at + 0.5) * step - width / 2, y, width, height, colour)))
    words = [_text(_LEFT - 8, _TOP + 12, f"{top:,.0f}", "end"), _text(_LEFT - 8, _BASE, "0", "end")]
    said = f"{unit} by day, {days[0]} to {days[-1]}, at most {top:,.0f}"
    svg = _svg(said, _WIDTH, _axis(_WIDTH), *drawn, *words, *_ends(days[0], days[-1], _WIDTH))
    return join((svg, legend(list(series), colours)))


def bars(
    rows: Sequence[tuple[str, Sequence[float]]], texts: Sequence[str], names: Sequence[str], colours: Sequence[str]
) -> Html:
    """A bar for each name, one above the other; several values lie in front of each other, the first one behind."""
    top = max((max(values, default=0) for _, values in rows), default=0) or 1
    parts = []
    for (name, values), text in zip(rows, texts, strict=True):
        drawn = [
            _rect(0, 0, 100 * value / top, 8, colour) for value, colour in zip(values, colours, strict=True) if value
        ]
        svg = el("svg", *drawn, class_="hbar", viewBox="0 0 100 8", preserveAspectRatio="none", aria_hidden="true")
        parts.append(el("li", el("span", name, class_="name", title=name), svg, el("span", text, class_="figure")))
    shown = el("ul", *parts, class_="hbars")
    return join((shown, legend(names, colours))) if len(names) > 1 else shown


def legend(names: Sequence[str], colours: Sequence[str]) -> Html:
    """What the colours stand for."""
    keys = [el("li", name, class_=f"key key-{colour}") for name, colour in zip(names, colours, strict=False)]
    return el("ul", *keys, class_="legend")


def _svg(said: str, width: int, *drawn: Html) -> Html:
    return el("svg", *drawn, class_="plot", viewBox=f"0 0 {width} {_HEIGHT}", role="img", aria_label=said)


def _axis(width: int) -> Html:
    return el("line", x1=_LEFT, y1=_BASE, x2=width - _RIGHT, y2=_BASE, class_="axis")


def _ends(first: str, last: str, width: int) -> tuple[Html, Html]:
    """What stands below the axis."""
    y = _HEIGHT - 6
    return _text(_LEFT, y, first, "start"), _text(width - _RIGHT, y, last, "end")


def _rect(x: float, y: float, width: float, height: float, colour: str) -> Html:
    place = {"x": _short(x), "y": _short(y), "width": _short(width), "height": _short(height)}
    return el("rect", class_=f"fill-{colour}", **place)


def _text(x: float, y: float, text: str, anchor: str) -> Html:
    return el("text", text, x=_short(x), y=_short(y), text_anchor=anchor)


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
