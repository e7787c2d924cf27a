"""Rows that are encoded here are those that the driver would have sent."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_trace_sidecar.postgres.binary_copy import event_rows, gate_rows, rows_of
from agent_trace_sidecar.postgres.copy import copy_encoded
from agent_trace_sidecar.postgres.schema_check import COLUMNS
from agent_trace_sidecar.records.rows import EventRow, GateKey, key_number, numbered_key
from tests.support.postgres import connected, run_apart

_AT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
_UUIDS = [UUID(int=number << 100 | 1) for number in range(3)]
_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "uuid": st.uuids(),
    "timestamp with time zone": st.datetimes(timezones=st.just(UTC)),
    "text": _TEXT,
    "jsonb": st.recursive(_TEXT | st.none() | st.integers(), lambda one: st.lists(one, max_size=3)).map(json.dumps),
    "bytea": st.binary(max_size=40),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "bigint[]": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
    "numeric": st.from_regex(r"-?[0-9]{1,60}(?:\.[0-9]{1,60})?(?:[eE][+-]?[0-9]{1,2})?", fullmatch=True).map(Decimal),
}  # fmt: skip


def rows_like(table: str) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Rows of a table; any of their values may be NULL."""
    values = [st.none() | _VALUES[kind] for kind in COLUMNS[table].values()]
    return st.lists(st.tuples(*values), min_size=1, max_size=30)


async def stored(url: str, table: str, data: bytes, rows: Sequence[Sequence[Any]]) -> tuple[list[str], list[str]]:
    """The rows as text that the encoded `data` stores, and those that the driver stores."""
    columns = list(COLUMNS[table])
    named = ", ".join(f"{name} {kind}" for name, kind in COLUMNS[table].items())
    async with connected(url) as connection:
        await connection.execute(f"CREATE TEMP TABLE ours ({named}); CREATE TEMP TABLE theirs ({named})")
        await copy_encoded(connection, "ours", data, columns, len(rows))
        await connection.copy_records_to_table("theirs", columns=columns, records=rows)
        ours, theirs = [await connection.fetch(f"SELECT t::text FROM {name} t") for name in ("ours", "theirs")]
    return [row[0] for row in ours], [row[0] for row in theirs]


@pytest.mark.parametrize("table", COLUMNS)
def test_every_table_gets_the_rows_that_the_driver_would_send(database_url: str, table: str) -> None:
    """Of whatever values, NULL in any column."""

    @settings(max_examples=10)  # each of many rows: a connection takes more time than they do
    @given(rows_like(table))
    def check(rows: list[tuple[Any, ...]]) -> None:
        data = rows_of(list(COLUMNS[table].values()), rows)
        ours, theirs = run_apart(lambda: stored(database_url, table, data, rows))
        assert ours == theirs

    check()


def test_events_and_dedupe_rows_are_encoded_as_those_of_any_table() -> None:
    """Each of the two has an encoder of its own, since every event is written to it."""
    types = {table: list(columns.values()) for table, columns in COLUMNS.items()}
    keys = [(GateKey(_UUIDS[0], _UUIDS[1]), -5), (GateKey(_UUIDS[1], _UUIDS[2]), None)]
    assert [numbered_key(key_number(key)) for key, _ in keys] == [key for key, _ in keys]
    plain = [(*key, _AT, content) for key, content in keys]
    found = gate_rows([(key_number(key), content) for key, content in keys], _AT)
    assert found == rows_of(types["agent_trace_dedupe"], plain)
    events = [
        EventRow(_UUIDS[0], _AT, _UUIDS[1], 7, "ses_1", "msg_1", "call_1", "hello", "bash", '{"a":"\u00e9"}'),
        EventRow(_UUIDS[2], _AT, _UUIDS[1], 8, None, None, None, "event", None, "{}"),
    ]
    assert event_rows(events) == rows_of(types["agent_trace_events"], events)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("integer", 2**31),
        ("bigint", -(2**63) - 1),
        ("bigint[]", [2**63]),
        ("numeric", Decimal("NaN")),
        ("numeric", Decimal("-Infinity")),
        ("text", "\ud800"),
    ],
)
def test_a_value_that_cannot_be_stored_is_a_value_error(kind: str, value: object) -> None:
    """Then it is the row's fault, and its line becomes a dead letter."""
    with pytest.raises(ValueError, match=r"\w"):
        rows_of([kind], [(value,)])
