"""`stats --range`: how many of the lines that a range of commits adds are the AI's; pure.

`git diff` determines which lines are added. Who wrote them comes from `range_authors` or `range_records`; a line of
which neither knows anything is `unknown`. The AI's share counts the lines that a model wrote in whole (`ai`) or in part
(`mixed`).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final, Literal, NamedTuple

import msgspec

Contributor = Literal["ai", "mixed", "human", "unknown"]
CONTRIBUTORS: Final[tuple[Contributor, ...]] = ("ai", "mixed", "human", "unknown")
BY_MODEL: Final = frozenset({"ai", "mixed"})
UNKNOWN_MODEL: Final = "unknown"

_HUNK: Final = re.compile(rb"@@ -\d+(?:,\d+)? \+(\d+)(?:,(\d+))? @@")
_SECTION: Final = b"diff --git "
_FILE_MODES: Final = frozenset({b"100644", b"100755"})
"""Of regular files: a link's target and a submodule's commit are no lines of code."""
_TYPE_CHANGED: Final = b"T"


class LineAuthor(NamedTuple):
    """Who wrote a line; model and session are known only of lines that a model had a part in."""

    contributor: Contributor
    model_id: str | None = None
    session_id: str | None = None


UNKNOWN: Final = LineAuthor("unknown")


class SessionCost(msgspec.Struct, frozen=True):
    """A session and what all of it cost in US dollars; None where there is no price."""

    session_id: str
    title: str | None = None
    cost: float | None = None


class ModelLines(msgspec.Struct, frozen=True):
    """The lines that a model wrote, in whole or in part."""

    model_id: str
    lines: int


class FileShare(msgspec.Struct, frozen=True):
    """The lines that the range adds to a file."""

    path: str
    added: int
    ai: int
    mixed: int
    human: int
    unknown: int


class SessionShare(msgspec.Struct, frozen=True):
    """A session that wrote some of the lines, in whole or in part; the cost is that of the whole session."""

    session_id: str
    title: str | None
    lines: int
    cost: float | None


class RangeShare(msgspec.Struct, frozen=True):
    """The answer; its fields are those of the JSON form."""

    range: str
    added: int
    ai: int
    mixed: int
    human: int
    unknown: int
    by_model: list[ModelLines]
    by_file: list[FileShare]
    sessions: list[SessionShare]
    cost: float | None
    """Of the sessions, in US dollars; None where no price is known."""

    def percent(self, lines: int) -> float:
        """The share of some of the added lines, 0 to 100."""
        return 100 * lines / self.added if self.added else 0.0

    @property
    def ai_percent(self) -> float:
        """The share of the lines that a model wrote, in whole or in part."""
        return self.percent(self.ai + self.mixed)


def added_lines(raw: bytes, patch: bytes) -> dict[str, list[int]]:
    """The numbers of the added lines of each file, by path; files without such lines are left out.

    Args:
        raw: of `git diff --raw -z`, which has the paths as they are.
        patch: of the same `git diff --unified=0`, which has a section for each file, in the same order.
    """
    sections = iter(_sections(patch))
    added: dict[str, list[int]] = {}
    for path, mode, status in _changed(raw):
        lines = next(sections, [])
        if status == _TYPE_CHANGED:  # two sections: the old one is deleted, the new one created
            lines = next(sections, [])
        if lines and mode in _FILE_MODES:
            added[path] = lines
    return added


def share(wanted: str, authors: Mapping[str, Sequence[LineAuthor]], sessions: Mapping[str, SessionCost]) -> RangeShare:
    """Add up.

    Args:
        wanted: the range as the user spelt it.
        authors: of the added lines of each file, by path.
        sessions: what is known of the sessions, by id.
    """
    every = [one for own in authors.values() for one in own]
    counts = Counter(one.contributor for one in every)
    written = [one for one in every if one.contributor in BY_MODEL]
    models = Counter(one.model_id or UNKNOWN_MODEL for one in written)
    lines = Counter(one.session_id for one in written if one.session_id)
    shares = [_session(sessions.get(name) or SessionCost(name), count) for name, count in _sorted(lines)]
    costs = [Decimal(str(one.cost)) for one in shares if one.cost is not None]
    return RangeShare(
        range=wanted,
        added=len(every),
        **{name: counts[name] for name in CONTRIBUTORS},
        by_model=[ModelLines(name, count) for name, count in _sorted(models)],
        by_file=[_file(path, own) for path, own in sorted(authors.items())],
        sessions=shares,
        cost=float(sum(costs)) if costs else None,
    )


def _session(known: SessionCost, lines: int) -> SessionShare:
    return SessionShare(known.session_id, known.title, lines, known.cost)


def _file(path: str, authors: Iterable[LineAuthor]) -> FileShare:
    counts = Counter(one.contributor for one in authors)
    return FileShare(shown_path(path), counts.total(), **{name: counts[name] for name in CONTRIBUTORS})


def _sorted(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))


def shown_path(path: str) -> str:
    """The path as the store has it, and as JSON can: bytes that are not UTF-8 are replaced."""
    return path.encode(errors="surrogateescape").decode(errors="replace")


def _changed(raw: bytes) -> Iterable[tuple[str, bytes, bytes]]:
    """Yield path, mode and status of each file after the change."""
    fields = iter(raw.split(b"\0"))
    for head in fields:
        if not head:
            return
        _, mode, _, _, status = head.split(b" ")
        path = next(fields)
        if status[:1] in {b"R", b"C"}:
            path = next(fields)
        yield path.decode(errors="surrogateescape"), mode, status[:1]


def _sections(patch: bytes) -> list[list[int]]:
    """The numbers of the added lines of each section. Lines of content begin with +, - or a backslash."""
    found: list[list[int]] = []
    for line in patch.split(b"\n"):
        if line.startswith(_SECTION):
            found.append([])
        elif found and (hunk := _HUNK.match(line)):
            start, count = int(hunk[1]), int(hunk[2] or 1)
            found[-1].extend(range(start, start + count))
    return found
