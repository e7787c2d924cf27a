"""The page of a session: what happened, one thing after the other, subagents inside their calls; pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from agent_trace_sidecar.limits.text import counted
from agent_trace_sidecar.report.changes import FileChange
from agent_trace_sidecar.report.cost import spent
from agent_trace_sidecar.report.html import Html, clipped, el, first_line, join, money, priced
from agent_trace_sidecar.report.page import NO_LINKS, Links, Page, fact, facts, headline
from agent_trace_sidecar.report.plots import Figure, Series, TimePlot, duration_bar, time_plot
from agent_trace_sidecar.report.session import Body, Item, Session

MAX_ITEMS: Final = 20_000
"""Of one page."""
CHUNK: Final = 50
"""Items that the browser may leave out together while they are off the screen."""
MAX_CHARS: Final = 20_000_000
"""Of all contents together."""
_SPOKEN_CHARS: Final = 4_000
"""Of a prompt or an answer; the rest is in the database."""

_NAMES: Final = {
    "prompt": "Prompt",
    "text": "Answer",
    "thinking": "Thinking",
    "call": "Call",
    "step": "Request",
    "undo": "Undo",
    "redo": "Redo",
    "error": "Error",
    "gap": "Gap",
    "dead": "Not stored",
}
_SPOKEN: Final = ("prompt", "text", "thinking")
_USUAL: Final = ("stop", "tool-calls", "ended")
"""Reasons for the end of a request that need no row."""
_FILTERS: Final = (
    ("said", "Prompts and answers"),
    ("calls", "Calls"),
    ("spent", "Tokens and cost"),
    ("only-failed", "Only failures"),
    ("only-changes", "Only file changes"),
)


def session_page(found: Session, *, contents: bool, links: Links = NO_LINKS) -> Page:
    """Make the page; without `contents` no text, argument, output or title is in it."""
    maker = _Maker(found, contents=contents)
    root = found.root
    timeline = maker.timeline(root.session_id)
    everything = [item for items in found.items.values() for item in items]
    steps = sorted((item for item in everything if item.kind == "step"), key=lambda one: one.at)
    title = (root.title if contents else None) or root.session_id
    figure, plots = _running(steps)
    body = join((_controls(), figure, el("section", el("h2", "Time line"), timeline, aria_label="Time line")))
    data = {"bodies": maker.bodies, "plots": plots}
    summary = _summary(found, everything, links)
    return Page("session", title, summary, body, data, found.notes + maker.notes())


def _summary(found: Session, everything: list[Item], links: Links) -> tuple[Html, ...]:
    root, everyone = found.root, list(found.facts.values())
    failed = sum(1 for item in everything if item.kind == "call" and item.status == "error")
    lost = sum(1 for item in everything if item.kind in {"gap", "dead"})
    models = sorted({item.title for item in everything if item.kind == "step"})
    lasted = _span(root.started_at, root.last_event_at)
    pairs = [
        fact("Started", root.started_at.strftime("%Y-%m-%d %H:%M UTC") if root.started_at else "unknown"),
        fact("Duration", lasted),
        fact("Model", ", ".join(models) or "unknown"),
        fact("Calls", f"{sum(one.calls for one in everyone):,}" + (f", {failed:,} failed" if failed else "")),
    ]
    pairs.append(fact("Missing", counted(lost, "place") if lost else "none"))
    place = " · ".join(part for part in (root.os_user, root.host, root.session_id) if part)
    name, href = root.repository or root.worktree, links.repositories.get(root.worktree or "")
    where = el("a", name, href=href) if name and href else name
    lines = f"{sum(one.ai_lines for one in everyone):,}"
    return (
        headline(spent(everyone), lines, "AI lines written"),
        facts(*pairs),
        el("p", where, " · " if where else None, place, class_="quiet mono"),
    )


def _span(start: datetime | None, end: datetime | None) -> str:
    if start is None or end is None:
        return "unknown"
    seconds = (end - start).total_seconds()
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _controls() -> Html:
    boxes = [
        el("label", el("input", type="checkbox", name=name, checked=not name.startswith("only")), f" {text}")
        for name, text in _FILTERS
    ]
    button = el("button", "Open all", type="button", id="open-all")
    return el("form", el("fieldset", el("legend", "Show"), *boxes), button, el("output", id="shown"), id="show")


def _running(steps: list[Item]) -> tuple[Html, dict[str, TimePlot]]:
    """What the requests used as it adds up: the figure, and what the page's script draws."""
    if not steps:
        return join(()), {}
    cost, tokens = 0.0, 0
    rows, costs, counts = [], list[float](), list[int]()
    for item in steps:
        cost, tokens = cost + (item.cost or 0.0), tokens + item.tokens
        own = priced(item.cost, item.cost is None)
        rows.append((item.at.strftime("%H:%M:%S"), f"{item.tokens:,}", own, f"{tokens:,}", money(cost)))
        costs.append(cost)
        counts.append(tokens)
    sql = (
        "SELECT finished_at, model_id, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cost\n"
        f"FROM agent_trace_steps WHERE session_id = '{item.session.replace(chr(39), chr(39) * 2)}' ORDER BY finished_at"
    )
    figure = Figure("Cumulative tokens and cost", ("at", "tokens", "cost", "total tokens", "total cost"), rows, sql)
    if len(steps) == 1:
        return figure.html(None, "running"), {}
    series = [Series("cost", "s0", "cost", costs), Series("tokens", "gone", "tokens", counts)]
    summary = f"{counted(len(steps), 'request')}: {money(cost)}, {counted(tokens, 'token')}."
    drawn = time_plot("running", summary, {"cost": "s0", "tokens": "quiet"})
    plot = TimePlot("steps", [item.at.timestamp() for item in steps], series)
    return figure.html(drawn, "running"), {"running": plot}


