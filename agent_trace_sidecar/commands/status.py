"""What `status` reports: the database's side, and the spools of this machine, which exist when it does not answer."""

import argparse
import os
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from agent_trace_sidecar.commands import recording as recorded
from agent_trace_sidecar.commands.common import CommandError
from agent_trace_sidecar.commands.database import database_place, with_database
from agent_trace_sidecar.commands.output import say, say_json
from agent_trace_sidecar.commands.recording import Recording, look, look_up, project_of
from agent_trace_sidecar.commands.tables import Column, table_lines
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits.text import counted
from agent_trace_sidecar.postgres.database import can_be_embedded, has_data
from agent_trace_sidecar.postgres.explain import wrong
from agent_trace_sidecar.postgres.migrate import schema_version
from agent_trace_sidecar.postgres.streams import Streams, streams
from agent_trace_sidecar.postgres.workers import away
from agent_trace_sidecar.records.session import Session
from agent_trace_sidecar.spool.folders import SPOOL_FOLDER, extent, is_owned, segments, spool_folders, trouble
from agent_trace_sidecar.spool.segments import lines_after
from agent_trace_sidecar.telemetry.health import HealthFile

_NEWEST: Final = 20
"""How many sources are listed one by one, and as many that miss lines; the sums cover all."""
_GAPS_SHOWN: Final = 8
_STALE_S: Final = 60.0
"""A dead sidecar's spool that waits longer than this needs a person to start a sidecar."""

_AT: Final = re.compile(rb'"at":(\d{1,16})')
_HEAD_BYTES: Final = 400
"""The shim writes the time into a line's first bytes."""

_TOTALS: Final = """
SELECT coalesce(sum((state->>'read')::bigint), 0) AS read, coalesce(sum((state->>'stored')::bigint), 0) AS stored,
       coalesce(sum((state->>'duplicate')::bigint), 0) AS duplicate, coalesce(sum((state->>'dead')::bigint), 0) AS dead,
       coalesce(sum((state->>'denied')::bigint), 0) AS denied
FROM agent_trace_sources WHERE kind IN ('stdin', 'file', 'retry')
"""
_LOST: Final = """
SELECT coalesce(sum((state->'sequence'->>'missing')::bigint), 0)::text AS missing,
       coalesce(sum((state->>'lost')::bigint), 0)::text AS lost
FROM agent_trace_sources WHERE kind = 'instance'
"""
_SOURCES: Final = """
SELECT source_id, kind, host, position, state::text AS state, updated_at FROM agent_trace_sources
WHERE kind = 'instance' AND coalesce((state->'sequence'->>'missing')::bigint, 0) >= $2
ORDER BY updated_at DESC LIMIT $1
"""
_WORKTREES: Final = """
SELECT DISTINCT jsonb_object_keys(repositories) AS worktree FROM agent_trace_sources
WHERE kind = 'instance' AND host = $1 AND updated_at >= $2 ORDER BY 1 LIMIT 20
"""
_NOT_VISIBLE: Final = (
    "records name no revision, and files that commands write are not found; "
    "mount it at this path where the sidecar runs"
)
_VISIBLE_DAYS: Final = 1
"""A project that was not worked in for longer may have been deleted."""
_DEAD: Final = "SELECT reason, count(*) AS n FROM agent_trace_dead_letters GROUP BY reason ORDER BY n DESC, reason"


class Spooled(msgspec.Struct, frozen=True):
    """One spool on this machine."""

    folder: str
    bytes: int
    pending_bytes: int
    """Not in the database yet, by its sidecar's last report."""
    pending_lines: int
    lag_s: float
    """The age of the oldest line that is not in the database; 0 when all are."""
    owner_alive: bool
    idle_s: float
    unhealthy: bool = False
    cause: str = ""
    hint: str = ""
    blocked: str = ""


class Source(msgspec.Struct, frozen=True):
    """One run of the shim, as the database knows it."""

    instance: str
    host: str
    directory: str | None
    opencode_version: str | None
    highest_seq: int
    missing: int
    gaps: tuple[tuple[int, int], ...]
    lost: int
    updated_at: datetime


