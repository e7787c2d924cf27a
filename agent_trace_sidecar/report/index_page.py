"""The index of a site: periods, repositories and sessions, each with its figures and its page; pure."""

from collections.abc import Iterable, Sequence
from typing import Final

from agent_trace_sidecar.report.cost import SessionFacts, Spent, spent
from agent_trace_sidecar.report.html import Html, address, el, first_line, join, priced
from agent_trace_sidecar.report.page import Page, headline, time
from agent_trace_sidecar.report.site import Family, Period, Site, SiteRepository

_TITLE_CHARS: Final = 80


def index_page(site: Site, *, contents: bool) -> Page:
    """Make the page; without `contents` no title is in it."""
    everything = list(site.sessions.values())
    summary = headline(spent(everything), f"{sum(one.ai_lines for one in everything):,}", "AI lines written")
    body = join(
        (
            _section("Periods", "periods", ("Period", *_USED), map(_period, site.periods)),
            _section(
                "Repositories",
                "repositories",
                ("Repository", *_USED, "Last written"),
                map(_repository, site.repositories),
            ),
            _section(
                "Sessions",
                "sessions",
                ("Session", "Started", "Cost", "Tokens", "Calls", "AI lines", "Person", "Repository"),
                (_session(one, site, contents=contents) for one in site.families),
                _search(),
            ),
            el(
                "p",
                "Times are UTC. Repositories without a link are not on the machine that made these pages.",
                class_="quiet",
            ),
        )
    )
    return Page("index", "AI-written code", (summary,), body, {}, site.notes())


_USED: Final = ("Cost", "Tokens", "Sessions", "People", "AI lines")
_TEXTS: Final = frozenset({"Started", "Person", "Repository", "Last written"})
"""Columns whose cells are no numbers."""


def _search() -> Html:
    return el("label", "Filter ", el("input", type="search", id="search", autocomplete="off"), class_="search")


def _section(
    title: str, name: str, heads: Sequence[str], rows: Iterable[Sequence[str]], more: Html | None = None
) -> Html:
    """A table with a heading; the first cell of a row is its name."""
    kinds = [None if at and one not in _TEXTS else "label" for at, one in enumerate(heads)]
    head = el("tr", *(el("th", one, scope="col", class_=kind) for one, kind in zip(heads, kinds, strict=True)))
    body = [_row(row, kinds) for row in rows]
    table = el("table", el("caption", title, class_="unseen"), el("thead", head), el("tbody", *body), id=name)
    wide = el("div", table, class_="wide all", tabindex=0, role="group", aria_label=title)
    return el("section", el("div", el("h2", title), more, class_="section"), wide, aria_label=title)


def _row(cells: Sequence[str], kinds: Sequence[str | None]) -> Html:
    first = el("th", cells[0], scope="row", class_="label")
    return el("tr", first, *(el("td", cell, class_=kind) for cell, kind in zip(cells[1:], kinds[1:], strict=True)))


def _used(used: Spent, lines: int) -> tuple[str, ...]:
    people = f"{used.people:,}" if used.people else "unknown"
    cost = priced(used.cost, used.unpriced_steps)
    return cost, f"{used.tokens:,}", f"{used.sessions:,}", people, f"{lines:,}"


def _period(one: Period) -> tuple[str, ...]:
    name = el("a", f"Last {one.days} days", href=f"periods/{one.name}.html")
    return name, *_used(one.spent, one.lines)


def _repository(one: SiteRepository) -> tuple[str, ...]:
    name = address(one.label)
    if one.checkout is not None:
        name = el("a", name, href=f"repositories/{one.name}.html")
    return name, *_used(one.spent, one.lines), time(one.last_at)


def _session(one: Family, site: Site, *, contents: bool) -> tuple[str, ...]:
    root, used = one.root, spent(one.members)
    title = first_line((root.title if contents else None) or root.session_id, _TITLE_CHARS)
    return (
        el("a", title, href=f"sessions/{one.name}.html"),
        time(root.started_at) if root.started_at else "unknown",
        priced(used.cost, used.unpriced_steps),
        f"{used.tokens:,}",
        f"{sum(own.calls for own in one.members):,}",
        f"{sum(own.ai_lines for own in one.members):,}",
        root.os_user or "unknown",
        _home(root, site),
    )


def _home(root: SessionFacts, site: Site) -> str:
    name = address(root.repository or root.worktree or "unknown")
    href = site.links.repositories.get(root.worktree or "")
    return el("a", name, href=href.removeprefix("../")) if href else name
