"""Reads what the database knows of some files, as changes in the order in which they were made."""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from agent_trace_sidecar.blame.authors import PRUNED, UNCOVERED, Origin
from agent_trace_sidecar.blame.history import Change, Doubt, Span
from agent_trace_sidecar.blame.moves import Removed
from agent_trace_sidecar.opencode.wire import Wrapped
from agent_trace_sidecar.records.fingerprints import path_key, tokens_of
from agent_trace_sidecar.records.rows import UNCOVERED as UNCOVERED_KIND

FALLBACK: Final = "fallback"
"""The method of ranges that are a guess; they count only on request."""

_STATES: Final = """
SELECT record_id, recorded_at, worktree, path, old_path, kind, before_hashes, after_hashes
FROM agent_trace_file_states WHERE project = ANY($1::text[]) AND path = ANY($2::text[])
"""
_RANGES: Final = """
SELECT record_id, recorded_at, path, start_line, end_line, content_hash, contributor, model_id, session_id, method,
       message_id, call_id, tool, line_hashes, line_tokens, voided_at IS NOT NULL AS void
FROM agent_trace_ranges WHERE project = ANY($1::text[]) AND path = ANY($2::text[])
ORDER BY start_line
"""
_WITH_KEYS: Final = """
SELECT path, line_keys FROM agent_trace_file_states WHERE line_keys && $1::bigint[] AND NOT path = ANY($2::text[])
LIMIT 2000
"""
_WRITTEN: Final = """
SELECT DISTINCT key FROM agent_trace_file_states, unnest(line_keys) AS key
WHERE line_keys && $1::bigint[] AND key = ANY($1::bigint[])
"""
_UNCOVERED: Final = """
SELECT recorded_at, old_path FROM agent_trace_file_states
WHERE project = ANY($1::text[]) AND path = '' ORDER BY recorded_at DESC LIMIT 10000
"""
_PRUNED: Final = """
SELECT covered_key, first_at, last_at FROM agent_trace_pruned WHERE path_key = ANY($1::bigint[])
"""
_FIRST_PRUNED: Final = "SELECT min(first_at) FROM agent_trace_pruned"
_PRUNED_KEYS: Final = """
SELECT path_key, min(first_at) AS first_at FROM agent_trace_pruned WHERE path_key = ANY($1::bigint[]) GROUP BY path_key
"""
_WORKTREES: Final = """
SELECT DISTINCT p.value AS worktree FROM agent_trace_sources s, jsonb_each_text(s.projects) p
WHERE s.projects ?| $1::text[] AND p.key = ANY($1::text[])
"""
_REPOSITORIES: Final = """
SELECT DISTINCT r.worktree, r.url
FROM agent_trace_sources s
CROSS JOIN LATERAL (
    SELECT key, coalesce(value, '') FROM jsonb_each_text(s.repositories)
    UNION ALL SELECT value, '' FROM jsonb_each_text(s.projects)
) AS r (worktree, url)
WHERE s.kind = 'instance' AND strpos(concat(s.repositories, s.projects), $1) > 0
"""
_PROJECTS: Final = """
SELECT DISTINCT p.key AS project FROM agent_trace_sources s, jsonb_each_text(s.projects) p
WHERE s.kind = 'instance' AND p.value = ANY($1::text[])
"""
_RECORDED_ELSEWHERE: Final = """
SELECT s.project, s.worktree FROM agent_trace_file_states s
WHERE s.path = $1 AND s.project ~ '^[0-9a-f]{40,64}$' AND s.project IN (
    SELECT jsonb_object_keys(r.projects) FROM agent_trace_sources r WHERE r.kind = 'instance'
)
ORDER BY s.recorded_at DESC LIMIT 1
"""
_WATCHED: Final = """
SELECT EXISTS (SELECT FROM agent_trace_file_states
               WHERE project = ANY($1::text[]) AND (after_hashes IS NOT NULL OR kind = 'uncovered'))
    OR EXISTS (SELECT FROM agent_trace_sources
               WHERE projects ?| $1::text[] AND kind = 'instance' AND os_user IS NOT NULL)
"""
_TITLES: Final = """
SELECT DISTINCT ON (session_id) session_id, title
FROM agent_trace_events e
CROSS JOIN LATERAL (SELECT e.payload #> '{input,event,properties}' AS properties) p
CROSS JOIN LATERAL (SELECT coalesce(p.properties #>> '{info,title}', p.properties ->> 'title') AS title) t
WHERE session_id = ANY($1::text[]) AND event_name IN ('session.created', 'session.updated', 'session.renamed')
  AND title <> ''
ORDER BY session_id, occurred_at DESC
"""
_REVISIONS: Final = "SELECT record_id, vcs_revision FROM agent_trace_records WHERE record_id = ANY($1::uuid[])"
_REMOVED: Final = """
SELECT r.session_id, r.record_id, r.recorded_at, s.path, d.start_line - 1 AS start,
       substring(s.before_hashes FROM 8 * d.start_line - 7 FOR 8 * (d.end_line - d.start_line + 1)) AS packed
FROM agent_trace_records r
CROSS JOIN LATERAL jsonb_path_query(r.record, 'lax $.metadata."io.opencode.deleted"[*]') AS one (deleted)
CROSS JOIN LATERAL jsonb_to_record(one.deleted) AS d (path text, start_line int, end_line int)
JOIN agent_trace_file_states s USING (source_id, record_id, recorded_at)
WHERE r.session_id = ANY($1::text[]) AND s.project = ANY($2::text[]) AND s.path = d.path
  AND s.before_hashes IS NOT NULL AND r.contributor = 'ai'
ORDER BY r.recorded_at DESC LIMIT 20000
"""
_WRAPPED: Final = """
SELECT r.record_id, one.file::text AS file
FROM agent_trace_records r
CROSS JOIN LATERAL jsonb_path_query(
    r.record, 'lax $.metadata."io.opencode.files"[*] ? (exists (@.wrapped))'
) AS one (file)
WHERE r.record_id = ANY($1::uuid[])
"""
_PROJECT: Final = "SELECT project FROM agent_trace_file_states WHERE project = $1 LIMIT 1"
_MAX_RENAMES: Final = 8
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class Stored(NamedTuple):
    """One record's change to one file."""

    at: datetime
    record_id: UUID
    change: Change


