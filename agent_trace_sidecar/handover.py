"""The commands that hand over records and lines: export, import, and what could not be stored."""

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import msgspec

from agent_trace_sidecar.build import Builder, BuildSettings
from agent_trace_sidecar.command import PROGRAM, CommandError, UsageError
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.database import with_database
from agent_trace_sidecar.query import export as exporting
from agent_trace_sidecar.query.dead_letters import Letter, Retried, letters, retry
from agent_trace_sidecar.query.dead_letters import as_text as letters_text
from agent_trace_sidecar.query.import_ import Imported, read_records, store_records
from agent_trace_sidecar.trace import TraceError, TraceRecord
from agent_trace_sidecar.workspace.checkout import CheckoutError, checkout_of


def export(config: Config, arguments: argparse.Namespace) -> int:
    """Print stored records as Agent Trace JSON lines."""
    chosen = exporting.Chosen(arguments.session, _since(arguments.since), _revisions(arguments))

    async def work(connection: asyncpg.Connection) -> int:
        unread = 0
        async for record in exporting.export(connection, chosen):
            if isinstance(record, str):
                print(record)
            else:
                unread += 1
                _say(f"a record can't be exported: {record}")
        return 1 if unread else 0

    return with_database(config, work)


def dead_letters(config: Config, arguments: argparse.Namespace) -> int:
    """Show the lines that could not be stored, or try them again."""

    async def show(connection: asyncpg.Connection) -> list[Letter]:
        return await letters(connection, reason=arguments.reason, limit=arguments.limit, whole=arguments.json)

    async def again(connection: asyncpg.Connection) -> Retried:
        settings = BuildSettings(config.spec_version, config.tool_name, config.tool_version)
        return await retry(connection, lambda: Builder(settings), datetime.now(UTC), reason=arguments.reason)

    if arguments.action == "retry":
        print(with_database(config, again).sentence())
        return 0
    found = with_database(config, show)
    print(msgspec.json.encode(found).decode() if arguments.json else letters_text(found) or "no dead letters")
    return 0


def import_(config: Config, arguments: argparse.Namespace) -> int:
    """Store Agent Trace files of other tools."""
    unread: list[TraceError] = []

    def records() -> Iterator[TraceRecord]:
        for file in arguments.files:
            for record in _read(file):
                if isinstance(record, TraceError):
                    unread.append(record)
                    _say(f"{file}: a record can't be read: {record}")
                else:
                    yield record

    async def work(connection: asyncpg.Connection) -> Imported:
        return await store_records(connection, checkout_of(arguments.repository.resolve() / "x"), records())

    try:
        done = with_database(config, work)
    except CheckoutError as exc:
        raise CommandError(str(exc)) from None
    print(
        f"{done.stored} records stored, {done.known} were there already; "
        f"the lines of {done.found} of {done.ranges} ranges were found in the repository"
    )
    return 1 if unread else 0


def _read(file: Path) -> list[TraceRecord | TraceError]:
    try:
        return list(read_records(file))
    except OSError as exc:
        raise CommandError(f"{file} can't be read: {exc.strerror}.") from None


def _since(given: str | None) -> datetime | None:
    if not given:
        return None
    try:
        since = datetime.fromisoformat(given)
    except ValueError:
        raise UsageError(f"--since {given!r} is no ISO 8601 time, e.g. 2026-01-31T12:00:00Z.") from None
    return since if since.tzinfo else since.replace(tzinfo=UTC)


def _revisions(arguments: argparse.Namespace) -> list[str] | None:
    """The full hashes of the revisions that were asked for."""
    if arguments.range is None:
        return [arguments.revision] if arguments.revision is not None else None
    try:
        return checkout_of(Path.cwd() / "x").commits(arguments.range)
    except CheckoutError as exc:
        raise CommandError(str(exc)) from None


def _say(sentence: str) -> None:
    print(f"{PROGRAM}: {sentence}", file=sys.stderr)
