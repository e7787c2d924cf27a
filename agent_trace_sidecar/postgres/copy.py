"""Rows into their tables, by COPY: the way in which every row is written."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg

from agent_trace_sidecar.postgres import updates
from agent_trace_sidecar.postgres.binary_copy import event_rows, rows_of
from agent_trace_sidecar.postgres.schema_check import COLUMNS
from agent_trace_sidecar.records.rows import (
    Built,
    CallRow,
    EventRow,
    FileStateRow,
    Item,
    MaskedRow,
    RangeRow,
    RecordRow,
    StepRow,
    Void,
)


async def copy_items(connection: asyncpg.Connection, items: Sequence[Item], voids: Sequence[Void] = ()) -> None:
    """COPY the rows of these lines into their tables, then apply their undos and `voids`."""
    if items:
        await copy_encoded(
            connection, "agent_trace_events", event_rows([i.built.event for i in items]), EventRow._fields
        )
    more = [item for item in items if _has_more(item.built)]  # few: the passes below are over these
    latest = updates.latest(more)
    await updates.drop_refined(connection, more)
    await copy(connection, "agent_trace_records", RecordRow._fields, [row for built in latest for row in built.records])
    await copy(connection, "agent_trace_ranges", RangeRow._fields, [row for built in latest for row in built.ranges])
    await copy(
        connection, "agent_trace_file_states", FileStateRow._fields, [row for built in latest for row in built.states]
    )
    await copy(connection, "agent_trace_usage", StepRow._fields, [row for i in more for row in i.built.steps])
    await copy(connection, "agent_trace_ended_calls", CallRow._fields, [row for i in more for row in i.built.calls])
    await copy(connection, "agent_trace_masked", MaskedRow._fields, [row for i in more for row in i.built.masked])
    await updates.undo(connection, more, voids)


def _has_more(built: Built) -> bool:
    """Whether a line has more than its event's row."""
    return bool(
        built.steps
        or built.calls
        or built.states
        or built.ranges
        or built.records
        or built.masked
        or built.voids
        or built.refined
    )


async def copy_encoded(connection: asyncpg.Connection, table: str, data: bytes, columns: Sequence[str]) -> None:
    """COPY rows that are encoded already, see `binary_copy`."""
    await connection.copy_to_table(table, source=_once(data), columns=columns, format="binary")


async def _once(data: bytes) -> AsyncIterator[bytes]:
    """For the driver: a file it would read in a thread, and keep until the next collection of garbage."""
    yield data


async def copy(
    connection: asyncpg.Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """COPY rows, if there are any.

    Raises:
        ValueError: a value can't be encoded, see `binary_copy`.
    """
    if rows:
        types = COLUMNS[table]
        await copy_encoded(connection, table, rows_of([types[name] for name in columns], rows), columns)