class Stored(msgspec.Struct, frozen=True):
    """The database's side."""

    schema_version: str | None
    read: int = 0
    stored: int = 0
    duplicate: int = 0
    dead: int = 0
    missing: int = 0
    lost: int = 0
    dead_letters: dict[str, int] = {}
    sources: tuple[Source, ...] = ()
    streams: Streams = Streams()
    problems: tuple[str, ...] = ()
    """Encoding, row-level security and settings of the user that keep events from being stored or read."""
    denied: int = 0
    """Events of repositories that AGENT_TRACE_REPOSITORIES denies: they were read and not stored."""
    not_visible: tuple[str, ...] = ()
    """Worktrees of this host's latest runs that are not on this file system, as in a container without their mount."""


class Status(msgspec.Struct, frozen=True):
    """Everything; `problems` are sentences, and empty when all is well."""

    healthy: bool
    problems: tuple[str, ...]
    database: str
    spool_bytes: int
    pending_bytes: int
    pending_lines: int
    lag_s: float
    gaps: int | None
    """Missing sequence numbers; None where the database did not answer."""
    lost: int | None
    """Events that shims report as dropped."""
    stored: Stored | None
    spools: tuple[Spooled, ...]
    recording: Recording | None = None
    """Of the project of the working directory."""
    spool_trouble: str = ""
    """Why `run` could take no events, by the state of the folder; `tail` needs no spool."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The form."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(config: Config, given: argparse.Namespace) -> int:
    """Show the state of the recording; exit code 1 when it is unhealthy."""
    project = project_of(Path())
    place, root = database_place(config), config.state_path / SPOOL_FOLDER
    recording, spools, ill = look(config, project, os.environ), from_spools(root), trouble(root)
    if not given.json:  # the database may let us wait
        say(*local_text(judge(place, "", None, spools, spool_trouble=ill, recording=recording)))
        sys.stdout.flush()

    async def work(connection: asyncpg.Connection) -> tuple[Stored, recorded.Stored | None]:
        if workers := await away(connection):
            raise CommandError(
                f"The database's coordinator answers, and these Citus workers do not: {', '.join(workers)}. Start "
                "them; until then events wait in spools and logs."
            )
        version = await schema_version(connection)
        stored = await from_database(connection, version)
        stored = msgspec.structs.replace(stored, problems=tuple(await wrong(connection)))
        return stored, await look_up(connection, project) if version else None

    stored, error = None, ""
    if config.database_url is not None or has_data(config.state_path) or not can_be_embedded(os.environ):
        try:
            stored, known = with_database(config, work, prepare=False)
            recording = msgspec.structs.replace(recording, stored=known)
        except CommandError as exc:
            error = str(exc)
    else:
        stored = Stored(None)
    found = judge(place, error, stored, spools, spool_trouble=ill, recording=recording)
    if given.json:
        say_json(msgspec.json.encode(found).decode())
    else:
        say(*database_text(found), *verdict_text(found))
    return 0 if found.healthy else 1


async def from_database(connection: asyncpg.Connection, version: str | None) -> Stored:
    """Read the database's side; `version` is its schema's, None where there is none."""
    if version is None:
        return Stored(None)
    totals = await connection.fetchrow(_TOTALS)
    assert totals is not None  # noqa: S101 - an aggregate has one row
    dead = {row["reason"]: row["n"] for row in await connection.fetch(_DEAD)}
    lost = await connection.fetchrow(_LOST)
    assert lost is not None  # noqa: S101 - as above
    newest = [*await connection.fetch(_SOURCES, _NEWEST, 0), *await connection.fetch(_SOURCES, _NEWEST, 1)]
    newest.sort(key=lambda row: row["updated_at"], reverse=True)
    sources = tuple({row["source_id"]: _source(row) for row in newest}.values())
    return Stored(
        version,
        totals["read"],
        totals["stored"],
        totals["duplicate"],
        totals["dead"],
        int(lost["missing"]),
        int(lost["lost"]),
        dead_letters=dead,
        sources=sources,
        streams=await streams(connection),
        denied=totals["denied"],
        not_visible=await _not_visible(connection),
    )


async def _not_visible(connection: asyncpg.Connection) -> tuple[str, ...]:
    since = datetime.now(UTC) - timedelta(days=_VISIBLE_DAYS)
    rows = await connection.fetch(_WORKTREES, socket.gethostname(), since)
    return _missing_folders([row["worktree"] for row in rows])


def _missing_folders(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(path for path in paths if not os.path.isdir(path))  # noqa: PTH112 - any text


def _source(row: asyncpg.Record) -> Source:
    instance: UUID = row["source_id"]
    summary = Session.load(row["state"].encode()).summary()
    return Source(
        str(instance),
        row["host"],
        summary.directory,
        summary.opencode_version,
        summary.highest_seq,
        summary.missing,
        summary.gaps,
        summary.lost,
        row["updated_at"].astimezone(UTC),
    )


def from_spools(root: Path) -> tuple[Spooled, ...]:
    """Read the spools of this machine without touching them."""
    found = []
    for folder in spool_folders(root):
        with suppress(FileNotFoundError):  # its sidecar has just removed it
            found.append(_spooled(folder))
    return tuple(found)


def undelivered_events(config: Config) -> int:
    """How many events wait in the spools of this machine."""
    return sum(spool.pending_lines for spool in from_spools(config.state_path / SPOOL_FOLDER))


def _spooled(folder: Path) -> Spooled:
    start, end = extent(folder)
    health = HealthFile(folder)
    report = health.read()
    shipped = max(health.shipped_to() or 0, report.position if report else 0, start)
    now = HealthFile.now()
    paths = [folder / f"{position:020d}.jsonl" for position in segments(folder)]
    lines, first = lines_after(paths, shipped) if end > shipped else (0, b"")
    at = _AT.search(first, 0, _HEAD_BYTES)
    alive = is_owned(folder)
    current = report if report is not None and alive else None
    return Spooled(
        folder.name,
        end - start,
        max(0, end - shipped),
        lines,
        round(max(0.0, now - int(at[1]) / 1000), 1) if at else 0.0,
        alive,
        round(max(0.0, now - max(map(_written_at, paths), default=0.0)), 1),
        unhealthy=current is not None and current.unhealthy,
        cause=current.cause if current else "",
        hint=current.hint if current else "",
        blocked=health.blocked() if alive else "",
    )


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # it is shipped and old enough
        return 0.0


def judge(
    database: str,
    error: str,
    stored: Stored | None,
    spools: Sequence[Spooled],
    *,
    spool_trouble: str = "",
    recording: Recording | None = None,
) -> Status:
    """Put both sides together, with what is wrong and what to do about it."""
    problems: list[str] = list(recording.problems()) if recording else []
    if error:
        problems.append(error)
    problems += stored.problems if stored is not None else ()
    for spool in spools:
        if spool.blocked:
            problems.append(f"A sidecar accepts no events: {spool.blocked}.")
        if spool.unhealthy:
            problems.append(f"A sidecar cannot deliver events ({spool.cause}): {spool.hint}")
        if not spool.owner_alive and spool.pending_bytes and spool.idle_s > _STALE_S:
            problems.append(
                f"{spool.pending_lines} undelivered events in the orphaned spool {spool.folder}: start a sidecar, for "
                "example `agent-trace-sidecar run </dev/null`."
            )
    return Status(
        healthy=not problems,
        problems=tuple(dict.fromkeys(problems)),
        database=database,
        spool_bytes=sum(s.bytes for s in spools),
        pending_bytes=sum(s.pending_bytes for s in spools),
        pending_lines=sum(s.pending_lines for s in spools),
        lag_s=max((s.lag_s for s in spools), default=0.0),
        gaps=stored.missing if stored else None,
        lost=stored.lost if stored else None,
        stored=stored,
        spools=tuple(spools),
        recording=recording,
        spool_trouble=spool_trouble,
    )


def local_text(status: Status) -> list[str]:
    """What a person is told at once: the project, the spools, and which database is asked then."""
    lines = list(status.recording.text()) if status.recording is not None else []
    return [*lines, *_spool_text(status), f"database {status.database}"]


def database_text(status: Status) -> list[str]:
    """What the database says, for a person."""
    s = status.stored
    lines = list(status.recording.stored_text()) if status.recording is not None else []
    if s is not None:
        lines += [f"project  {worktree}: project not visible: {_NOT_VISIBLE}" for worktree in s.not_visible]
    if s is not None:
        lines += _stored_text(s)
    if status.gaps is None:
        lines.append("gaps     unknown without the database")
    else:
        lines.append(f"gaps     {status.gaps} missing sequence numbers, {status.lost} events dropped by the shim")
    if s is not None and s.sources:
        lines += ["runs     (newest first, and those with gaps)", *_runs(s.sources)]
    return lines


def verdict_text(status: Status) -> list[str]:
    """The last lines: whether all is well, and what to do where it is not."""
    s = status.stored
    is_fresh = s is not None and not s.read and not s.sources and not status.pending_lines
    verdict = "UNHEALTHY" if not status.healthy else "ready: nothing recorded yet" if is_fresh else "healthy"
    return [verdict, *(f"  ! {problem}" for problem in status.problems)]


def _runs(sources: Sequence[Source]) -> list[str]:
    columns = (
        Column(f"last event ({sources[0].updated_at.astimezone().tzname()})"),
        Column("run", may_be_cut=True),
        Column("host", may_be_cut=True),
        Column("events", is_number=True),
        Column("directory", may_be_cut=True),
        Column("missing", may_be_cut=True),
    )
    rows = [
        (
            f"{run.updated_at.astimezone():%Y-%m-%d %H:%M}",
            run.instance,
            run.host,
            str(run.highest_seq),
            run.directory or "",
            _missing(run),
        )
        for run in sources
    ]
    return table_lines(columns, rows)


def _stored_text(stored: Stored) -> Iterator[str]:
    if stored.schema_version is None:
        yield "schema   none yet: it is created with the first event"
        return
    yield f"schema   {stored.schema_version}"
    denied = f" + {stored.denied} denied by AGENT_TRACE_REPOSITORIES" if stored.denied else ""
    counts = f"{stored.stored} stored + {stored.duplicate} duplicate + {stored.dead} dead{denied}"
    yield f"events   {stored.read} read = {counts}"
    for reason, number in stored.dead_letters.items():
        yield f"  dead   {number} {reason}"
    yield from _stream_text(stored.streams)
    if stored.dead_letters:
        yield "  `agent-trace-sidecar dead-letters` lists them; after a fix, `agent-trace-sidecar dead-letters retry`"


def _stream_text(found: Streams) -> Iterator[str]:
    if found.sessions:
        whole = found.sessions - len(found.incomplete)
        yield f"streams  {counted(found.sessions, 'session')} of OpenCode 2, {whole} complete by OpenCode's own numbers"
    for session, number in found.incomplete.items():
        missing = counted(number, "event")
        yield f"  {session}  missing: {missing}; `agent-trace-sidecar reconcile --session {session}` compares"
    if found.unknown:
        named = ", ".join(f"{name} ({count})" for name, count in found.unknown.items())
        yield f"unknown  event types of a newer OpenCode, counted and not stored: {named}"


def _spool_text(status: Status) -> Iterator[str]:
    if status.pending_bytes:
        waiting = f"{status.pending_bytes} bytes, {counted(status.pending_lines, 'event')}"
        yield f"spool    {status.spool_bytes} bytes; undelivered: {waiting}, the oldest {status.lag_s:.0f} s old"
    else:
        yield f"spool    {status.spool_bytes} bytes, all delivered" if status.spool_bytes else "spool    empty"
    if status.spool_trouble:
        yield f"  {status.spool_trouble}: `run` cannot accept events here (`tail` needs no spool)"
    for spool in status.spools:
        if spool.pending_lines or spool.cause or spool.blocked:
            state = "alive" if spool.owner_alive else "dead"
            trouble = f": {spool.cause}: {spool.hint}" if spool.cause else ""
            waiting = f"{counted(spool.pending_lines, 'event')} undelivered for {spool.lag_s:.0f} s"
            yield f"  {spool.folder}  sidecar {state}, {waiting}{trouble}"


def _missing(source: Source) -> str:
    """Which numbers are missing; of many gaps the youngest."""
    if not source.missing:
        return ""
    shown = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in source.gaps[-_GAPS_SHOWN:])
    return f"{source.missing}: {'... ' if len(source.gaps) > _GAPS_SHOWN else ''}{shown}"
