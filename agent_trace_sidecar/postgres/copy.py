"""Rows into their tables, by COPY: the way in which every row is written.

COPY reports how many rows it has stored, and a trigger can drop some without an error: the number is compared.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import asyncpg

from agent_trace_sidecar.postgres import updates
from agent_trace_sidecar.postgres.binary_copy import event_rows, rows_of
from agent_trace_sidecar.postgres.schema_check import COLUMNS, DroppedError, WrongShapeError
from agent_trace_sidecar.records.rows import (
    Built,
    CallRow,
    DeadLetter,
    EventRow,
    FileStateRow,
    Item,
    MaskedRow,
    RangeRow,
    RecordRow,
    StepRow,
    Void,
)

Rows: TypeAlias = Mapping[str, Sequence[tuple[Any, ...]]]
"""Rows by their table, with the columns of its row type."""

_EVENTS: Final = "agent_trace_events"
_COLUMNS: Final = {
    _EVENTS: EventRow._fields,
    "agent_trace_records": RecordRow._fields,
    "agent_trace_ranges": RangeRow._fields,
    "agent_trace_file_states": FileStateRow._fields,
    "agent_trace_usage": StepRow._fields,
    "agent_trace_ended_calls": CallRow._fields,
    "agent_trace_masked": MaskedRow._fields,
    "agent_trace_dead_letters": DeadLetter._fields,
}
_TYPES: Final = {table: tuple(COLUMNS[table][column] for column in columns) for table, columns in _COLUMNS.items()}
_SHORT: Final = {
    "timestamp with time zone": "timestamptz", "integer": "int4", "bigint": "int8", "bigint[]": "int8[]",
}  # fmt: skip
"""What the driver calls a type, where that is another name."""


async def copy_items(connection: asyncpg.Connection, items: Sequence[Item], voids: Sequence[Void] = ()) -> None:
    """COPY the rows of these lines into their tables, then apply their undos and `voids`.

    Raises:
        DroppedError: the server has not stored all rows.
        ValueError: a value can't be encoded, see `binary_copy`.
        WrongShapeError: a column is of another type.
    """
    more = [item for item in items if _has_more(item.built)]  # few: the passes below are over these
    await updates.drop_refined(connection, more)
    latest = updates.latest(more)
    await copy(
        connection,
        {
            _EVENTS: [item.built.event for item in items],
            "agent_trace_records": [row for built in latest for row in built.records],
            "agent_trace_ranges": [row for built in latest for row in built.ranges],
            "agent_trace_file_states": [row for built in latest for row in built.states],
            "agent_trace_usage": [row for item in more for row in item.built.steps],
            "agent_trace_ended_calls": [row for item in more for row in item.built.calls],
            "agent_trace_masked": [row for item in more for row in item.built.masked],
        },
    )
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


async def copy(connection: asyncpg.Connection, rows: Rows) -> None:
    """COPY rows, if there are any.

    Raises:
        DroppedError, ValueError, WrongShapeError: see `copy_items`.
    """
    given = {table: some for table, some in rows.items() if some}
    if given:
        await _check_types(connection, given)
    for table, some in given.items():
        data = event_rows(some) if table == _EVENTS else rows_of(_TYPES[table], some)  # type: ignore[arg-type]
        await copy_encoded(connection, table, data, _COLUMNS[table], len(some))


async def copy_encoded(
    connection: asyncpg.Connection, table: str, data: bytes, columns: Sequence[str], rows: int
) -> None:
    """COPY so many rows that are encoded already, see `binary_copy`.

    Raises:
        DroppedError: the server has not stored all of them.
    """
    # The driver takes bytes for a file's name, and while it waits for a full socket between the parts of an iterator,
    # the exception of a connection that dies reaches nobody. It takes a buffer, which its types don't name, at once.
    buffer: Any = memoryview(data)
    tag = await connection.copy_to_table(table, source=buffer, columns=columns, format="binary")
    if tag != f"COPY {rows}":
        raise DroppedError(table)


async def _check_types(connection: asyncpg.Connection, tables: Rows) -> None:
    """Make sure that the columns of these tables still are what their rows are encoded for, in one round trip.

    A column that was made a text would take the bytes of a jsonb, and report success.

    Raises:
        WrongShapeError: one of them is not.
    """
    columns = [
        (table, name, kind) for table in tables for name, kind in zip(_COLUMNS[table], _TYPES[table], strict=True)
    ]
    named = ", ".join(f"{table}.{name}" for table, name, _ in columns)
    statement = await connection.prepare(f"SELECT {named} FROM {', '.join(tables)}")  # noqa: S608 - constants
    for (table, name, kind), found in zip(columns, statement.get_attributes(), strict=True):
        if found.type.name != _SHORT.get(kind, kind):
            raise WrongShapeError(f"{table}.{name} is not of type {kind}")
