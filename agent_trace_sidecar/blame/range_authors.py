"""Who wrote the lines that a range of commits adds: by the store, by records of a file, or by git notes."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Final, NamedTuple

import asyncpg

from agent_trace_sidecar.blame.blame import FileBlamer, projects_of
from agent_trace_sidecar.blame.lines import Line
from agent_trace_sidecar.blame.range_records import Lines, authors_in, costs_in, record_of
from agent_trace_sidecar.blame.range_share import UNKNOWN, LineAuthor, SessionCost, added_lines, shown_path
from agent_trace_sidecar.blame.stats import is_chosen
from agent_trace_sidecar.records.content import text_lines
from agent_trace_sidecar.records.trace import Reading, TraceRecord
from agent_trace_sidecar.workspace.checkout import Checkout, CheckoutError, ManyFiles

_SESSIONS: Final = """
SELECT session_id, title, cost::float8 AS cost FROM agent_trace_sessions WHERE session_id = $1
"""


class Added(NamedTuple):
    """The added lines of a range: the commit before it, its last one, and the numbers of the lines by path."""

    base: str
    commit: str
    lines: Mapping[str, Sequence[int]]


class Authors(NamedTuple):
    """Who wrote the added lines of each file, in their order, and what the sessions cost."""

    lines: dict[str, list[LineAuthor]]
    sessions: dict[str, SessionCost]
    is_recorded: bool = True
    """Something is recorded of the repository."""


def added_by(checkout: Checkout, wanted: str, paths: Sequence[str] | None = None) -> Added:
    """The lines that a range adds, as `git diff` has them.

    Args:
        checkout: the repository.
        wanted: `A..B`, or `A...B` for what B adds since it left A.
        paths: only these files and folders, from the repository's root.

    Raises:
        CheckoutError: it is not a range of this repository.
    """
    return added_between(checkout, *checkout.ends(wanted), paths)


def added_between(checkout: Checkout, base: str, head: str, paths: Sequence[str] | None = None) -> Added:
    """The lines that one commit has and another has not; see `added_by`."""
    lines = added_lines(*checkout.diff(base, head))
    return Added(base, head, {path: own for path, own in lines.items() if is_chosen(path, paths)})


async def authors_of(connection: asyncpg.Connection, checkout: Checkout, added: Added) -> Authors:
    """Read from the store who wrote the added lines.

    Raises:
        CheckoutError: git can't be run.
    """
    found: dict[str, list[LineAuthor]] = {}
    with ManyFiles(checkout, added.commit) as contents:
        asking = FileBlamer(connection, contents, await projects_of(connection, checkout), added.commit)
        for path, numbers in added.lines.items():
            content = content_of(contents, path, added.commit)
            lines = (await asking.about(shown_path(path), content)).lines if content is not None else []
            found[path] = [_author(lines[at - 1]) if at <= len(lines) else UNKNOWN for at in numbers]
    wrote = {one.session_id for own in found.values() for one in own if one.session_id}
    return Authors(found, await _sessions(connection, sorted(wrote)), asking.is_recorded or not found)


def authors_by_records(checkout: Checkout, added: Added, readings: Sequence[Reading]) -> Authors:
    """Who wrote the added lines by the records of a file, see `range_records`."""
    found: dict[str, list[LineAuthor]] = {}
    with ManyFiles(checkout, added.commit) as contents:
        for path, numbers in added.lines.items():
            known = authors_in(readings, path, added.commit, _text(contents, path, added.commit))
            found[path] = [known.get(at, UNKNOWN) for at in numbers]
    return Authors(found, costs_in(readings))


def authors_by_notes(checkout: Checkout, added: Added, notes: Mapping[str, Sequence[Reading]]) -> Authors:
    """Who wrote the added lines by the notes of the commits that added them.

    Raises:
        CheckoutError: git fails to list the commits.
    """

    @cache
    def known(commit: str, path: str) -> dict[int, LineAuthor]:
        return authors_in(notes[commit], path, commit, _text(checkout, path, commit)) if commit in notes else {}

    found: dict[str, list[LineAuthor]] = {}
    for path, numbers in added.lines.items():
        origins = checkout.origins(path, added.base, added.commit)
        lines = [known(one.commit, one.path).get(one.line, UNKNOWN) for one in origins]
        found[path] = [lines[at - 1] if at <= len(lines) else UNKNOWN for at in numbers]
    return Authors(found, costs_in(one for own in notes.values() for one in own))


async def record_for(
    connection: asyncpg.Connection, checkout: Checkout, added: Added, tool_version: str
) -> TraceRecord:
    """The record that names the authors of the added lines at the range's last commit.

    Raises:
        CheckoutError: git can't be run.
    """
    authors = await authors_of(connection, checkout, added)
    files = {
        path: Lines(_text(checkout, path, added.commit), dict(zip(numbers, authors.lines[path], strict=True)))
        for path, numbers in added.lines.items()
    }
    at = datetime.fromtimestamp(checkout.commit_time(added.commit) or 0, UTC)
    return record_of(added.commit, at, files, authors.sessions, tool_version)


def _text(contents: Checkout | ManyFiles, path: str, commit: str) -> list[bytes]:
    return text_lines(content_of(contents, path, commit) or b"")


def content_of(contents: Checkout | ManyFiles, path: str, commit: str) -> bytes | None:
    """A file's bytes; None where it is binary, or too large to be read."""
    try:
        content = contents.content(path, commit)
    except CheckoutError:
        return None
    return None if content is None or b"\0" in content else content


def _author(line: Line) -> LineAuthor:
    if line.contributor in {"ai", "mixed"}:
        return LineAuthor(line.contributor, line.model_id, line.session_id)
    return LineAuthor(line.contributor)


async def _sessions(connection: asyncpg.Connection, wanted: Iterable[str]) -> dict[str, SessionCost]:
    found: dict[str, SessionCost] = {}
    for session in wanted:
        row = await connection.fetchrow(_SESSIONS, session)
        found[session] = SessionCost(session, row["title"], row["cost"]) if row else SessionCost(session)
    return found
