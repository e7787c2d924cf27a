"""`stats`: how many of the lines that the AI wrote in a repository survive, and what they cost.

Written: the lines of recorded ranges, without lines that others had or of which only white space changed. Surviving:
what `blame` finds of it now, or at a revision; a line counts once, however often it was copied. What is neither
surviving nor changed is lost: deleted or rewritten by anyone, the AI included. Tokens and cost are those of all
sessions that worked in the repository (view `agent_trace_requests`), or, where paths are chosen, of those that wrote
there. They stand beside models, sessions and days only.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from agent_trace_sidecar.blame.blame import Blame, FileBlamer, placed, projects_of
from agent_trace_sidecar.blame.lines import Line
from agent_trace_sidecar.workspace.checkout import Checkout, CheckoutError

_WRITTEN: Final = """
SELECT record_id, model_id, session_id, path, tool, recorded_at, end_line - start_line + 1 AS lines
FROM agent_trace_ranges
WHERE project = ANY($1::text[]) AND contributor = 'ai' AND method <> 'fallback' AND voided_at IS NULL
"""
_SPENT: Final = """
SELECT model_id, finished_at, coalesce(input_tokens, 0) + coalesce(output_tokens, 0) + coalesce(reasoning_tokens, 0)
       + coalesce(cache_read_tokens, 0) + coalesce(cache_write_tokens, 0) AS tokens, cost, part_id
FROM agent_trace_requests WHERE session_id = $1
"""
_SESSIONS: Final = """
SELECT session_id FROM agent_trace_sessions
WHERE worktree = $2 OR worktree IN (
    SELECT worktree FROM agent_trace_file_states WHERE project = ANY($1::text[])
    UNION SELECT worktree FROM agent_trace_ranges WHERE project = ANY($1::text[]) AND worktree IS NOT NULL
)
"""
"""Those that worked in the repository, whether they wrote a line or not: what they cost is part of the answer."""
_FILES: Final = "SELECT DISTINCT path FROM agent_trace_file_states WHERE project = ANY($1::text[]) AND path <> ''"
_NO_COST: Final = {"path", "tool"}
"""A step's tokens belong to no file and no tool."""


class Group(msgspec.Struct):
    """The lines of one model, session, file, tool or day."""

    name: str
    written: int = 0
    living: int = 0
    """As they were written, but for white space and place."""
    changed: int = 0
    """Partly rewritten by a person."""
    lost: int = 0
    tokens: int | None = None
    cost: float | None = None
    """US dollars of the steps that have a price."""
    unpriced_steps: int = 0
    """Requests to a model without a price, which are not free."""
    cost_per_living_line: float | None = None


class Stats(msgspec.Struct):
    """The answer; the lines by author are those of the files that the store knows."""

    by: str
    revision: str | None
    files: int
    lines: dict[str, int]
    groups: list[Group]
    total: Group


async def stats(connection: asyncpg.Connection, paths: Sequence[Path], revision: str | None, by: str) -> Stats:
    """Count the lines of a repository.

    Args:
        connection: to the store.
        paths: files and folders to count; none means the repository of the working directory.
        revision: where the lines live; None for the files as they stand.
        by: model, session, path, tool or day.

    Raises:
        CheckoutError: git knows no such revision, or a file can't be read.
    """
    places = [path.resolve() for path in paths] or [Path.cwd()]
    checkout = await placed(connection, places[0] / "x")
    chosen = chosen_paths(checkout, places) if paths else None
    commit = checkout.commit(revision) if revision is not None else None
    projects = await projects_of(connection, checkout)
    counted = _Counted(by)
    written = [row for row in await connection.fetch(_WRITTEN, projects) if is_chosen(row["path"], chosen)]
    for row in written:
        counted.written(row, row["lines"])
    asking = FileBlamer(connection, checkout, projects, commit)
    known = {row["path"] for row in await connection.fetch(_FILES, projects)}
    files = [path for path in await _files(asking, checkout, commit, known) if is_chosen(path, chosen)]
    unearned: dict[tuple[UUID, str], int] = {}
    for path in files:
        found = await _blamed(asking, checkout, commit, path)
        if found is not None:
            counted.lives(path, found.lines)
            unearned.update(found.unearned)
    for row in written if unearned else ():
        counted.written(row, -unearned.pop((row["record_id"], row["path"]), 0))
    if by not in _NO_COST:
        if chosen is None:
            sessions = await connection.fetch(_SESSIONS, projects, str(checkout.root))
            counted.sessions |= {row["session_id"] for row in sessions}
        for session in sorted(counted.sessions):
            for row in await connection.fetch(_SPENT, session):
                counted.spent(session, row)
    return counted.result(commit, len(files))


