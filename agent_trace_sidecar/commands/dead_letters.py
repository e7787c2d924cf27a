"""Events that could not be stored: a list, and a retry after the cause was removed.

A retry does with a dead letter what the shipper did with its line, in one transaction: parse, build, deduplicate, COPY.
What is stored then (or was stored by another way meanwhile) is no dead letter any more; the rest stays as it is. The
counts of the log that it came from count the line as it was when it was read and stay too: a row of kind `retry` in
`agent_trace_sources` holds the difference, so that the sums over all rows agree with the tables.
"""

import argparse
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID, uuid5

import asyncpg
import msgspec

from agent_trace_sidecar.commands.common import PROGRAM
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import page, say, say_json
from agent_trace_sidecar.commands.tables import Column, table_lines
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.opencode.wire import Envelope, content_hash, parse
from agent_trace_sidecar.postgres.bisect import CHECK_AT_ONCE
from agent_trace_sidecar.postgres.copy import copy_items
from agent_trace_sidecar.postgres.errors import Fate, verdict
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.dead_letter import dead_letter_key
from agent_trace_sidecar.records.rows import DeadLetter, GateKey, Item

_SHOWN_CHARS: Final = 200
_AT_ONCE: Final = 1000
"""Letters of one transaction of a retry."""
_RETRY_ID: Final = uuid5(UUID(int=0), "agent-trace-sidecar:retry")

_COLUMNS: Final = "source_id, position, reason, error, line, seen_at"
_LIST: Final = f"""
SELECT {_COLUMNS} FROM agent_trace_dead_letters WHERE $1::text IS NULL OR reason = $1 ORDER BY seen_at DESC LIMIT $2
"""  # noqa: S608 - constants
_TAKE: Final = f"""
SELECT {_COLUMNS} FROM agent_trace_dead_letters
WHERE ($1::text IS NULL OR reason = $1)
  AND ($3::uuid IS NULL OR (source_id, position, seen_at) > ($3, $4::bigint, $5::timestamptz))
ORDER BY source_id, position, seen_at LIMIT $2
"""  # noqa: S608 - constants
_DELETE: Final = """
DELETE FROM agent_trace_dead_letters WHERE source_id = $1 AND position = $2 AND seen_at = $3 RETURNING position
"""
_DISCARD: Final = "DELETE FROM agent_trace_dead_letters WHERE $1::text IS NULL OR reason = $1"
_FORGET: Final = "DELETE FROM agent_trace_dedupe WHERE source_id = $1 AND event_id = $2"
_KNOWN: Final = "SELECT FROM agent_trace_dedupe WHERE source_id = $1 AND event_id = $2"
_GATE: Final = """
INSERT INTO agent_trace_dedupe (source_id, event_id, seen_at, content_hash) VALUES ($1, $2, $3, $4)
ON CONFLICT (source_id, event_id) DO NOTHING RETURNING event_id
"""
_STATE: Final = "SELECT state::text FROM agent_trace_sources WHERE source_id = $1 AND kind = 'instance'"
_TURN: Final = """
INSERT INTO agent_trace_sources (source_id, kind, host, epoch, position, state, opened_at, updated_at)
VALUES ($1, 'retry', '', 0, 0, '{}', $2, $2)
ON CONFLICT (source_id, log_id) DO UPDATE SET updated_at = $2 RETURNING state
"""
"""One retry at a time: the row is locked until the transaction ends. No FOR UPDATE, which takes locks on many nodes of
a distributed database at once."""
_COUNT: Final = "UPDATE agent_trace_sources SET state = $2 WHERE source_id = $1"


class Letter(msgspec.Struct, frozen=True):
    """One dead letter, for people and for JSON."""

    source: str
    """The log it was read from, as `status` names it."""
    position: int
    reason: str
    error: str
    seen_at: datetime
    bytes: int
    line: str
    """Its first characters; what is no UTF-8 is shown as U+FFFD."""


class Retried(NamedTuple):
    """The outcome of a retry, in dead letters."""

    stored: int
    duplicate: int
    """Stored already by another way."""
    left: int

    def sentence(self) -> str:
        """For a person."""
        return f"{self.stored} stored, {self.duplicate} already stored, {self.left} still refused"