class Uncovered(NamedTuple):
    """A call that may have changed any file unseen, but for those in the folder that a snapshot covers."""

    at: datetime
    covered: str | None

    def reaches(self, path: str) -> bool:
        """Whether it may have changed this file."""
        return self.covered is None or not path.startswith(self.covered + "/")


class Period(NamedTuple):
    """A time in which calls whose records are pruned may have changed a file, and what it was called then."""

    first: datetime
    last: datetime
    path: str


class Found(NamedTuple):
    """A file in which some of the searched lines were written, and which of them."""

    path: str
    keys: frozenset[int]


class _WrappedFile(msgspec.Struct):
    """A file of a record's metadata, see `record._file_metadata`."""

    path: str
    wrapped: tuple[Wrapped, ...]


async def changes(
    connection: asyncpg.Connection, projects: Sequence[str], paths: Iterable[str], *, include_fallback: bool
) -> list[Stored]:
    """All changes to some files and to those that they were moved from, oldest first."""
    known: set[str] = set()
    states: list[asyncpg.Record] = []
    ranges: list[asyncpg.Record] = []
    wanted = set(paths)
    for _ in range(_MAX_RENAMES):
        if not wanted:
            break
        known |= wanted
        fresh = await connection.fetch(_STATES, projects, sorted(wanted))
        ranges += await connection.fetch(_RANGES, projects, sorted(wanted))
        states += fresh
        wanted = {row["old_path"] for row in fresh if row["old_path"]} - known
    stored = _joined(states, ranges, include_fallback=include_fallback)
    return _in_order(await _with_wrapped(connection, stored))


