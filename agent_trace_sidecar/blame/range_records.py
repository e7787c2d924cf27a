"""Authors of lines as Agent Trace records of a commit, and back: for places that have no database; pure.

A record names lines by their numbers at its commit, each range with its hash. Where the commit is another by now (a
rebase, an amend), a range is searched by its hash, and has to be found once and to hold more than boilerplate. What
is not found, and what records contradict each other about, is unknown.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import uuid5

from agent_trace_sidecar.blame.boilerplate import is_boilerplate
from agent_trace_sidecar.blame.range_share import BY_MODEL, UNKNOWN, LineAuthor, SessionCost, shown_path
from agent_trace_sidecar.records.content import content_hash
from agent_trace_sidecar.records.fingerprints import is_evidence
from agent_trace_sidecar.records.foreign import session_of
from agent_trace_sidecar.records.foreign_hashes import agrees
from agent_trace_sidecar.records.record import RECORD_NAMESPACE
from agent_trace_sidecar.records.trace import (
    Contributor,
    Conversation,
    File,
    Range,
    Reading,
    Tool,
    TraceRecord,
    Vcs,
    session_url,
)

TOOL: Final = "agent-trace-sidecar"
_VERSION: Final = "0.1.0"
_COSTS: Final = "io.opencode.session_costs"
_MAX_SEARCHED_LINES: Final = 5_000_000
"""Lines that are hashed to find the ranges of one file at another commit: about a second."""


class Lines(NamedTuple):
    """A file at a commit: its content, and the authors of some of its lines."""

    text: Sequence[bytes]
    authors: Mapping[int, LineAuthor]
    """By number, ascending."""


def record_of(
    commit: str, at: datetime, files: Mapping[str, Lines], sessions: Mapping[str, SessionCost], tool_version: str
) -> TraceRecord:
    """The record that names the authors of lines at a commit; lines of unknown authors are left out.

    The same lines at the same commit give the same id.
    """
    entries = [File(shown_path(path), _conversations(lines)) for path, lines in files.items()]
    named = tuple(one for one in entries if one.conversations)
    costs = {name: one.cost for name, one in sorted(sessions.items()) if one.cost is not None}
    return TraceRecord(
        version=_VERSION,
        id=uuid5(RECORD_NAMESPACE, f"{TOOL}\n{commit}\n{named}"),
        timestamp=at,
        files=named,
        vcs=Vcs("git", commit),
        tool=Tool(TOOL, tool_version),
        metadata={_COSTS: costs} if costs else None,
    )


def _conversations(lines: Lines) -> tuple[Conversation, ...]:
    spans: dict[LineAuthor, list[Range]] = {}
    for author, start, end in _runs(lines.authors):
        if author.contributor != "unknown":
            spans.setdefault(author, []).append(Range(start, end, content_hash(lines.text[start - 1 : end])))
    return tuple(
        Conversation(
            tuple(ranges),
            session_url(author.session_id) if author.session_id else None,
            Contributor(author.contributor, author.model_id),
        )
        for author, ranges in spans.items()
    )


def _runs(authors: Mapping[int, LineAuthor]) -> Iterator[tuple[LineAuthor, int, int]]:
    """Neighbouring lines of one author: the author, the first and the last line."""
    run: tuple[LineAuthor, int, int] | None = None
    for at, author in authors.items():
        if run is not None and run[0] == author and run[2] == at - 1:
            run = (author, run[1], at)
            continue
        if run is not None:
            yield run
        run = (author, at, at)
    if run is not None:
        yield run


def authors_in(readings: Iterable[Reading], path: str, commit: str, text: Sequence[bytes]) -> dict[int, LineAuthor]:
    """What records claim of the lines of a file at a commit, by number.

    Args:
        readings: the records.
        path: the file's.
        commit: the commit at which the file has this content.
        text: the content's lines.
    """
    claims = [claim for one in readings for claim in _claims(one, shown_path(path), commit)]
    found = _found_once(text, [one.span for one in claims if not one.is_own])
    authors: dict[int, LineAuthor] = {}
    for author, span, is_own in claims:
        start = _own_start(text, span) if is_own else found.get(_Wanted.of(span), 0)
        for at in range(start, start + span.end_line - span.start_line + 1) if start else ():
            authors[at] = author if authors.get(at, author) == author else UNKNOWN
    return authors


class _Claim(NamedTuple):
    """A range of a record, and its author."""

    author: LineAuthor
    span: Range
    is_own: bool
    """The record names this very commit."""


def _claims(reading: Reading, path: str, commit: str) -> Iterator[_Claim]:
    """The ranges of a file."""
    vcs = reading.record.vcs
    is_own = vcs is not None and vcs.revision == commit
    for file, entry_of_file in zip(reading.record.files, reading.document["files"], strict=True):
        if file.path != path:
            continue
        for conversation, entry in zip(file.conversations, entry_of_file["conversations"], strict=True):
            session = session_of(reading.document, entry_of_file, entry, conversation.url)
            for span in conversation.ranges:
                yield _Claim(_author(span.contributor or conversation.contributor, session), span, is_own)


def _author(contributor: Contributor | None, session: str | None) -> LineAuthor:
    if contributor is None or contributor.type not in BY_MODEL:
        return LineAuthor(contributor.type if contributor else "unknown")
    return LineAuthor(contributor.type, contributor.model_id, session)


def _own_start(text: Sequence[bytes], span: Range) -> int:
    """The first line of a range of this very content; 0 if it does not fit."""
    own = text[span.start_line - 1 : span.end_line]
    if not own or len(own) != span.end_line - span.start_line + 1:
        return 0
    return 0 if span.content_hash and agrees(span.content_hash, own) is False else span.start_line


class _Wanted(NamedTuple):
    """The key that a range is searched by."""

    size: int
    content_hash: str | None

    @classmethod
    def of(cls, span: Range) -> "_Wanted":
        return cls(span.end_line - span.start_line + 1, span.content_hash)


def _found_once(text: Sequence[bytes], spans: Iterable[Range]) -> dict[_Wanted, int]:
    """The first lines of ranges that stand in a content once, and hold more than boilerplate; short ones first."""
    wanted = {_Wanted.of(one) for one in spans if one.content_hash}
    found: dict[_Wanted, int] = {}
    left = _MAX_SEARCHED_LINES
    for count in sorted({one.size for one in wanted if 0 < one.size <= len(text)}):
        places = range(len(text) - count + 1)
        left -= len(places) * count
        if left < 0:
            break
        for at in places:
            key = _Wanted(count, content_hash(text[at : at + count]))
            if key in wanted:
                found[key] = 0 if key in found or not any(map(_is_distinct, text[at : at + count])) else at + 1
    return found


def _is_distinct(line: bytes) -> bool:
    return is_evidence(line) and not is_boilerplate(line)


def costs_in(readings: Iterable[Reading]) -> dict[str, SessionCost]:
    """What sessions cost, by their records: for a session that continued, the latest and highest sum."""
    found: dict[str, SessionCost] = {}
    for reading in readings:
        costs: Any = (reading.record.metadata or {}).get(_COSTS)
        for name, cost in costs.items() if isinstance(costs, Mapping) else ():
            known = found.get(name, SessionCost(name)).cost or 0.0
            if isinstance(cost, int | float) and known <= cost < math.inf:
                found[name] = SessionCost(name, cost=float(cost))
    return found
