"""`prune`: drops what is old, and erases what belongs to a session, a repository or a user.

Months that are over as a whole are dropped at once; everything else is deleted in batches of neighbouring pages, each
its own transaction, so that no lock is held for long and a run that is stopped continues where it was. The ids of what
is deleted stay in the deduplication table: a replay of an old log does not bring it back.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple, Self
from uuid import UUID

import asyncpg

from agent_trace_sidecar.commands.chosen import session_of
from agent_trace_sidecar.commands.common import CommandError, UsageError
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import confirmed, local_time, overwrite, say
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits import SOURCES_KEEP
from agent_trace_sidecar.postgres import partitions
from agent_trace_sidecar.postgres.partitions import make_months
from agent_trace_sidecar.postgres.pruned import join_times, keep_files
from agent_trace_sidecar.spool.folders import SPOOL_FOLDER, SpoolBusyError, spool_folders
from agent_trace_sidecar.spool.spool import Spool
from agent_trace_sidecar.telemetry.health import HealthFile

Said = Callable[[str, int, float], None]
"""Called with a table, the rows that have gone so far, and the share of it that has been gone through."""

_BATCH_PAGES: Final = 1024
"""Of 8 KiB each: what one transaction reads."""

_PLACES: Final = {
    "agent_trace_file_states": "recorded_at",
    "agent_trace_ranges": "recorded_at",
    "agent_trace_records": "recorded_at",
    "agent_trace_dead_letters": "seen_at",
    "agent_trace_usage": "finished_at",
    "agent_trace_ended_calls": "finished_at",
    "agent_trace_masked": "occurred_at",
    "agent_trace_events": "occurred_at",
}
"""What grows, with its clock. Rows that name an owner go after the rows that depend on them: events go last."""

_LEAVES: Final = """
SELECT format('%I.%I', n.nspname, c.relname) AS name,
       pg_relation_size(c.oid) / current_setting('block_size')::int AS pages
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (c.oid = $1::regclass AND c.relkind = 'r')
   OR c.oid IN (SELECT relid FROM pg_partition_tree($1::regclass) WHERE isleaf)
ORDER BY c.relname
"""

_CHILDREN: Final = """
SELECT DISTINCT session_id FROM agent_trace_events
WHERE event_name = 'session.created' AND payload #>> '{input,event,properties,info,parentID}' = ANY($1)
"""
_SESSIONS_OF_SOURCES: Final = """
SELECT DISTINCT session_id FROM agent_trace_events
WHERE source_id = ANY($1) AND session_id IS NOT NULL AND ($2::text[] IS NULL OR payload->>'worktree' = ANY($2))
"""
_SOURCES_OF_USER: Final = "SELECT source_id FROM agent_trace_sources WHERE kind = 'instance' AND os_user = $1"
_SOURCES_OF_REPOSITORY: Final = """
SELECT s.source_id, r.key AS worktree FROM agent_trace_sources s, jsonb_each_text(s.repositories) r
WHERE s.kind = 'instance' AND (r.key = $1 OR r.value = $1)
"""
# A log that is still there is opened again by the process that follows it, which renews its row; one that comes back
# all the same is read from its start, and its events are duplicates. Rows of `redact` and `retry` stay.
_QUIET: Final = "kind IN ('file', 'stdin', 'instance') AND updated_at < $1"
_FORGET_SOURCES: Final = "DELETE FROM agent_trace_sources WHERE source_id = ANY($1) AND kind = 'instance'"
_SOURCES_OF_ERASED: Final = "SELECT DISTINCT source_id FROM agent_trace_events WHERE session_id = ANY($1)"
_STILL_IN_USE: Final = """
SELECT DISTINCT source_id FROM agent_trace_events WHERE source_id = ANY($1) AND session_id IS NOT NULL
"""
_FORGET_WORKTREES: Final = """
UPDATE agent_trace_sources
SET repositories = repositories - $2::text[],
    projects = (SELECT jsonb_object_agg(key, value) FROM jsonb_each_text(projects) WHERE NOT value = ANY($2::text[]))
