"""OpenCode's own numbers of a session's events: what is missing, and what is no loss."""

from collections.abc import Sequence
from typing import Any

import pytest

from agent_trace_sidecar.postgres.streams import streams
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.session import Stream
from tests.support.envelopes import Shim, envelope
from tests.support.postgres import connected, execute

EVENTS: dict[str, tuple[Sequence[tuple[int | None, int, str]], int]] = {
    "nothing is missing": ([(0, 0, "session.created"), (1, 0, "session.renamed"), (2, 0, "session.moved")], 0),
    "left out by the shim": ([(0, 0, "session.created"), (4, 3, "session.renamed")], 0),
    "two are missing": ([(0, 0, "session.created"), (4, 1, "session.renamed")], 2),
    "sent again": ([(0, 0, "session.created"), (1, 0, "session.moved"), (1, 0, "session.moved")], 0),
    "a title's cost": ([(4, 4, "session.renamed"), (None, 0, "session.usage.updated"), (6, 0, "session.moved")], 0),
    "a step's cost explains nothing": (
        [(4, 4, "session.step.ended"), (None, 0, "session.usage.updated"), (6, 0, "session.moved")],
        1,
    ),
}


def line(shim: Shim, number: int | None, skipped: int, name: str) -> bytes:
    """An event of OpenCode 2."""
    event: dict[str, Any] = {"type": name, "properties": {"sessionID": "ses_1"}}
    if number is not None:
        event |= {"durable": {"aggregateID": "ses_1", "seq": number, "version": 1}, "skipped": skipped}
    return shim.line("event", {"event": event}).replace(b'"hook"', b'"api":2,"hook"', 1)


@pytest.mark.parametrize(("events", "missing"), EVENTS.values(), ids=EVENTS)
async def test_a_session_proves_its_own_completeness(
    migrated_url: str, events: Sequence[tuple[int | None, int, str]], missing: int
) -> None:
    """Also when the state is saved and loaded in between."""
    shim, builder = Shim(), Builder(BuildSettings())
    for one in events:
        parsed = envelope(line(shim, *one))
        builder.feed(parsed)
        state = builder.dump(parsed.instance)
        builder.load(parsed.instance, state)
    save(migrated_url, state)
    async with connected(migrated_url) as connection:
        found = await streams(connection)
    assert (found.sessions, found.incomplete) == (1, {"ses_1": missing} if missing else {})


async def test_runs_of_the_same_session_complete_each_other(migrated_url: str) -> None:
    """What lies between two of them is missing."""
    for first, last in ((0, 9), (10, 20), (23, 30)):
        builder, shim = Builder(BuildSettings()), Shim()
        parsed = envelope(line(shim, first, 0, "session.moved"))
        builder.feed(parsed)
        for number in range(first + 1, last + 1):
            builder.feed(envelope(line(shim, number, 0, "session.moved")))
        save(migrated_url, builder.dump(parsed.instance))
    async with connected(migrated_url) as connection:
        assert (await streams(connection)).incomplete == {"ses_1": 2}


async def test_types_that_nobody_knows_are_counted(migrated_url: str) -> None:
    """The shim sends their names, now and then, with how often they came."""
    shim, builder = Shim(), Builder(BuildSettings())
    for count in (1, 2, 4):
        parsed = envelope(shim.line("event", {"event": {"type": "session.novel", "unknown": count}}))
        built = builder.feed(parsed)
        assert built.event.event_name == "session.novel"
    save(migrated_url, builder.dump(parsed.instance))
    async with connected(migrated_url) as connection:
        assert (await streams(connection)).unknown == {"session.novel": 4}


def test_a_stream_of_its_own_is_a_value() -> None:
    """It changes by making another."""
    stream = Stream(0, 3)
    assert stream.seen(4, 0, ends_step=False) == Stream(0, 4)
    assert stream == Stream(0, 3)


def save(url: str, state: bytes) -> None:
    """Store a run's state."""
    execute(
        url,
        "INSERT INTO agent_trace_sources (source_id, kind, host, epoch, position, state, opened_at, updated_at) "
        f"VALUES (gen_random_uuid(), 'instance', 'h', 1, 1, '{state.decode()}', now(), now())",
    )