async def _with_wrapped(connection: asyncpg.Connection, stored: Sequence[Stored]) -> list[Stored]:
    """The same with the blocks of lines that calls only wrapped anew."""
    known = (one for one in stored if one.change.before and one.change.after)
    rows = await connection.fetch(_WRAPPED, sorted({one.record_id for one in known}))
    files = [(row["record_id"], msgspec.json.decode(row["file"], type=_WrappedFile)) for row in rows]
    found = {(record_id, file.path): file.wrapped for record_id, file in files}
    return [
        one._replace(change=one.change._replace(wrapped=found.get((one.record_id, one.change.path), ())))
        for one in stored
    ]


async def other_names(connection: asyncpg.Connection, projects: Sequence[str], url: str | None) -> list[str]:
    """What else a repository was called when it was recorded: before its first commit, or with another one.

    Args:
        connection: to the store.
        projects: what it is called here.
        url: of its remote.
    """
    worktrees = {row["worktree"] for row in await connection.fetch(_WORKTREES, projects)}
    found = set(worktrees)
    if url is not None:
        wanted = same_place(url)
        rows = await connection.fetch(_REPOSITORIES, wanted.rpartition("/")[2])
        places = {row["worktree"] for row in rows if wanted in {same_place(row["url"]), row["worktree"]}}
        found |= places | {row["project"] for row in await connection.fetch(_PROJECTS, sorted(places | {wanted}))}
    return sorted(found - set(projects))


async def recorded_elsewhere(connection: asyncpg.Connection, path: str) -> tuple[str, str] | None:
    """The id and the folder of a repository in which a file of this path was recorded last."""
    row = await connection.fetchrow(_RECORDED_ELSEWHERE, path)
    return (row["project"], row["worktree"]) if row else None


def same_place(url: str) -> str:
    """A remote's URL without what may differ between two clones: scheme, user, port, `.git`, a slash at its end."""
    bare = re.sub(r"^(?:[\w+.-]+://)?(?:[^/@]*@)?", "", url.strip())
    bare = re.sub(r"^([\w.-]+):(?:\d+/)?(?!/)", r"\1/", bare)
    return bare.rstrip("/").removesuffix(".git").rstrip("/")


async def uncovered(connection: asyncpg.Connection, projects: Sequence[str]) -> list[Uncovered]:
    """When calls may have changed any file of a project unseen, the youngest ones, oldest first."""
    rows = await connection.fetch(_UNCOVERED, projects)
    return [Uncovered(row["recorded_at"], row["old_path"]) for row in reversed(rows)]


async def is_any_pruned(connection: asyncpg.Connection) -> bool:
    """Whether records of any file are pruned: a query that saves one for each file, where there are none."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM agent_trace_pruned)"))


async def pruned(connection: asyncpg.Connection, projects: Sequence[str], names: Iterable[str]) -> list[Period]:
    """When calls whose records are pruned may have changed a file of a project by its names, the earliest first."""
    periods = []
    for name in names:
        folders = [str(folder) for folder in PurePosixPath(name).parents]
        covered = {path_key(project, folder) for project in projects for folder in folders}
        keys = [path_key(project, one) for project in projects for one in ("", name)]
        rows = await connection.fetch(_PRUNED, keys)
        periods += [Period(row["first_at"], row["last_at"], name) for row in rows if row["covered_key"] not in covered]
    return sorted(periods)


async def first_pruned(connection: asyncpg.Connection) -> datetime | None:
    """When the first of all calls began whose records are pruned."""
    at: datetime | None = await connection.fetchval(_FIRST_PRUNED)
    return at


async def pruned_keys(connection: asyncpg.Connection, keys: Sequence[int]) -> dict[int, datetime]:
    """When calls whose records are pruned began in files, by those of some keys (`fingerprints.path_key`)."""
    return {row["path_key"]: row["first_at"] for row in await connection.fetch(_PRUNED_KEYS, keys)}


async def is_watched(connection: asyncpg.Connection, projects: Sequence[str]) -> bool:
    """Whether a project's files were observed, by a run that may have changed none: imports only describe lines."""
    return bool(await connection.fetchval(_WATCHED, projects))


