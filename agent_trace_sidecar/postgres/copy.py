"""Rows into their tables, by COPY: the way in which every row is written.

COPY reports how many rows it has stored, and a trigger can drop some without an error: the number is compared.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import asyncpg

from agent_trace_sidecar.postgres import updates
from agent_trace_sidecar.postgres.binary_copy import event_rows
from agent_trace_sidecar.postgres.schema_check import DroppedError, WrongShapeError
from agent_trace_sidecar.records.rows import (
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

_EVENT_COLUMNS: Final = f"SELECT {', '.join(EventRow._fields)} FROM agent_trace_events"  # noqa: S608 - constants
_EVENT_TYPES: Final = ("uuid", "timestamptz", "uuid", "int8", "text", "text", "text", "text", "text", "jsonb")
"""What `binary_copy.event_rows` encodes, as pg_type calls it."""


async def copy_items(connection: asyncpg.Connection, items: Sequence[Item], voids: Sequence[Void] = ()) -> None:
    """COPY the rows of these lines into their tables, then apply their undos and `voids`."""
    if items:
        await _check_types(connection)
        data = event_rows([i.built.event for i in items])
        await copy_encoded(connection, "agent_trace_events", data, EventRow._fields, len(items))
    latest = updates.latest(items)
    await updates.drop_refined(connection, items)
    await copy(connection, "agent_trace_records", RecordRow._fields, [row for built in latest for row in built.records])
    await copy(connection, "agent_trace_ranges", RangeRow._fields, [row for built in latest for row in built.ranges])
    await copy(
        connection, "agent_trace_file_states", FileStateRow._fields, [row for built in latest for row in built.states]
    )
    await copy(connection, "agent_trace_usage", StepRow._fields, [row for i in items for row in i.built.steps])
    await copy(connection, "agent_trace_ended_calls", CallRow._fields, [row for i in items for row in i.built.calls])
    await copy(connection, "agent_trace_masked", MaskedRow._fields, [row for i in items for row in i.built.masked])
    await updates.undo(connection, items, voids)


async def copy_encoded(
    connection: asyncpg.Connection, table: str, data: bytes, columns: Sequence[str], rows: int
) -> None:
    """COPY so many rows that are encoded already, see `binary_copy`.

    Raises:
        DroppedError: the server has not stored all of them.
    """
    tag = await connection.copy_to_table(table, source=_once(data), columns=columns, format="binary")
    _check_number(tag, table, rows)


async def _check_types(connection: asyncpg.Connection) -> None:
    """Make sure that the columns of events still are what their rows are encoded for.

    A column that was made a text would take the bytes of a jsonb, and report success.

    Raises:
        WrongShapeError: one of them is not.
    """
    statement = await connection.prepare(_EVENT_COLUMNS)
    for column, wanted in zip(statement.get_attributes(), _EVENT_TYPES, strict=True):
        if column.type.name != wanted:
            raise WrongShapeError(f"agent_trace_events.{column.name} is not of type {wanted}")


def _check_number(tag: str, table: str, rows: int) -> None:
    if tag != f"COPY {rows}":
        raise DroppedError(table)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    """For the driver: a file it would read in a thread, and keep until the next collection of garbage."""
    yield data


async def copy(
    connection: asyncpg.Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """COPY rows, if there are any.

    Raises:
        DroppedError: the server has not stored all of them.
    """
    if rows:
        _check_number(await connection.copy_records_to_table(table, columns=columns, records=rows), table, len(rows))
