"""`export`: stored records as Agent Trace JSON lines, each checked, with every field that its tool wrote."""

import argparse
import json
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from agent_trace_sidecar import __version__
from agent_trace_sidecar.blame.range_authors import added_by, record_for
from agent_trace_sidecar.commands.chosen import moment, session_of
from agent_trace_sidecar.commands.common import PROGRAM, CommandError, UsageError
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import complain, say_json
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits.files import write_whole
from agent_trace_sidecar.records.trace import TraceError, TraceRecord, encode, read_record
from agent_trace_sidecar.workspace.checkout import CheckoutError, checkout_of

_RECORDS: Final = """
SELECT record::text FROM agent_trace_records
WHERE ($1::text IS NULL OR session_id = $1) AND ($2::timestamptz IS NULL OR recorded_at >= $2)
  AND ($3::text[] IS NULL OR vcs_revision = ANY($3))
ORDER BY recorded_at, record_id
"""


class Chosen(NamedTuple):
    """Which records are wanted; what is None does not matter."""

    session_id: str | None = None
    since: datetime | None = None
    revisions: Sequence[str] | None = None
    """Full hashes of where the repository stood at the time of the edit."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which records."""
    parser.add_argument(
        "--session", metavar="SESSION", help="only records of this session: its id, a part of it, or latest"
    )
    parser.add_argument("--since", metavar="AGE", help="only records since, e.g. 30d, 36h or 2026-01-31T12:00Z")
    parser.add_argument("--revision", metavar="REV", help="only records made at this revision (full hash)")
    parser.add_argument("--range", metavar="A..B", help="only records made at these revisions, or at A itself")
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="with --range: write who wrote the lines that the range adds, for `stats --range A..B --from FILE`; "
        "with --signed: write the manifest",
    )
    parser.add_argument(
        "--signed",
        metavar="KEY",
        type=Path,
        help="write a manifest of all events and records of the period, signed by ssh-keygen with this private key",
    )
    parser.add_argument("--until", metavar="AGE", help="with --signed: only what was recorded before (default: now)")


def run(config: Config, given: argparse.Namespace) -> int:
    """Print the records, or write the authors of a range's lines."""
    if given.signed is not None:
        from agent_trace_sidecar.commands.audit import export_signed  # noqa: PLC0415 - brings the builder with it

        return export_signed(config, given, _revisions(given))
    if given.until is not None:
        raise UsageError("--until needs --signed KEY.")
    if given.output is not None:
        return _write(config, given)
    since, revisions = moment("--since", given.since), _revisions(given)

    async def work(connection: asyncpg.Connection) -> int:
        session = await session_of(connection, given.session) if given.session else None
        chosen = Chosen(session, since, revisions)
        unread = 0
        is_empty = True
        async for record in export(connection, chosen):
            is_empty = False
            if isinstance(record, str):
                say_json(record)
            else:
                unread += 1
                complain(f"a record can't be exported: {record}")
        if is_empty:
            raise CommandError(f"there is no such record: `{PROGRAM} sessions` lists what is recorded.")
        return 1 if unread else 0

    return with_database(config, work)


def _write(config: Config, given: argparse.Namespace) -> int:
    """Write one record that names the authors of the added lines at the range's last commit."""
    if given.range is None:
        raise UsageError("--output needs --range A..B; to keep stored records in a file, redirect stdout.")
    if given.session or given.since or given.revision:
        raise UsageError("--output excludes --session, --since and --revision.")
    checkout = checkout_of(Path.cwd() / "x")

    async def work(connection: asyncpg.Connection) -> TraceRecord:
        return await record_for(connection, checkout, added_by(checkout, given.range), __version__)

    try:
        record = with_database(config, work)
        write_whole(given.output, f"{encode(record)}\n".encode(), mode=0o644)
    except CheckoutError as exc:
        raise CommandError(str(exc)) from None
    except OSError as exc:
        raise CommandError(f"{given.output} can't be written: {exc.strerror}.") from None
    if not record.files:
        complain(f"{given.output} names no lines: the range adds none, or nothing is recorded of this repository.")
    return 0


async def export(connection: asyncpg.Connection, chosen: Chosen) -> AsyncIterator[str | TraceError]:
    """Yield each record as one JSON line, or the error that explains why it can't be read."""
    async with connection.transaction(readonly=True):
        async for row in connection.cursor(_RECORDS, *chosen, prefetch=500):
            try:
                yield json.dumps(read_record(row[0]).document, ensure_ascii=False, separators=(",", ":"))
            except TraceError as exc:
                yield exc


def _revisions(given: argparse.Namespace) -> list[str] | None:
    """The full hashes of the given revisions."""
    if given.range is None:
        return [given.revision] if given.revision is not None else None
    try:
        return checkout_of(Path.cwd() / "x").commits(given.range)
    except CheckoutError as exc:
        raise CommandError(str(exc)) from None