async def titles(connection: asyncpg.Connection, sessions: Sequence[str]) -> dict[str, str]:
    """The titles of some sessions, as they were last; one that has none is left out."""
    rows = await connection.fetch(_TITLES, sessions) if sessions else []
    return {row["session_id"]: row["title"] for row in rows if row["title"]}


async def revisions(connection: asyncpg.Connection, records: Iterable[UUID]) -> dict[UUID, str | None]:
    """Where the repository stood at each of some records."""
    rows = await connection.fetch(_REVISIONS, sorted(records))
    return {row["record_id"]: row["vcs_revision"] for row in rows}


async def removed(connection: asyncpg.Connection, projects: Sequence[str], sessions: Iterable[str]) -> list[Removed]:
    """The blocks of lines that calls of some sessions took out of files of a project, of very many the youngest."""
    rows = await connection.fetch(_REMOVED, sorted(sessions), projects)
    return [
        Removed(row["record_id"], row["session_id"], row["recorded_at"], row["path"], row["start"], row["packed"])
        for row in rows
        if row["packed"]
    ]


async def recorded_project(connection: asyncpg.Connection, folders: Sequence[str]) -> str | None:
    """The first of some folders that is a project without a repository."""
    for folder in folders:
        if await connection.fetchval(_PROJECT, folder) is not None:
            return folder
    return None


async def written_elsewhere(connection: asyncpg.Connection, keys: Sequence[int], paths: Sequence[str]) -> list[Found]:
    """Other files in which lines with some of these keys (see `fingerprints.line_keys`) were written."""
    wanted = set(keys)
    found: dict[str, set[int]] = defaultdict(set)
    async with connection.transaction(readonly=True):
        # The planner takes thousands of keys for ones that are in every row; each is in next to none.
        await connection.execute("SET LOCAL enable_seqscan = off")
        rows = await connection.fetch(_WITH_KEYS, keys, paths)
    for row in rows:
        found[row["path"]] |= wanted.intersection(row["line_keys"])
    ordered = sorted(found.items(), key=lambda one: (-len(one[1]), one[0]))
    return [Found(path, frozenset(own)) for path, own in ordered]


async def written(connection: asyncpg.Connection, keys: Sequence[int]) -> set[int]:
    """Those of some keys under which a line was written anywhere."""
    async with connection.transaction(readonly=True):
        await connection.execute("SET LOCAL enable_seqscan = off")  # as above
        return {row["key"] for row in await connection.fetch(_WRITTEN, keys)}


def _joined(
    states: Iterable[asyncpg.Record], ranges: Iterable[asyncpg.Record], *, include_fallback: bool
) -> list[Stored]:
    """Give each state its ranges; ranges without a state are a change whose file is not known."""
    own: dict[tuple[UUID, str], list[asyncpg.Record]] = defaultdict(list)
    for row in ranges:
        own[row["record_id"], row["path"]].append(row)
    stored = []
    for row in states:
        rows = own.pop((row["record_id"], row["path"]), [])
        if rows and all(one["void"] for one in rows):
            continue
        stored.append(_stored(row, rows, include_fallback=include_fallback))
    stored.extend(
        _stored(None, rows, include_fallback=include_fallback)
        for rows in own.values()
        if not all(one["void"] for one in rows)
    )
    return stored


