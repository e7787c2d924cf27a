"""What an error means for a batch: every SQLSTATE that a server may answer with has its fate, and its hint helps."""

import asyncio
import struct
from typing import Any

import asyncpg
import pytest

from agent_trace_sidecar.postgres.errors import Fate, TooSlowError, verdict
from agent_trace_sidecar.postgres.explain import explained
from agent_trace_sidecar.postgres.schema_check import WrongShapeError
from tests.support.postgres import connected

FATES = {
    Fate.RETRY: (
        "08000 08001 08003 08004 08006 08P01 25006 25P02 25P03 25P04 40001 40P01 40003 53000 53100 53200 53300 53400 "
        "55006 55P03 57000 57P01 57P02 57P03 57P05 58000 58030 XX001 XX002"
    ),
    Fate.SLOW: "57014",
    Fate.STATEMENT: "0A000 P0001 99999 21000 38000 2F000",
    Fate.OPERATOR: "55000 55P02 28000 28P01 3D000 3F000 42501 42P01 42703 42704 42883 42804 42601",
    Fate.ROW: "22000 22001 22003 22007 22008 22021 22023 22P02 22P05 22030 23502 23503 23505 54000 54001 54011",
}
CASES = [(code, fate) for fate, codes in FATES.items() for code in codes.split()]


def server_says(code: str, message: str = "made by the test") -> asyncpg.PostgresError:
    """An error as the driver makes it of a server's answer."""
    error: asyncpg.PostgresError = asyncpg.PostgresError.new({"C": code, "M": message, "S": "ERROR"})
    return error


@pytest.mark.parametrize(("code", "fate"), CASES)
def test_every_sqlstate_has_a_fate(code: str, fate: Fate) -> None:
    """What is of the moment is tried again, what a person must mend is said; only a row's own fault is the row's."""
    found = verdict(server_says(code))
    assert (found.fate, found.cause) == (fate, code)
    assert found.hint


@pytest.mark.parametrize(
    ("key", "fate"),
    [
        ("agent_trace_events_pkey", Fate.DUPLICATE),
        ("agent_trace_events_2026_11_pkey", Fate.DUPLICATE),
        ("agent_trace_file_states_2026_11_pkey", Fate.ROW),
        ("agent_trace_events_of_a_user", Fate.ROW),
    ],
)
def test_only_an_event_is_stored_before(key: str, fate: Fate) -> None:
    """A clash in another table, or in an index of a user's own, must be seen: the event becomes a dead letter."""
    error = asyncpg.PostgresError.new({"C": "23505", "M": "made by the test", "S": "ERROR", "n": key})
    assert verdict(error).fate is fate


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (ConnectionResetError(), Fate.RETRY),
        (TimeoutError(), Fate.RETRY),
        (TooSlowError(15), Fate.SLOW),
        (asyncio.IncompleteReadError(b"", 1), Fate.RETRY),
        (asyncpg.InterfaceError("x"), Fate.RETRY),
        (asyncpg.InternalClientError("x"), Fate.RETRY),
        (asyncpg.ConnectionDoesNotExistError("x"), Fate.RETRY),
        (RuntimeError("x"), Fate.RETRY),
        (TypeError("x"), Fate.ROW),
        (ValueError("x"), Fate.ROW),
        (OverflowError("x"), Fate.ROW),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "x"), Fate.ROW),
        (asyncpg.DataError("x"), Fate.ROW),
    ],
)
def test_every_error_of_the_driver_has_a_fate(error: Exception, fate: Fate) -> None:
    """A connection is tried again; what can't be encoded is the row's fault."""
    assert verdict(error).fate is fate


@pytest.mark.parametrize(
    ("code", "message", "named"),
    [
        ("42501", "permission denied for table agent_trace_events", "(agent_trace_events)"),
        ("42P01", 'relation "agent_trace_dead_letters" does not exist', "(agent_trace_dead_letters)"),
        ("42703", 'column "tool" does not exist', "(tool)"),
        ("42703", 'column "tool" of relation "agent_trace_events" does not exist', "(agent_trace_events, tool)"),
    ],
)
def test_the_hint_names_what_is_wrong(code: str, message: str, named: str) -> None:
    """The table and the column."""
    assert named in verdict(server_says(code, message)).hint


def test_no_text_of_the_server_is_passed_on() -> None:
    """It can hold a row, also behind a code of the operator's that a trigger may raise."""
    for code, _ in CASES:
        hint = verdict(server_says(code, 'invalid input "hunter2" for agent_trace_events\nDETAIL: hunter2')).hint
        assert "hunter2" not in hint


async def test_a_connection_that_the_server_closes_explains_nothing(migrated_url: str) -> None:
    """Its message has arrived (it is fed to the driver here), and the end of the connection is still to come."""
    fields = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
    found = verdict(server_says("25006"))
    async with connected(migrated_url) as connection:
        driver: Any = connection
        driver._protocol.data_received(b"E" + struct.pack("!i", len(fields) + 4) + fields)
        assert not connection.is_closed()
        assert await explained(connection, found) == found


def test_a_table_that_was_changed_by_hand_is_named() -> None:
    """With what is wrong with it: `migrate` would not mend it."""
    found = verdict(WrongShapeError("agent_trace_events.seq is not of type bigint"))
    assert (found.fate, found.cause) == (Fate.OPERATOR, "42703")
    assert "agent_trace_events.seq is not of type bigint" in found.hint


def test_what_the_server_reports_before_it_ends_a_connection_counts() -> None:
    """The driver raises that the connection is closed, and what came before as the cause, or as the context."""
    for last in ("57P01", "25P04", "3D000"):
        for link in ("__cause__", "__context__"):
            closed = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
            setattr(closed, link, server_says(last, "x"))
            assert verdict(closed).cause == last
    again = asyncpg.InterfaceError("connection is closed")
    again.__context__ = closed
    assert verdict(again).cause == "3D000"
    assert verdict(asyncpg.ConnectionDoesNotExistError("x")).cause == "08003"
    row = ValueError("a row's own fault")
    row.__context__ = server_says("57P01", "x")
    assert verdict(row).fate is Fate.ROW