class _Maker:
    """Makes the time line, and keeps what is opened on demand."""

    def __init__(self, found: Session, *, contents: bool) -> None:
        self._found, self._contents = found, contents
        self.bodies: list[list[Body]] = []
        self._items, self._chars, self._left_out = 0, 0, 0
        longest = [item.seconds or 0 for items in found.items.values() for item in items]
        self._longest = max(longest, default=0)
        self._placed: set[str] = set()

    def notes(self) -> list[str]:
        """What was cut."""
        notes = []
        if self._left_out:
            notes.append(
                f"{self._left_out:,} later entries are left out: a page has at most {MAX_ITEMS:,}. "
                "They are in agent_trace_events."
            )
        if self._chars > MAX_CHARS:
            notes.append("Arguments and outputs beyond 20 MB are left out; they are in agent_trace_events.")
        return notes

    def timeline(self, session: str) -> Html:
        """The items of a session; subagents that no call names come where they began."""
        parts = []
        items = self._found.items.get(session, [])
        named = {item.child for item in items if item.child}
        loose = [name for name in self._found.parents.get(session, []) if name not in named]
        steps = _with_their_items(items)
        for at, item in enumerate(items):
            if item.kind == "step" and at not in steps:
                continue  # it stands beside what the request gave
            if self._items >= MAX_ITEMS:
                self._left_out += 1
                continue
            self._items += 1
            parts.append(self._item(item, steps.get(at, [])))
        parts += [el("li", self._nested(name), class_="item") for name in loose]
        chunks = [el("ol", *parts[at : at + CHUNK], class_="timeline") for at in range(0, len(parts), CHUNK)]
        return el("div", *chunks)

    def _item(self, item: Item, steps: Sequence[Item]) -> Html:
        failed = item.status in {"error", "never ended"}
        marks = [_badge(item.status, "bad")] if failed else []
        marks += [_badge(f"exit {clipped(item.code, 20)}", "bad")] if item.code not in {"", "0"} else []
        marks += [_badge("undone", "undone")] if item.undone else []
        names = f"item {item.kind}" + (" failed" if failed else "") + (" undone" if item.undone else "")
        names += " changed" if item.changes else ""
        inner = el("div", *self._parts(item, marks), class_="what")
        head = (time_of(item.at), el("span", _NAMES[item.kind], class_="kind"))
        return el("li", *head, inner, *map(_spent, steps), class_=names)

    def _parts(self, item: Item, marks: list[Html]) -> Iterator[Html]:
        if item.kind in _SPOKEN:
            yield from marks
            text = clipped(item.text, _SPOKEN_CHARS) if self._contents else "[left out]"
            yield el("p", text, class_="speech")
        elif item.kind == "step":
            yield el("span", f"{item.title} · {item.reason}", class_="quiet")
        else:
            yield from self._opening(item, marks)

    def _opening(self, item: Item, marks: list[Html]) -> Iterator[Html]:
        head = [el("strong", item.title), *marks]
        if item.text and self._contents:
            head.append(el("span", first_line(item.text), class_="about"))
        if item.seconds is not None:
            head += [duration_bar(item.seconds, self._longest), el("span", _seconds(item.seconds), class_="took")]
        number = self._kept(item)
        if number is None:
            yield el("div", *head, class_="head")
        else:
            yield el("details", el("summary", *head, class_="head"), data_body=number)
        if item.changes:
            yield el("ul", *(el("li", *_change(change)) for change in item.changes), class_="changes")
        if item.child and item.child in self._found.items and item.child not in self._placed:
            yield self._nested(item.child)

    def _nested(self, session: str) -> Html:
        self._placed.add(session)
        own = self._found.facts[session]
        title = (own.title if self._contents else None) or session
        cost = priced(own.cost, own.unpriced_steps)
        said = f"Subagent: {title} · {counted(own.calls, 'call')}, {own.tokens:,} tokens, {cost}"
        return el("details", el("summary", said), self.timeline(session), class_="subagent", open=True)

    def _kept(self, item: Item) -> int | None:
        """The number of what is opened on demand; None where there is nothing."""
        if not self._contents or not item.bodies:
            return None
        self._chars += sum(len(body.text) for body in item.bodies)
        if self._chars > MAX_CHARS:
            return None
        self.bodies.append(item.bodies)
        return len(self.bodies) - 1


