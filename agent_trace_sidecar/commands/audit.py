"""`export --signed` and `validate --signed`: a signed manifest of what is stored, and what has changed since."""

import argparse
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec

from agent_trace_sidecar.commands.chosen import moment, session_of
from agent_trace_sidecar.commands.common import CommandError, UsageError
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import say, say_json
from agent_trace_sidecar.commands.signature import is_signed, signed
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits.files import read_whole, write_whole
from agent_trace_sidecar.limits.text import counted
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.manifest import Entry, Manifest, ManifestError, Run, compare, made, read

_MAX_BYTES: Final = 2 * 1024**3
"""Of a manifest: over five million events."""
_SESSIONS: Final = """
SELECT DISTINCT session_id FROM agent_trace_records
WHERE vcs_revision = ANY ($1::text[]) AND session_id IS NOT NULL ORDER BY 1
"""
_EVENTS: Final = """
SELECT event_id AS id, source_id, seq, occurred_at AS at, event_name, session_id, message_id, call_id, tool,
       payload::text AS content
FROM agent_trace_events
WHERE ($1::timestamptz IS NULL OR occurred_at >= $1) AND occurred_at < $2
  AND ($3::text[] IS NULL OR session_id = ANY ($3))
ORDER BY source_id, seq, event_id
"""
_RECORDS: Final = """
SELECT record_id AS id, source_id, recorded_at AS at, event_id, session_id, record::text AS content
FROM agent_trace_records
WHERE ($1::timestamptz IS NULL OR recorded_at >= $1) AND recorded_at < $2
  AND ($3::text[] IS NULL OR session_id = ANY ($3))
ORDER BY source_id, recorded_at, record_id
"""
_RUNS: Final = """
SELECT source_id, state::text AS state FROM agent_trace_sources
WHERE kind = 'instance' AND source_id = ANY ($1::uuid[]) ORDER BY source_id
"""
_DEAD: Final = """
SELECT reason, count(*) AS n FROM agent_trace_dead_letters
WHERE ($1::timestamptz IS NULL OR seen_at >= $1) AND seen_at < $2 GROUP BY 1
"""


class Period(NamedTuple):
    """What a manifest covers; what is None does not matter."""

    since: datetime | None
    until: datetime
    sessions: Sequence[str] | None = None

    @classmethod
    def of(cls, head: Mapping[str, Any]) -> "Period":
        """The period in a manifest's head.

        Raises:
            ManifestError: it has none.
        """
        try:
            return msgspec.convert([head[name] for name in cls._fields], cls)
        except (KeyError, msgspec.ValidationError):
            raise ManifestError("its first line names no period.") from None


def export_signed(config: Config, given: argparse.Namespace, revisions: Sequence[str] | None) -> int:
    """Write the manifest and its signature.

    Raises:
        CommandError: nothing is chosen, or a file can't be written.
    """
    if given.output is None:
        raise UsageError("--signed needs --output FILE: the manifest is written there, its signature to FILE.sig.")
    if given.revision is not None:
        raise UsageError("--signed excludes --revision: give --range A..B.")
    now = datetime.now(UTC)
    since, until = moment("--since", given.since), moment("--until", given.until) or now

    async def work(connection: asyncpg.Connection) -> bytes:
        sessions = [await session_of(connection, given.session)] if given.session else None
        if revisions is not None:
            found = {row["session_id"] for row in await connection.fetch(_SESSIONS, list(revisions))}
            sessions = sorted(found if sessions is None else found.intersection(sessions))
        return await _manifest(connection, Period(since, until, sessions), now)

    data = with_database(config, work)
    manifest = read(data)
    if not manifest.entries:
        raise CommandError("nothing is recorded in this period: there is nothing to sign.")
    signature = signed(data, given.signed)
    try:
        write_whole(given.output, data, mode=0o644)
        write_whole(_signature_file(given.output), signature, mode=0o644)
    except OSError as exc:
        raise CommandError(f"{exc.filename or given.output} can't be written: {exc.strerror}.") from None
    say(f"{given.output}: {_summary(manifest)}")
    return 0


def validate_signed(config: Config, given: argparse.Namespace) -> int:
    """Check manifests; exit code 1 where one has an error.

    Raises:
        CommandError: a file can't be read, or is something else.
    """
    found = [_Checked.of(file, given.signed) for file in given.files]
    if not given.no_database:
        found = with_database(config, lambda connection: _compared(connection, found))
    if given.json:
        say_json(json.dumps([one.as_json() for one in found]))
    else:
        for one in found:
            say(*one.sentences())
    return 1 if any(one.errors for one in found) else 0