def _stored(state: asyncpg.Record | None, rows: Sequence[asyncpg.Record], *, include_fallback: bool) -> Stored:
    live = [row for row in rows if not row["void"]]
    row = state or live[0]
    if state and state["kind"] == UNCOVERED_KIND:
        return _doubt(Doubt(state["recorded_at"], UNCOVERED, state["path"]), state["path"], state["worktree"])
    change = Change(
        worktree=state["worktree"] if state else "",
        path=row["path"],
        old_path=state["old_path"] if state else None,
        before=state["before_hashes"] if state else None,
        after=state["after_hashes"] if state else None,
        spans=tuple(_span(one, include_fallback=include_fallback) for one in live),
        record_id=row["record_id"],
    )
    return Stored(row["recorded_at"], row["record_id"], change)


def in_doubt(
    stored: Sequence[Stored], path: str, calls: Sequence[Uncovered], periods: Sequence[Period] = ()
) -> list[Stored]:
    """The same with what may have changed a file unseen: the first call and period after each of its states.

    Args:
        stored: the changes of some files, oldest first.
        path: the file.
        calls: those that no snapshot covers, oldest first.
        periods: of calls whose records are pruned, the earliest first.
    """
    reaching = [one.at for one in calls if one.reaches(path)]
    if not reaching and not periods:
        return list(stored)
    names = recorded_names(stored, path)
    states = [one for one in stored if one.change.path in names and one.change.after is not None]
    doubts = []
    for at in {_NEVER, *(one.at for one in states)}:
        doubts += [Doubt(one, UNCOVERED, path) for one in reaching[bisect_right(reaching, at) :][:1]]
        doubts += [Doubt(max(one.first, at), PRUNED, one.path) for one in periods if one.last > at][:1]
    added = []
    for doubt in doubts:
        after = (one.change.old_path or one.change.path for one in states if one.at > doubt.since)
        following = next(after, path)
        added.append(_doubt(doubt, following))
    return sorted((*stored, *added), key=lambda one: one.at)


def _doubt(doubt: Doubt, path: str, worktree: str = "") -> Stored:
    return Stored(doubt.since, UUID(int=0), Change(worktree, path, None, None, None, (), doubt))


def recorded_names(stored: Iterable[Stored], path: str) -> set[str]:
    """What a file has been called in its recorded states."""
    names = {path}
    for one in sorted(stored, key=lambda one: one.at, reverse=True):
        if one.change.path in names and one.change.old_path:
            names.add(one.change.old_path)
    return names


def _span(row: asyncpg.Record, *, include_fallback: bool) -> Span:
    return Span(
        row["start_line"],
        row["end_line"],
        origin(row),
        tuple(tokens_of(row["line_tokens"] or b"")),
        row["line_hashes"],
        excluded=row["method"] == FALLBACK and not include_fallback,
    )


def origin(row: asyncpg.Record) -> Origin:
    """The call that a range belongs to."""
    return Origin(
        row["record_id"],
        row["recorded_at"],
        row["contributor"],
        row["method"],
        row["model_id"],
        row["session_id"],
        row["message_id"],
        row["call_id"],
        row["tool"],
    )


def _in_order(stored: Iterable[Stored]) -> list[Stored]:
    """By time; of changes to a file at the same time that one first whose file the one before has left.

    A doubt at the same time comes last: what a call leaves behind it is of after its change.
    """
    waiting = sorted(stored, key=lambda one: (one.at, one.change.doubt is not None, one.record_id))
    ordered: list[Stored] = []
    last: dict[tuple[str, str], bytes | None] = {}
    while waiting:
        same = [one for one in waiting[:50] if one.at == waiting[0].at]
        known = (one for one in same if one.change.doubt is None)
        following = (one for one in known if one.change.before == last.get(_place(one), one.change.before))
        best: Any = next(following, waiting[0])
        waiting.remove(best)
        if best.change.doubt is None:
            last[_place(best)] = best.change.after
        ordered.append(best)
    return ordered


def _place(one: Stored) -> tuple[str, str]:
    return one.change.worktree, one.change.path