WHERE source_id = ANY($1) AND kind = 'instance'
"""


_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to delete."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--older-than", metavar="AGE", help="delete everything older, e.g. 90d, 12w or 36h")
    which.add_argument(
        "--session", metavar="SESSION", help="erase this session and its subagents: its id, a part of it, or latest"
    )
    which.add_argument(
        "--repository", metavar="URL", help="erase this repository: the URL of its remote, or a worktree"
    )
    which.add_argument(
        "--user", metavar="NAME", help="erase everything that this user of the operating system recorded"
    )
    parser.add_argument(
        "--dedupe-older-than",
        metavar="AGE",
        help="also delete older event ids; a replay of older logs stores them again",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be deleted")


def run(config: Config, given: argparse.Namespace) -> int:
    """Delete it."""
    try:
        asked = Request.of(given)
    except ValueError as exc:
        raise UsageError(str(exc)) from None
    say(*with_database(config, asked.work))
    if not asked.dry_run:
        drop_shipped(config.state_path / SPOOL_FOLDER)
    return 0


class Gone(NamedTuple):
    """What went, or would go, from one table: rows one by one, and whole months."""

    table: str
    rows: int
    months: tuple[str, ...] = ()


class Belongings(NamedTuple):
    """What is to be erased: whole sessions, and what else these sources recorded, in these worktrees only if named."""

    sessions: list[str]
    sources: list[UUID]
    worktrees: list[str] | None = None


# -- by age ----------------------------------------------------------------------------------------------------


async def prune(
    connection: asyncpg.Connection,
    before: datetime,
    *,
    sources_before: datetime | None = None,
    gate_before: datetime | None = None,
    dry_run: bool = False,
    said: Said = lambda *_: None,
) -> list[Gone]:
    """Delete what was recorded before a time.

    Also what is kept about logs and runs that have been quiet since `sources_before`, and the deduplication ids of what
    through before `gate_before`.
    """
    gone = []
    if not dry_run:
        await keep_files(connection, "recorded_at < $1", "recorded_at < $1", [before])
        await join_times(connection, before)
    for table, column in _PLACES.items():
        months = await partitions.months(connection, table) if table in partitions.PARTITIONED else []
        whole = [month.table for month in months if month.after <= before]
        young = [month.table for month in months if month.first >= before]
        dropped = [month for month in whole if dry_run or await partitions.drop(connection, month)]
        rows = await _delete(
            connection, table, f"{column} < $1", [before], leave=dropped + young, dry_run=dry_run, said=said
        )
        gone.append(Gone(table, rows, tuple(month.rpartition(".")[2] for month in dropped)))
    if sources_before is not None:
        rows = await _delete(connection, "agent_trace_sources", _QUIET, [sources_before], dry_run=dry_run, said=said)
        gone.append(Gone("agent_trace_sources", rows))
    if gate_before is not None:
        gone.append(await _forget_ids(connection, gate_before, dry_run=dry_run, said=said))
    return gone


async def _forget_ids(connection: asyncpg.Connection, before: datetime, *, dry_run: bool, said: Said) -> Gone:
    """Drop the months of ids that are over and of which no id was seen since; of the others delete row by row."""
    dropped = []
    for month in await partitions.months(connection, "agent_trace_dedupe"):
        late = f"SELECT EXISTS (SELECT FROM {month.table} WHERE seen_at >= $1)"  # noqa: S608 - a table's quoted name
        if month.after > before or await connection.fetchval(late, before):
            continue
        if dry_run or await partitions.drop(connection, month.table):
            dropped.append(month.table)
    rows = await _delete(
        connection, "agent_trace_dedupe", "seen_at < $1", [before], leave=dropped, dry_run=dry_run, said=said
    )
    return Gone("agent_trace_dedupe", rows, tuple(month.rpartition(".")[2] for month in dropped))


# -- by owner --------------------------------------------------------------------------------------------------


async def of_session(connection: asyncpg.Connection, session_id: str) -> Belongings:
    """The session and those of its subagents."""
    return Belongings(await _with_children(connection, [session_id]), [])


async def of_user(connection: asyncpg.Connection, user: str) -> Belongings:
    """What a user of the operating system recorded, on whichever machine.

    Raises:
        CommandError: no user of that name did.
    """
    sources = [row["source_id"] for row in await connection.fetch(_SOURCES_OF_USER, user)]
    if not sources:
        raise CommandError(
            f"nothing is recorded of user {user}: `SELECT DISTINCT os_user FROM agent_trace_sources` lists the users."  # noqa: S608 - a sentence
        )
    sessions = [row["session_id"] for row in await connection.fetch(_SESSIONS_OF_SOURCES, sources, None)]
    return Belongings(await _with_children(connection, sessions), sources)


async def of_repository(connection: asyncpg.Connection, repository: str) -> Belongings:
    """What was recorded in a repository: its URL without credentials, or a worktree's path.

    Raises:
        CommandError: nothing was.
    """
    rows = await connection.fetch(_SOURCES_OF_REPOSITORY, repository)
    if not rows:
        raise CommandError(
            f"nothing is recorded of repository {repository}: give its URL without user and password, or a worktree."
        )
    sources = sorted({row["source_id"] for row in rows})
    worktrees = sorted({row["worktree"] for row in rows})
    sessions = [row["session_id"] for row in await connection.fetch(_SESSIONS_OF_SOURCES, sources, worktrees)]
    return Belongings(await _with_children(connection, sessions), sources, worktrees)


async def erase(
    connection: asyncpg.Connection, what: Belongings, *, dry_run: bool = False, said: Said = lambda *_: None
) -> list[Gone]:
    """Delete what belongs to them from every table, and what is kept about the sources themselves.

    A run that is left without any session goes as a whole.
    """
    gone = []
    sources = {row["source_id"] for row in await connection.fetch(_SOURCES_OF_ERASED, what.sessions)}
    if not dry_run:
        (states, arguments), (ranges, _) = (
            _condition(f"agent_trace_{name}", what) for name in ("file_states", "ranges")
        )
        await keep_files(connection, states, ranges, arguments)
    for table in _PLACES:
        where, arguments = _condition(table, what)
        gone.append(Gone(table, await _delete(connection, table, where, arguments, dry_run=dry_run, said=said)))
    if what.sources and not dry_run:
        if what.worktrees is None:
            await connection.execute(_FORGET_SOURCES, what.sources)
        else:
            await connection.execute(_FORGET_WORKTREES, what.sources, what.worktrees)
    if not dry_run:
        await _erase_empty(connection, sorted(sources | {*what.sources}), said)
    return gone


async def _erase_empty(connection: asyncpg.Connection, sources: Sequence[UUID], said: Said) -> None:
    """Erase those runs that have no session any more: their rows still hold the folder and the time."""
    used = {row["source_id"] for row in await connection.fetch(_STILL_IN_USE, sources)}
    empty = [source for source in sources if source not in used]
    if empty:
        where = "source_id = ANY($1::uuid[])"
        await _delete(connection, "agent_trace_events", where, [empty], dry_run=False, said=said)
        await connection.execute(_FORGET_SOURCES, empty)


async def vacuum(connection: asyncpg.Connection, gone: Sequence[Gone]) -> list[str]:
    """Let the server reuse the space of deleted rows, whose text stands there until then; sentences on what failed."""
    notes = []
    for table in [one.table for one in gone if one.rows]:
        try:
            await connection.execute(f"VACUUM {table}")
        except asyncpg.PostgresError as exc:
            notes.append(f"VACUUM {table} failed (SQLSTATE {exc.sqlstate}): run it as the owner of the tables.")
    return notes


def drop_shipped(spools: Path) -> int:
    """Remove the spools of ended sidecars that the database has as a whole; return how many."""
    dropped = 0
    for folder in spool_folders(spools):
        try:
            spool = Spool(folder)
        except (SpoolBusyError, OSError):
            continue
        if HealthFile(folder).shipped_to() == spool.end:
            spool.remove()
            dropped += 1
        else:
            spool.close()
    return dropped


def _condition(table: str, what: Belongings) -> tuple[str, list[object]]:
    """Which rows of a table belong to them. A dead letter is no JSON, perhaps: it belongs to whom it mentions."""
    if table == "agent_trace_events":
        in_worktree = "$3::text[] IS NULL OR payload->>'worktree' = ANY($3)"
        where = f"session_id = ANY($1::text[]) OR (source_id = ANY($2::uuid[]) AND ({in_worktree}))"
        return where, [what.sessions, what.sources, what.worktrees]
    if table == "agent_trace_dead_letters":
        places = what.worktrees if what.worktrees is not None else [str(source) for source in what.sources]
        return "line LIKE ANY($1::bytea[])", [[_anywhere(text) for text in (*what.sessions, *places)]]
    of_sources = "source_id = ANY($2::uuid[]) AND ($3::text[] IS NULL OR worktree = ANY($3))"
    if table == "agent_trace_file_states":
        mine = "SELECT source_id, record_id FROM agent_trace_records WHERE session_id = ANY($1::text[])"
        return f"(source_id, record_id) IN ({mine}) OR ({of_sources})", [what.sessions, what.sources, what.worktrees]
    if table == "agent_trace_ranges":
        return f"session_id = ANY($1::text[]) OR ({of_sources})", [what.sessions, what.sources, what.worktrees]
    sources = what.sources if what.worktrees is None else []  # these rows name no worktree
    return "session_id = ANY($1::text[]) OR source_id = ANY($2::uuid[])", [what.sessions, sources]


def _anywhere(text: str) -> bytes:
    r"""A pattern for LIKE: the text itself somewhere, whatever %, _ and \ are in it."""
    return b"%" + re.sub(rb"([\\%_])", rb"\\\1", text.encode()) + b"%"


async def _with_children(connection: asyncpg.Connection, sessions: Sequence[str]) -> list[str]:
    known: set[str] = set()
    new = set(sessions)
    while new:
        known |= new
        new = {row["session_id"] for row in await connection.fetch(_CHILDREN, sorted(new))} - known - {None}
    return sorted(known)


# -- in batches ------------------------------------------------------------------------------------------------


async def _delete(
    connection: asyncpg.Connection,
    table: str,
    where: str,
    arguments: list[object],
    *,
    leave: Sequence[str] = (),
    dry_run: bool,
    said: Said,
) -> int:
    """Delete the rows that match, or count them, except in the partitions to `leave`; their number."""
    if await partitions.is_distributed(connection, table):
        return await _change(connection, f"FROM {table} WHERE {where}", arguments, dry_run=dry_run)
    leaves = [leaf for leaf in await connection.fetch(_LEAVES, table) if leaf["name"] not in leave]
    total = sum(leaf["pages"] for leaf in leaves)
    rows = passed = 0
    for leaf in leaves:
        for first in range(0, leaf["pages"], _BATCH_PAGES):
            pages = f"ctid >= '({first},0)' AND ctid < '({first + _BATCH_PAGES},0)'"
            rows += await _change(
                connection, f"FROM {leaf['name']} WHERE {pages} AND ({where})", arguments, dry_run=dry_run
            )
            passed += min(_BATCH_PAGES, leaf["pages"] - first)
            said(table, rows, passed / total)
    return rows


async def _change(connection: asyncpg.Connection, what: str, arguments: list[object], *, dry_run: bool) -> int:
    """Delete or count, and return the number of rows; `what` is made of our own names and texts."""
    if dry_run:
        found: int = await connection.fetchval(f"SELECT count(*) {what}", *arguments)
        return found
    tag = await connection.execute(f"DELETE {what}", *arguments)
    return int(tag.rpartition(" ")[2])


class Request(NamedTuple):
    """What to delete."""

    older_than: timedelta | None
    gate_older_than: timedelta | None
    session: str | None
    repository: str | None
    user: str | None
    dry_run: bool
    yes: bool

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Self:
        """Read the command line.

        Raises:
            ValueError: it is wrong; the text is the sentence that the user sees.
        """
        older, gate = (
            _age("--older-than", arguments.older_than),
            _age("--dedupe-older-than", arguments.dedupe_older_than),
        )
        if gate is not None and (older is None or gate < older):
            raise ValueError(
                "--dedupe-older-than requires --older-than, and must not be shorter: ids outlive their events."
            )
        return cls(
            older, gate, arguments.session, arguments.repository, arguments.user, arguments.dry_run, arguments.yes
        )

    async def work(self, connection: asyncpg.Connection) -> list[str]:
        """Delete, and print the counts, a line per table.

        Raises:
            CommandError: there is nothing of that name.
        """
        said = _progress if sys.stderr.isatty() else _silence
        if self.older_than is None:
            belongings = await self._belongings(connection)
            self._ask(_scope(belongings))
            gone = await erase(connection, belongings, dry_run=self.dry_run, said=said)
            notes = [] if self.dry_run else await vacuum(connection, gone)
            return [self._sentence(each) for each in gone] + notes
        now = datetime.now(UTC)
        self._ask(f"everything that was recorded before {local_time(now - self.older_than)}")
        gate_before = now - self.gate_older_than if self.gate_older_than is not None else None
        gone = await prune(
            connection,
            now - self.older_than,
            sources_before=now - max(self.older_than, SOURCES_KEEP),
            gate_before=gate_before,
            dry_run=self.dry_run,
            said=said,
        )
        lines = [self._sentence(each) for each in gone]
        if self.dry_run:
            return lines
        lines += await vacuum(connection, gone)
        made = await make_months(connection, now.date())
        return lines + [f"created {month}" for month in made.months] + made.notes

    def _ask(self, what: str) -> None:
        """Continue only if this may be deleted."""
        if not (self.dry_run or self.yes or confirmed(f"Delete {what}?")):
            raise CommandError("nothing was deleted.")

    async def _belongings(self, connection: asyncpg.Connection) -> Belongings:
        if self.session is not None:
            return await of_session(connection, await session_of(connection, self.session))
        if self.repository is not None:
            return await of_repository(connection, self.repository)
        assert self.user is not None  # noqa: S101 - the parser requires one of them
        return await of_user(connection, self.user)

    def _sentence(self, gone: Gone) -> str:
        verb = "would be deleted" if self.dry_run else "deleted"
        months = f", and whole months: {', '.join(gone.months)}" if gone.months else ""
        return f"{gone.table}: {gone.rows} rows {verb}{months}"


def _scope(what: Belongings) -> str:
    shown = f" ({', '.join(what.sessions[:3])}{', ...' if len(what.sessions) > 3 else ''})" if what.sessions else ""  # noqa: PLR2004 - enough to recognise
    return f"all that is recorded of {len(what.sessions)} sessions{shown}"


def _age(option: str, text: str | None) -> timedelta | None:
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4})([hdw])", text)
    if found is None:
        raise ValueError(f"{option} {text!r} is not an age: give hours, days or weeks, e.g. 36h, 90d or 12w.")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _progress(table: str, rows: int, share: float) -> None:
    overwrite(f"{table}: {share:4.0%}, {rows} rows")
    if share >= 1:
        sys.stderr.write("\n")


def _silence(table: str, rows: int, share: float) -> None:
    del table, rows, share