class _Checked(NamedTuple):
    """A manifest, and what is wrong with it."""

    file: Path
    manifest: Manifest
    errors: Sequence[str]
    warnings: Sequence[str] = ()

    @classmethod
    def of(cls, file: Path, key: Path) -> "_Checked":
        """Check a file by itself."""
        try:
            data = read_whole(file, _MAX_BYTES).data
            signature = read_whole(_signature_file(file), _MAX_BYTES).data
            manifest = read(data)
        except FileNotFoundError as exc:
            raise CommandError(f"there is no {exc.filename}: `export --signed` writes FILE and FILE.sig.") from None
        except OSError as exc:
            raise CommandError(f"{exc.filename or file} can't be read: {exc.strerror}.") from None
        except ManifestError as exc:
            raise CommandError(f"{file}: {exc}") from None
        errors = list(manifest.errors)
        if not is_signed(data, signature, key):
            errors.insert(
                0, f"the signature is not one of this file by {key}: it was altered, or signed by another key"
            )
        return cls(file, manifest, errors)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        lists = {"errors": list(self.errors), "warnings": list(self.warnings)}
        return {"file": str(self.file), **self.manifest.head, **self.manifest.end, **lists}

    def sentences(self) -> list[str]:
        """For a person."""
        return [
            *(f"{self.file}: error: {text}" for text in self.errors),
            *(f"{self.file}: warning: {text}" for text in self.warnings),
            f"{self.file}: {_summary(self.manifest)}: {self._result()}",
        ]

    def _result(self) -> str:
        return f"{counted(len(self.errors), 'error')}, {counted(len(self.warnings), 'warning')}"


def _signature_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.sig")


def _summary(manifest: Manifest) -> str:
    end = {name: 0 if name != "dead_letters" else {} for name in ("missing", "lost", "dead_letters")} | {**manifest.end}
    kinds = [entry.kind for entry in manifest.entries]
    return (
        f"{kinds.count('event')} events and {kinds.count('record')} records; "
        f"{end['missing']} missing sequence numbers, {end['lost']} dropped by the shim, "
        f"{sum(end['dead_letters'].values())} dead letters"
    )


async def _manifest(connection: asyncpg.Connection, period: Period, now: datetime) -> bytes:
    """What is stored of a period, as of one moment."""
    async with connection.transaction(readonly=True, isolation="repeatable_read"):
        entries = [entry async for entry in _entries(connection, period)]
        runs = await _runs(connection, {entry.run for entry in entries if entry.kind == "event"})
        rows = await connection.fetch(_DEAD, period.since, period.until)
    head = {"made_at": _time(now), **period._asdict()}
    return made(head, entries, runs, {row["reason"]: row["n"] for row in rows})


async def _entries(connection: asyncpg.Connection, period: Period) -> AsyncIterator[Entry]:
    for kind, query in (("event", _EVENTS), ("record", _RECORDS)):
        async for row in connection.cursor(query, *period, prefetch=500):
            values = [None if value is None else str(value) for name, value in row.items() if name not in ("id", "at")]
            content = hashlib.sha256(msgspec.json.encode(values)).hexdigest()
            seq = row["seq"] if kind == "event" else None
            yield Entry(kind, str(row["id"]), str(row["source_id"]), _time(row["at"]), content, seq)


async def _runs(connection: asyncpg.Connection, ids: set[str]) -> list[Run]:
    builder = Builder(BuildSettings())
    found = []
    for row in await connection.fetch(_RUNS, sorted(ids)):
        builder.load(row["source_id"], row["state"].encode())
        summary = builder.summary(row["source_id"])
        found.append(Run(str(row["source_id"]), summary.gaps, summary.lost))
        builder.forget(row["source_id"])
    return found


async def _compared(connection: asyncpg.Connection, found: Sequence[_Checked]) -> list[_Checked]:
    done = []
    async with connection.transaction(readonly=True, isolation="repeatable_read"):
        for one in found:
            try:
                period = Period.of(one.manifest.head)
            except ManifestError as exc:
                raise CommandError(f"{one.file}: {exc}") from None
            difference = compare(one.manifest, [entry async for entry in _entries(connection, period)])
            done.append(one._replace(errors=[*one.errors, *difference.errors], warnings=difference.warnings))
    return done


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()