def chosen_paths(checkout: Checkout, places: Sequence[Path]) -> list[str] | None:
    """The paths from the repository's root; None for all of it."""
    if any(not place.is_relative_to(checkout.root) for place in places):
        raise CheckoutError("all paths must be in one repository.")
    names = [checkout.relative(place) for place in places]
    return names if "." not in names else None


def is_chosen(path: str, chosen: Sequence[str] | None) -> bool:
    """Whether a path is one of those that were chosen, or inside of one; None chooses all."""
    return chosen is None or any(path == one or path.startswith(one + "/") for one in chosen)


async def _files(asking: FileBlamer, checkout: Checkout, commit: str | None, known: set[str]) -> list[str]:
    """The files that recorded lines may stand in: those that were recorded, and those that hold some of their lines."""
    if not checkout.is_git or not known:
        return sorted(known)  # where nothing was recorded, no file need be read
    others = [path for path in checkout.files(commit) if path not in known]
    contents = ((path, _content(checkout, commit, path) or b"") for path in others)
    return sorted(known.union(await asking.may_hold(contents)))


def _content(checkout: Checkout, commit: str | None, path: str) -> bytes | None:
    """A file's bytes; None where it can't be read, as of a file that is too large."""
    try:
        return checkout.content(path, commit)
    except CheckoutError:
        return None


async def _blamed(asking: FileBlamer, checkout: Checkout, commit: str | None, path: str) -> Blame | None:
    content = _content(checkout, commit, path)
    return None if content is None or b"\0" in content else await asking.about(path, content)


class _Counted:
    """Adds up by one criterion."""

    def __init__(self, by: str) -> None:
        self._by = by
        self._groups: dict[str, Group] = {}
        self._authors: dict[str, int] = defaultdict(int)
        self._seen: set[tuple[object, str | None, int | None]] = set()
        self.sessions: set[str] = set()

    def written(self, row: asyncpg.Record, lines: int) -> None:
        """Take in a range with so many lines."""
        group = self._group(row["model_id"], row["session_id"], row["path"], row["tool"], row["recorded_at"])
        group.written += lines
        if row["session_id"]:
            self.sessions.add(row["session_id"])

    def lives(self, path: str, lines: Iterable[Line]) -> None:
        """Take in the lines of a file."""
        for line in lines:
            self._authors[line.contributor] += 1
            origin = (line.record_id, line.origin_path, line.origin_line)
            if line.contributor not in {"ai", "mixed"} or origin in self._seen:
                continue
            self._seen.add(origin)
            group = self._group(line.model_id, line.session_id, line.origin_path or path, line.tool, line.at)
            if line.contributor == "ai":
                group.living += 1
            else:
                group.changed += 1

    def spent(self, session: str, row: asyncpg.Record) -> None:
        """Take in a request to a model."""
        group = self._group(row["model_id"], session, None, None, row["finished_at"])
        group.tokens = (group.tokens or 0) + int(row["tokens"])
        if row["cost"] is None:
            group.unpriced_steps += row["part_id"] is not None
        else:
            group.cost = float(Decimal(str(group.cost or 0)) + row["cost"])

    def result(self, commit: str | None, files: int) -> Stats:
        """All of it."""
        groups = sorted(self._groups.values(), key=lambda one: (-one.living, -one.written, one.name))
        total = Group("all")
        for one in groups:
            _finish(one)
            total.written, total.living = total.written + one.written, total.living + one.living
            total.changed += one.changed
            total.unpriced_steps += one.unpriced_steps
            if one.tokens is not None:
                total.tokens = (total.tokens or 0) + one.tokens
            if one.cost is not None:
                total.cost = float(Decimal(str(total.cost or 0)) + Decimal(str(one.cost)))
        _finish(total)
        authors = {name: self._authors[name] for name in ("ai", "mixed", "human", "unknown")}
        return Stats(self._by, commit, files, authors, groups, total)

    def _group(
        self, model: str | None, session: str | None, path: str | None, tool: str | None, at: datetime | None
    ) -> Group:
        names: dict[str, Callable[[], Any]] = {
            "model": lambda: model,
            "session": lambda: session,
            "path": lambda: path,
            "tool": lambda: tool,
            "day": lambda: at.date().isoformat() if at else None,
        }
        name = names[self._by]() or "unknown"
        return self._groups.setdefault(name, Group(name))


def _finish(group: Group) -> None:
    group.lost = max(0, group.written - group.living - group.changed)
    if group.cost is not None and group.living:
        group.cost_per_living_line = round(group.cost / group.living, 6)
