"""The frame of every page: policy, styles, script, heading, the switch between light and dark; pure but for its assets.

The policy lets run exactly the styles and the script that stand in the page, by their hashes, and lets nothing be
fetched from anywhere. Text can't become markup by a script either: the sinks that would do it are shut.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

from agent_trace_sidecar import __version__
from agent_trace_sidecar.report.cost import Spent
from agent_trace_sidecar.report.html import Html, data, el, join, priced, trusted

_ICON: Final = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E"
    "%3Cpath d='M1 1h6v1H1zM1 3h4v1H1zM1 5h6v1H1z' fill='%232563eb'/%3E%3C/svg%3E"
)


_WITH_PLOTS: Final = frozenset({"session", "since"})
_LICENCE: Final = "uplot/LICENSE"
_WITH_SCRIPT: Final = frozenset({"repository", "session", "index"})


class Links(NamedTuple):
    """Addresses of other pages of the same site; a page alone has none."""

    sessions: Mapping[str, str]
    """By session id, also of subagents."""
    repositories: Mapping[str, str]
    """By project and by worktree."""


NO_LINKS: Final = Links({}, {})


class Page(NamedTuple):
    """What is particular to one."""

    kind: str
    """repository, session, since or index: chooses its script, and is the body's class."""
    title: str
    summary: Sequence[Html]
    """What stands beside the title."""
    body: Html
    data: object
    notes: Sequence[str] = ()
    """Sentences on what was cut, and how to get the rest."""


def render(page: Page, made_at: datetime, index: str = "") -> str:
    """The whole file; `index` is the address of the site's index."""
    style, script = ("".join(map(_source, names)) for names in _assets(page.kind))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("meta", name="color-scheme", content="light dark"),
        el("link", rel="icon", href=_ICON),
        el("title", page.title),
        el("style", trusted(style)),
    )
    body = el(
        "body",
        el("a", "Skip to the contents", class_="skip", href="#main"),
        _top(page, index),
        el("main", *map(_note, page.notes), page.body, id="main", tabindex=-1),
        el("footer", _foot(made_at)),
        el("div", class_="unseen", id="live", role="status", aria_live="polite"),
        data("data", page.data),
        el("script", trusted(script)),
        class_=page.kind,
    )
    return "<!doctype html>\n" + el("html", head, body, lang="en") + "\n"


def _assets(kind: str) -> tuple[list[str], list[str]]:
    """The style sheets and scripts of a page, in order."""
    if kind not in _WITH_PLOTS:
        return ["report.css"], ["common.js", f"{kind}.js"]
    own = [f"{kind}.js"] if kind in _WITH_SCRIPT else []
    return ["uplot/uPlot.min.css", "report.css"], ["common.js", _LICENCE, "uplot/uPlot.iife.min.js", "plots.js", *own]


def _source(name: str) -> str:
    """The text of an asset; a licence as a comment, because a page is a copy of what it covers."""
    return f"/* {asset(name).strip()} */\n" if name == _LICENCE else asset(name)


def _top(page: Page, index: str) -> Html:
    choices = [el("option", name, value=value) for value, name in (("", "Auto"), ("light", "Light"), ("dark", "Dark"))]
    theme = el("label", "Theme ", el("select", *choices, id="theme"), class_="theme")
    site = el("nav", el("a", "All pages", href=index), class_="site", aria_label="Site") if index else None
    return el("header", site, el("div", el("h1", page.title), theme, class_="title"), *page.summary, class_="top")


def _note(sentence: str) -> Html:
    return el("p", sentence, class_="note")


def _foot(made_at: datetime) -> Html:
    return join(
        (
            "Made by agent-trace-sidecar ",
            __version__,
            " at ",
            time(made_at),
            " UTC. Secrets are masked. This page makes no network requests.",
        )
    )


def time(at: datetime) -> Html:
    """A moment, to the minute, in UTC."""
    return el("time", at.strftime("%Y-%m-%d %H:%M"), datetime=at.isoformat(timespec="seconds"))


def fact(name: str, value: str, key: str | None = None) -> Html:
    """A figure with its name, for the head of a page; with a key the name has the colour that stands for it."""
    return el("div", el("dt", name, class_=key and f"key {key}"), el("dd", value))


def headline(spent: Spent, lines: str, lines_are: str) -> Html:
    """The row of figures that every page begins with."""
    return el(
        "dl",
        fact("Cost", priced(spent.cost, spent.unpriced_steps)),
        fact("Tokens", f"{spent.tokens:,}"),
        fact("Sessions", f"{spent.sessions:,}"),
        fact("People", f"{spent.people:,}" if spent.people else "unknown"),
        fact(lines_are, lines),
        class_="headline",
    )


def facts(*pairs: Html) -> Html:
    """Figures in a row."""
    return el("dl", *pairs, class_="facts")


@cache
def asset(name: str) -> str:
    """A file of this package."""
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def _hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
