"""Lines of one run of a shim that reach the database by two sidecars at once, or out of order: as if by one."""

import json
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from agent_trace_sidecar.records.session import MAX_GAPS
from tests.support.oracle import Oracle
from tests.support.postgres import PostgresServers, fetch
from tests.support.shipping import Shipping

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"


class Known(NamedTuple):
    """What the row of an instance says."""

    highest: int
    missing: int
    gaps: list[list[int]]


def known(url: str, instance: UUID) -> Known:
    """What the database knows of the instance's numbers."""
    query = """
    SELECT position, state->'sequence'->'missing' AS missing, state->'sequence'->'gaps' AS gaps
    FROM agent_trace_sources WHERE source_id = $1 AND kind = 'instance'
    """
    row = fetch(url, query, instance)[0]
    return Known(row["position"], int(row["missing"]), json.loads(row["gaps"]))


def clean(oracle: Oracle, url: str) -> None:
    """Nothing is lost, twice or altered, and no gap is reported."""
    assert oracle.check(url, []).problems == []
    assert known(url, oracle.instance) == Known(oracle.seq, 0, [])


async def test_the_older_lines_come_last(migrated_url: str, tmp_path: Path) -> None:
    """A new sidecar delivers before a dead one's spool is adopted: the gap is reported, and closes."""
    oracle = Oracle(140)
    lines = [oracle.line() for _ in range(200)]
    for name, part in (("new", lines[120:]), ("old", lines[40:120]), ("older", lines[:40])):
        async with Shipping(tmp_path / name, migrated_url) as shipping:
            shipping.append(part)
            await shipping.delivered()
        assert known(migrated_url, oracle.instance).missing == int(part[0][0]) - 1
    clean(oracle, migrated_url)


async def test_lines_that_never_come_stay_missing(migrated_url: str, tmp_path: Path) -> None:
    """Whichever of the two saw the gap, and whoever writes last."""
    oracle = Oracle(141, hostile=False)
    lines = [oracle.line("small") for _ in range(30)]
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(Shipping(tmp_path / n, migrated_url)) for n in ("one", "two")]
        for shipping, part in ((one, lines[:5]), (two, lines[10:15]), (one, lines[20:]), (two, lines[5:8])):
            shipping.append(part)
            await shipping.delivered()
    assert known(migrated_url, oracle.instance) == Known(30, 7, [[9, 10], [16, 20]])


WAYS: dict[str, tuple[slice, slice]] = {
    "halves": (slice(0, 400), slice(400, 800)),
    "overlapping": (slice(0, 500), slice(300, 800)),
    "every second": (slice(0, 800, 2), slice(1, 800, 2)),
    "the same": (slice(0, 800), slice(0, 800)),
}


@pytest.mark.parametrize("way", WAYS)
async def test_two_deliver_at_the_same_time(migrated_url: str, tmp_path: Path, way: str) -> None:
    """Batch against batch: who comes second builds anew on what the first one left."""
    oracle = Oracle(142, hostile=False)
    lines = [oracle.line("small") for _ in range(800)]
    shippings = [Shipping(tmp_path / name, migrated_url) for name in ("one", "two")]
    async with AsyncExitStack() as stack:
        for shipping in shippings:
            await stack.enter_async_context(shipping)
        for at in range(0, 800, 100):
            for shipping, part in zip(shippings, WAYS[way], strict=True):
                shipping.append(lines[part][at : at + 100])
        for shipping in shippings:
            await shipping.delivered(60)
        assert [shipping.causes for shipping in shippings] == [[], []]
    clean(oracle, migrated_url)


async def test_more_gaps_than_are_listed(migrated_url: str, tmp_path: Path) -> None:
    """The bound: gaps in more places than are remembered are counted for good, those that are close as always."""
    oracle = Oracle(143, hostile=False)
    lines = [oracle.line("small") for _ in range(MAX_GAPS * 2 + 40)]
    for name, part in (("odd", lines[1::2]), ("even", lines[::2])):
        async with Shipping(tmp_path / name, migrated_url, batch_size=1000) as shipping:
            shipping.append(part)
            await shipping.delivered()
    assert known(migrated_url, oracle.instance) == Known(oracle.seq, 20, [])


def _records(url: str) -> list[dict[str, Any]]:
    query = """
    SELECT r.record::text AS record, r.model_id, e.message_id, (
        SELECT array_agg((path, start_line, end_line, method, model_id, message_id)::text ORDER BY path, start_line)
        FROM agent_trace_ranges WHERE record_id = r.record_id
    ) AS ranges
    FROM agent_trace_records r JOIN agent_trace_events e USING (event_id) ORDER BY e.seq
    """
    return [dict(row) for row in fetch(url, query)]


async def _by(ways: int, folder: Path, url: str, lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """Deliver line after line, each by one of so many shippers."""
    rnd = random.Random(144)  # noqa: S311 - must be repeatable
    shippings = [Shipping(folder / str(number), url, batch_size=1) for number in range(ways)]
    async with AsyncExitStack() as stack:
        for shipping in shippings:
            await stack.enter_async_context(shipping)
        for seq, line in enumerate(lines):
            shipping = rnd.choice(shippings)
            shipping.append([(seq, line)])
            await shipping.delivered()
    return _records(url)


@pytest.mark.parametrize("recording", ["apply-patch", "subagent-overwrite-crlf-unicode-commit"])
async def test_records_are_as_by_one(postgres_servers: PostgresServers, tmp_path: Path, recording: str) -> None:
    """A real session dealt to three sidecars, line by line: model, message and ranges of each record are the same."""
    lines = (RECORDINGS / f"{recording}.jsonl").read_bytes().splitlines()[:120]
    with postgres_servers.database(migrated=True) as one, postgres_servers.database(migrated=True) as three:
        expected = await _by(1, tmp_path / "one", one, lines)
        assert await _by(3, tmp_path / "three", three, lines) == expected
    assert expected