def _with_their_items(items: Sequence[Item]) -> dict[int, list[Item]]:
    """By place the requests that are shown beside an item: each beside the last thing before it of its message."""
    found: dict[int, list[Item]] = {}
    last: dict[str | None, int] = {}
    for at, item in enumerate(items):
        if item.kind != "step":
            last[item.message] = at
        elif item.message is not None and item.message in last and item.reason in _USUAL:
            found.setdefault(last[item.message], []).append(item)
        else:
            found[at] = [item]
    return found


def _spent(step: Item) -> Html:
    used = f"{step.tokens:,} tokens · {priced(step.cost, step.cost is None)}"
    return el("span", used, class_="spent", title=step.title)


def time_of(at: datetime) -> Html:
    """A moment of a session, to the second."""
    return el("time", at.strftime("%H:%M:%S"), datetime=at.isoformat(timespec="milliseconds"), class_="at")


def _badge(text: str, kind: str) -> Html:
    return el("span", text, class_=f"badge {kind}")


def _change(change: FileChange) -> Iterator[Html | str]:
    spans = ", ".join(f"{start}–{end}" if end > start else str(start) for start, end in change.spans[:12])  # noqa: RUF001
    more = f" and {len(change.spans) - 12} more places" if len(change.spans) > 12 else ""  # noqa: PLR2004
    yield el("span", change.path, class_="mono")
    if change.old_path:
        yield el("span", f" moved from {change.old_path}", class_="mono")
    yield f" {counted(change.lines, 'line')}: {spans}{more} · evidence: {change.method} "
    if change.undone:
        yield _badge("undone", "undone")


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
