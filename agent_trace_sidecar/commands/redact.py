"""`redact --stored`: rows that were stored before the rules improved, masked again with today's rules.

Goes through each table in the order of its key, a batch per transaction. How far it has come is kept in a row of
`agent_trace_sources`, so that an interrupted run goes on where it stopped; when it is through, it starts over at the
next call.
"""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid5

import asyncpg

from agent_trace_sidecar.commands.common import CommandError
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import overwrite, say
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.pipeline.daemon import make_redactor
from agent_trace_sidecar.redaction import Redactor
from agent_trace_sidecar.telemetry import logging as log

_NAMESPACE: Final = UUID("b2f1a0de-5c47-5d0b-9c39-0b7f2f6f7c11")


class _Table(NamedTuple):
    name: str
    keys: tuple[tuple[str, str], ...]
    """Columns of the primary key and their types, in order."""
    column: str
    kind: str


_TABLES: Final = (
    _Table(
        "agent_trace_events",
        (("source_id", "uuid"), ("event_id", "uuid"), ("occurred_at", "timestamptz")),
        "payload",
        "jsonb",
    ),
    _Table(
        "agent_trace_records",
        (("source_id", "uuid"), ("record_id", "uuid"), ("recorded_at", "timestamptz")),
        "record",
        "jsonb",
    ),
    _Table(
        "agent_trace_dead_letters",
        (("source_id", "uuid"), ("position", "bigint"), ("seen_at", "timestamptz")),
        "line",
        "bytea",
    ),
)

_LOAD: Final = "SELECT state::text FROM agent_trace_sources WHERE source_id = $1"
_SAVE: Final = """
INSERT INTO agent_trace_sources (source_id, kind, host, epoch, position, state, opened_at, updated_at)
VALUES ($1, 'redact', '', 1, $2, $3::text::jsonb, $4, $4)
ON CONFLICT (source_id) DO UPDATE SET position = $2, state = $3::text::jsonb, updated_at = $4
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """A confirmation: rows are rewritten."""
    parser.add_argument(
        "--stored", action="store_true", required=True, help="required: confirms that stored rows are rewritten"
    )


def run(config: Config, _: argparse.Namespace) -> int:
    """Mask stored rows with today's rules."""
    if not config.redaction:
        raise CommandError("AGENT_TRACE_REDACTION is off: set it to on to mask what is stored.")
    redactor = make_redactor(config, log.logger())

    async def work(connection: asyncpg.Connection) -> dict[str, int]:
        return await redact_stored(connection, redactor, progress=_show)

    changed = with_database(config, work)
    if sys.stderr.isatty():
        overwrite("")
    say(*(f"{table}: {rows} rows masked" for table, rows in changed.items()))
    return 0


def _show(table: str, rows: int) -> None:
    if sys.stderr.isatty():
        overwrite(f"{table}: {rows} rows checked")


async def redact_stored(
    connection: asyncpg.Connection,
    redactor: Redactor,
    *,
    batch_rows: int = 500,
    progress: Callable[[str, int], None] = lambda _table, _rows: None,
) -> dict[str, int]:
    """Mask the stored rows again; returns how many rows were changed, by table.

    Args:
        connection: to the database; nobody else needs to stop meanwhile.
        redactor: holds today's rules.
        batch_rows: how many rows one transaction looks at.
        progress: is told, after each batch, the table and how many of its rows were looked at in this run.
    """
    changed = {}
    for table in _TABLES:
        changed[table.name] = await _table(connection, redactor, table, batch_rows, progress)
    return changed


async def _table(
    connection: asyncpg.Connection,
    redactor: Redactor,
    table: _Table,
    batch_rows: int,
    progress: Callable[[str, int], None],
) -> int:
    place = uuid5(_NAMESPACE, table.name)
    after = await _resume(connection, place, redactor.version)
    seen = changed = 0
    while True:
        async with connection.transaction():
            rows = await connection.fetch(_select(table, first=after is None), *(after or ()), batch_rows)
            edits = [
                (*tuple(row.values())[:-1], new) for row in rows if (new := _masked(redactor, table, row)) is not None
            ]
            if edits:
                await connection.executemany(_update(table), edits)
            seen += len(rows)
            changed += len(edits)
            after = [str(value) for value in tuple(rows[-1].values())[:-1]] if len(rows) == batch_rows else None
            await _remember(connection, place, redactor.version, after, seen)
        progress(table.name, seen)
        if after is None:
            return changed


async def _resume(connection: asyncpg.Connection, place: UUID, version: str) -> list[str] | None:
    """The key after which to go on; None at the start, and when the rules have changed since."""
    text = await connection.fetchval(_LOAD, place)
    state = json.loads(text) if text else {}
    after = state.get("after") if state.get("rules") == version else None
    return [str(part) for part in after] if after else None


async def _remember(
    connection: asyncpg.Connection, place: UUID, version: str, after: list[str] | None, seen: int
) -> None:
    state = json.dumps({"rules": version, "after": after})
    await connection.execute(_SAVE, place, seen, state, datetime.now(UTC))


def _masked(redactor: Redactor, table: _Table, row: asyncpg.Record) -> Any:  # noqa: ANN401 - text or bytes by column
    """The row's new value, or None when it stays as it is."""
    old = row[table.column]
    raw = old if isinstance(old, bytes) else str(old).encode()
    new = redactor.stored(raw)
    if new == raw:
        return None
    return new if isinstance(old, bytes) else new.decode()


def _select(table: _Table, *, first: bool) -> str:
    names = ", ".join(name for name, _ in table.keys)
    texts = ", ".join(f"{name}::text AS {name}" for name, _ in table.keys)
    value = table.column if table.kind == "bytea" else f"{table.column}::text AS {table.column}"
    bounds = ", ".join(f"${n}::text::{kind}" for n, (_, kind) in enumerate(table.keys, 1))
    where = "" if first else f"WHERE ({names}) > ({bounds})"
    limit = 1 if first else len(table.keys) + 1
    order = ", ".join(f"{table.name}.{name}" for name, _ in table.keys)
    return f"SELECT {texts}, {value} FROM {table.name} {where} ORDER BY {order} LIMIT ${limit}"  # noqa: S608 - constants


def _update(table: _Table) -> str:
    where = " AND ".join(f"{name} = ${n}::text::{kind}" for n, (name, kind) in enumerate(table.keys, 1))
    last = len(table.keys) + 1
    value = f"${last}" if table.kind == "bytea" else f"${last}::text::{table.kind}"
    return f"UPDATE {table.name} SET {table.column} = {value} WHERE {where}"  # noqa: S608 - constants
