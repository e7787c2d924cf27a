"""Which lines of a batch the server refuses: run only after it has refused the batch.

Strategy: one statement inserts all rows, each line's in a subtransaction of its own, and returns each outcome.
It costs one round trip, however many are refused. The rows travel as one JSON text in a setting that ends with the
transaction: a DO block takes no parameters, and a temporary table or a function would be left behind in a pooler's
session. Where the server can't do that, the lines are halved until each refused one stands alone.

The caller's transaction is rolled back: nothing of this stays.
"""

from collections.abc import Sequence
from typing import Final, TypeGuard

import asyncpg
import msgspec

from agent_trace_sidecar.postgres import updates
from agent_trace_sidecar.postgres.copy import copy_items
from agent_trace_sidecar.postgres.errors import Fate, Verdict, by_sqlstate, verdict
from agent_trace_sidecar.postgres.schema_check import COLUMNS, DROPPED_CODE
from agent_trace_sidecar.records.rows import Built, EventRow, FileStateRow, Item, RangeRow, RecordRow

_TABLES: Final = {
    "agent_trace_events": EventRow._fields,
    "agent_trace_records": RecordRow._fields,
    "agent_trace_ranges": RangeRow._fields,
    "agent_trace_file_states": FileStateRow._fields,
}


def _inserts() -> str:
    """For each table a loop over the line's rows, which are arrays of the columns."""
    loops = ""
    for at, (table, columns) in enumerate(_TABLES.items()):
        values = ", ".join(_value(n, COLUMNS[table][name]) for n, name in enumerate(columns))
        loops += f"""
        IF jsonb_array_length(line->{at}) > 0 THEN
            FOR fields IN SELECT * FROM jsonb_array_elements(line->{at}) LOOP
                INSERT INTO {table} ({", ".join(columns)}) VALUES ({values});
                IF NOT FOUND THEN
                    RAISE EXCEPTION 'dropped' USING ERRCODE = '{DROPPED_CODE}';
                END IF;
            END LOOP;
        END IF;"""  # noqa: S608 - constants
    return loops


def _value(column: int, kind: str) -> str:
    """How a value of this type is read from what msgspec makes of it."""
    if kind == "bytea":
        return f"decode(fields->>{column}, 'base64')"
    if kind == "bigint[]":
        return f"translate(fields->>{column}, '[]', '{{}}')::bigint[]"  # no subquery, which Citus takes in no VALUES
    return f"(fields->>{column})::{kind}"


_JUDGE: Final = f"""
DO $$
DECLARE
    line jsonb;
    fields jsonb;
    at integer := 0;
    code text;
    rule text;
    refused text[] := '{{}}';
BEGIN
    FOR line IN SELECT * FROM jsonb_array_elements(current_setting('agent_trace.lines')::jsonb) LOOP
        BEGIN{_inserts()}
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, rule = CONSTRAINT_NAME;
            refused := refused || json_build_array(at, code, rule)::text;
        END;
        at := at + 1;
    END LOOP;
    PERFORM set_config('agent_trace.refused', '[' || array_to_string(refused, ',') || ']', true);
END $$
"""  # noqa: S608 - constants

CHECK_AT_ONCE: Final = "SET CONSTRAINTS ALL IMMEDIATE"
"""Constraints and triggers that are deferred would refuse the COMMIT, and no row could be found."""

Refused = dict[int, Verdict]
"""By a line's place in the batch."""


async def judge(connection: asyncpg.Connection, items: Sequence[Item]) -> Refused:
    """Try all lines on the server at once; an answer other than "refused" raises.

    Raises:
        asyncpg.PostgresError: the server can't run the statement.
    """
    refused: Refused = {}
    lines = [_encoded(built, at, refused) for at, built in enumerate(updates.latest(items))]
    await updates.drop_refined(connection, items)
    await connection.execute("SELECT set_config('agent_trace.lines', $1, true)", f"[{b','.join(lines).decode()}]")
    await connection.execute(_JUDGE)
    answer = await connection.fetchval("SELECT current_setting('agent_trace.refused')")
    for at, code, rule in msgspec.json.decode(answer, type=list[tuple[int, str, str]]):
        refused[at] = by_sqlstate(code, rule=rule)
    return refused


def _encoded(built: Built, at: int, refused: Refused) -> bytes:
    """A line's rows as JSON; one that has none is refused by ourselves."""
    rows = ((built.event,), built.records, built.ranges, built.states)
    try:
        data = msgspec.json.encode(rows)
        if b"\\u0000" in data and any("\0" in value for one in rows for row in one for value in row if _is_text(value)):
            raise ValueError("no text holds NUL")  # noqa: TRY301 - as the driver raises for what it can't encode
    except (TypeError, ValueError, OverflowError) as exc:
        refused[at] = verdict(exc)
        return b"[[],[],[],[]]"
    return data


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str)


async def halve(connection: asyncpg.Connection, items: Sequence[Item], first: int = 0) -> Refused:
    """COPY halves until each refused line stands alone; a line that clashes with an earlier one is found as well.

    Raises:
        asyncpg.PostgresError: what is wrong is not a line's fault.
    """
    try:
        async with connection.transaction():
            await copy_items(connection, items)
    except Exception as exc:
        found = verdict(exc)
        if found.fate not in (Fate.STATEMENT, Fate.ROW, Fate.DUPLICATE):
            raise
        if len(items) == 1:
            return {first: found}
        half = len(items) // 2
        earlier = await halve(connection, items[:half], first)
        return earlier | await halve(connection, items[half:], first + half)
    return {}