class _Counts(msgspec.Struct):
    """The state of the row of kind `retry`: what to add to the sums of the logs."""

    read: int = 0
    stored: int = 0
    duplicate: int = 0
    dead: int = 0


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to do with which of them."""
    parser.add_argument(
        "action", choices=["list", "retry", "discard"], nargs="?", default="list", help="default: %(default)s"
    )
    parser.add_argument("--reason", metavar="WORD", help="only dead letters with this reason, as `status` lists it")
    parser.add_argument(
        "--limit", metavar="N", type=int, default=50, help="maximum number to list, newest first (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with complete contents")


def run(config: Config, given: argparse.Namespace) -> int:
    """Show them, or try them again."""

    async def show(connection: asyncpg.Connection) -> list[Letter]:
        return await letters(connection, reason=given.reason, limit=given.limit, whole=given.json)

    async def again(connection: asyncpg.Connection) -> Retried:
        settings = BuildSettings(config.spec_version, config.tool_name, config.tool_version)
        return await retry(connection, lambda: Builder(settings), datetime.now(UTC), reason=given.reason)

    async def away(connection: asyncpg.Connection) -> int:
        return await discard(connection, datetime.now(UTC), reason=given.reason)

    if given.action == "discard":
        say(f"{with_database(config, away)} dead letters deleted")
        return 0
    if given.action == "retry":
        say(with_database(config, again).sentence())
        return 0
    found = with_database(config, show)
    if given.json:
        say_json(msgspec.json.encode(found).decode())
    else:
        page(as_text(found))
    return 0


async def letters(
    connection: asyncpg.Connection, *, reason: str | None = None, limit: int = 50, whole: bool = False
) -> list[Letter]:
    """The newest dead letters; with `whole` their lines are not shortened."""
    rows = await connection.fetch(_LIST, reason, limit)
    return [
        Letter(
            str(row["source_id"]),
            row["position"],
            row["reason"],
            row["error"],
            row["seen_at"].astimezone(UTC),
            len(row["line"]),
            row["line"].decode("utf-8", "replace")[: None if whole else _SHOWN_CHARS],
        )
        for row in rows
    ]


def as_text(found: Sequence[Letter]) -> list[str]:
    """The lines for a person, newest first."""
    if not found:
        return ["no dead letters"]
    columns = (
        Column(f"seen ({found[0].seen_at.astimezone().tzname()})"),
        Column("reason"),
        Column("bytes", is_number=True),
        Column("error", may_be_cut=True),
        Column("event", may_be_cut=True),
    )
    rows = [
        (f"{one.seen_at.astimezone():%Y-%m-%d %H:%M}", one.reason, str(one.bytes), one.error, one.line) for one in found
    ]
    return [
        *table_lines(columns, rows),
        f"`{PROGRAM} dead-letters --json` prints them complete, with source and position.",
    ]


async def retry(
    connection: asyncpg.Connection, make_builder: Callable[[], Builder], now: datetime, *, reason: str | None = None
) -> Retried:
    """Try all of them again, or those of one reason; a transaction for each thousand.

    Raises:
        asyncpg.PostgresError: what is wrong is not a letter's fault; the letters of this transaction stay.
    """
    total = Retried(0, 0, 0)
    after: tuple[UUID | None, int | None, datetime | None] = (None, None, None)
    while True:
        async with connection.transaction():
            await connection.execute(CHECK_AT_ONCE)
            counted = await connection.fetchval(_TURN, _RETRY_ID, now)
            rows = await connection.fetch(_TAKE, reason, _AT_ONCE, *after)
            builder = make_builder()
            done = Retried(0, 0, 0)
            for row in rows:
                done = _plus(done, await _again(connection, builder, DeadLetter(*row), now))
            await _count(connection, counted, done)
        total = _plus(total, done)
        if len(rows) < _AT_ONCE:
            return total
        after = (rows[-1]["source_id"], rows[-1]["position"], rows[-1]["seen_at"])


async def discard(connection: asyncpg.Connection, now: datetime, *, reason: str | None = None) -> int:
    """Delete all of them, or those of one reason; their keys stay known, so no replay brings them back."""
    async with connection.transaction():
        counted = msgspec.json.decode(await connection.fetchval(_TURN, _RETRY_ID, now), type=_Counts)
        deleted = int((await connection.execute(_DISCARD, reason)).rpartition(" ")[2])
        counted.read -= deleted
        counted.dead -= deleted
        await connection.execute(_COUNT, _RETRY_ID, msgspec.json.encode(counted).decode())
    return deleted


async def _again(connection: asyncpg.Connection, builder: Builder, letter: DeadLetter, now: datetime) -> Retried:
    envelope = parse(letter.line)
    if not isinstance(envelope, Envelope):
        return Retried(0, 0, 1)
    if not builder.knows(envelope.instance):
        builder.load(envelope.instance, (await connection.fetchval(_STATE, envelope.instance) or "").encode())
    item = Item(builder.feed(envelope), letter.line, letter.position, content_hash(letter.line, envelope))
    try:
        async with connection.transaction():  # a savepoint: what is still refused gets its letter back
            return await _store(connection, item, letter, now)
    except (asyncpg.PostgresError, TypeError, ValueError, OverflowError) as exc:
        match verdict(exc).fate:
            case Fate.ROW | Fate.STATEMENT:
                return Retried(0, 0, 1)
            case Fate.DUPLICATE:  # the ids were deleted from the deduplication table
                await connection.execute(_DELETE, letter.source_id, letter.position, letter.seen_at)
                return Retried(0, 1, 0)
            case Fate.RETRY | Fate.SLOW | Fate.OPERATOR:
                raise


async def _store(connection: asyncpg.Connection, item: Item, letter: DeadLetter, now: datetime) -> Retried:
    """Deduplicate: a refused line by its event's id, any other one by an id of its own.

    The letter goes first: one that was pruned meanwhile is not brought back.
    """
    key = GateKey(item.built.event.source_id, item.built.event.event_id)
    if letter.reason == "conflict" and await connection.fetchrow(_KNOWN, *key) is not None:
        return Retried(0, 0, 1)
    if await connection.fetchval(_DELETE, letter.source_id, letter.position, letter.seen_at) is None:
        return Retried(0, 0, 0)
    await connection.execute(_FORGET, *(key if letter.reason == "refused" else dead_letter_key(letter)))
    fresh = await connection.fetchval(_GATE, *key, now, item.content_hash)
    if fresh is not None:
        await copy_items(connection, [item])
    return Retried(1, 0, 0) if fresh is not None else Retried(0, 1, 0)


async def _count(connection: asyncpg.Connection, counted: str, done: Retried) -> None:
    counts = msgspec.json.decode(counted, type=_Counts)
    counts.stored += done.stored
    counts.duplicate += done.duplicate
    counts.dead -= done.stored + done.duplicate
    await connection.execute(_COUNT, _RETRY_ID, msgspec.json.encode(counts).decode())


def _plus(one: Retried, two: Retried) -> Retried:
    return Retried(*(a + b for a, b in zip(one, two, strict=True)))
