"""Months are made ahead, also beside writers, and whatever is where, nothing is lost or hidden."""

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from agent_trace_sidecar.pipeline.shipper import Shipper
from agent_trace_sidecar.postgres import partitions
from agent_trace_sidecar.postgres.partitions import MONTHS_AHEAD, PARTITIONED, Made, drop, make_months, months
from agent_trace_sidecar.postgres.sink import PostgresSink
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.redaction import Redactor
from agent_trace_sidecar.sources.file_log import FileLog
from agent_trace_sidecar.sources.log import LogLine
from agent_trace_sidecar.telemetry.logging import logger
from tests.support.envelopes import Shim
from tests.support.postgres import connected, execute, fetch
from tests.support.waiting import Deadline, eventually_async

TODAY = date(2026, 11, 22)
EVENT = (
    "INSERT INTO agent_trace_events (event_id, occurred_at, source_id, seq, event_name, payload) "
    "SELECT gen_random_uuid(), $1, gen_random_uuid(), n, 'x', '{}' FROM generate_series(1, $2) AS n"
)
WHERE = "SELECT tableoid::regclass::text AS place, count(*) AS n FROM agent_trace_events GROUP BY 1 ORDER BY 1"


async def test_the_present_month_and_those_ahead_are_made_once(migrated_url: str) -> None:
    """A second run finds them all, whatever time zone its session has."""
    async with connected(migrated_url) as connection:
        made = await make_months(connection, TODAY)
        assert made.months[:3] == [f"agent_trace_events_{month}" for month in ("2026_11", "2026_12", "2027_01")]
        assert (len(made.months), made.notes) == (len(PARTITIONED) * (1 + MONTHS_AHEAD), [])
        found = await months(connection, "agent_trace_ranges")
        ids = await months(connection, "agent_trace_dedupe")
    assert (found[0].first, found[0].after) == (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    assert [(one.first, one.after) for one in ids] == [(one.first, one.after) for one in found]
    async with connected(migrated_url, timezone="Asia/Kolkata") as connection:
        assert await make_months(connection, TODAY) == Made([], [])
        assert await months(connection, "agent_trace_ranges") == found


async def test_a_month_is_made_as_its_table_is(migrated_url: str) -> None:
    """Keys, indexes and packing are those of the default partition."""
    shape = (
        "SELECT array(SELECT regexp_replace(pg_get_indexdef(indexrelid), '.* USING', '') FROM pg_index "
        "WHERE indrelid = $1::regclass ORDER BY 1), "
        "array(SELECT concat(attname, attcompression, attstorage, attnotnull) FROM pg_attribute "
        "WHERE attrelid = $1::regclass AND attnum > 0 ORDER BY attnum), "
        "(SELECT count(*) FROM pg_constraint WHERE conrelid = $1::regclass AND contype = 'c')"
    )
    async with connected(migrated_url) as connection:
        await make_months(connection, TODAY, ahead=0)
        for table in PARTITIONED:
            month = await connection.fetchrow(shape, f"{table}_2026_11")
            assert month == await connection.fetchrow(shape, f"{table}_default")


async def test_few_rows_of_a_month_move_and_many_stay(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written before `migrate` ran for the first time does not keep the present month from being made."""
    monkeypatch.setattr(partitions, "MOVE_MAX_ROWS", 10)
    november, december = datetime(2026, 11, 5, tzinfo=UTC), datetime(2026, 12, 5, tzinfo=UTC)
    async with connected(migrated_url) as connection:
        await connection.execute(EVENT, november, 10)
        await connection.execute(EVENT, december, 11)
        made = await make_months(connection, TODAY, ahead=1)
        assert [tuple(row) for row in await connection.fetch(WHERE)] == [
            ("agent_trace_events_2026_11", 10),
            ("agent_trace_events_default", 11),
        ]
    assert "agent_trace_events_2026_12" not in made.months
    assert len(made.notes) == 1
    assert "agent_trace_events_2026_12 not created" in made.notes[0]


async def test_a_busy_table_is_left_alone_with_a_note(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who reads for long is not waited for, and no half-made table stays behind."""
    monkeypatch.setattr(partitions, "_LOCK_TIMEOUT_MS", 20)
    async with connected(migrated_url) as reader, connected(migrated_url) as connection:
        async with reader.transaction():
            await reader.fetch("SELECT FROM agent_trace_events_default")
            made = await make_months(connection, TODAY, ahead=0)
        assert made.months == [f"{table}_2026_11" for table in PARTITIONED if table != "agent_trace_events"]
        assert "was locked for too long" in made.notes[0]
        assert (await make_months(connection, TODAY, ahead=0)).months == ["agent_trace_events_2026_11"]


async def test_a_table_in_the_way_is_named(migrated_url: str) -> None:
    """A month that an operator has detached, for example, is not attached again."""
    async with connected(migrated_url) as connection:
        await connection.execute("CREATE TABLE agent_trace_events_2026_11 (n integer)")
        made = await make_months(connection, TODAY, ahead=0)
    assert made.months == [f"{table}_2026_11" for table in PARTITIONED if table != "agent_trace_events"]
    assert "another table has that name" in made.notes[0]


async def test_two_at_once_make_each_month_once(migrated_url: str) -> None:
    """Whoever comes second finds it made."""
    async with connected(migrated_url) as one, connected(migrated_url) as other:
        made = await asyncio.gather(make_months(one, TODAY), make_months(other, TODAY))
        assert len(await months(one, "agent_trace_events")) == 1 + MONTHS_AHEAD
    assert sum(len(m.months) for m in made) == len(PARTITIONED) * (1 + MONTHS_AHEAD)
    assert [note for m in made for note in m.notes] == []


async def test_months_are_in_the_tables_schema(database_url: str, migrated_url: str) -> None:
    """The search path's first schema may be another one, with a name that needs quotes."""
    del database_url
    execute(
        migrated_url,
        'CREATE SCHEMA "My own"',
        "CREATE SCHEMA traces",
        *(
            f"ALTER TABLE agent_trace_{name}{partition} SET SCHEMA traces"
            for name in ("events", "ranges", "file_states")
            for partition in ("", "_default")
        ),
    )
    async with connected(migrated_url, search_path='"My own", traces, public') as connection:
        await make_months(connection, TODAY, ahead=0)
        assert [month.table for month in await months(connection, "agent_trace_events")] == [
            "traces.agent_trace_events_2026_11"
        ]


async def test_a_table_of_another_kind_is_not_touched(database_url: str) -> None:
    """Who made the tables another way gets a note, not an error."""
    async with connected(database_url) as connection:
        made = await make_months(connection, TODAY)
    assert (made.months, len(made.notes)) == ([], len(PARTITIONED))


async def test_a_month_can_be_dropped_unless_it_is_in_use(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers are not interrupted."""
    monkeypatch.setattr(partitions, "_LOCK_TIMEOUT_MS", 20)
    async with connected(migrated_url) as reader, connected(migrated_url) as connection:
        await make_months(connection, TODAY, ahead=0)
        [month] = await months(connection, "agent_trace_events")
        async with reader.transaction():
            await reader.fetch("SELECT FROM agent_trace_events")
            assert not await drop(connection, month.table)
        assert await drop(connection, month.table)
        assert await months(connection, "agent_trace_events") == []


class SlowLog(FileLog):
    """A file that gives a few lines at a time, as a running OpenCode does."""

    def read(self, position: int, max_bytes: int) -> list[LogLine]:
        """As FileLog."""
        return super().read(position, min(max_bytes, 4000))


async def test_writers_keep_writing_while_months_are_made(migrated_url: str, tmp_path: Path) -> None:
    """Sidecars at work on the very month that is being made lose no line and dead-letter none."""
    count = 4000
    shippers = []
    for number in range(2):
        shim = Shim(at=int(datetime(2026, 11, 22, tzinfo=UTC).timestamp() * 1000))
        lines = [shim.line("event", {"event": {"type": "session.idle"}}, id=str(uuid4())) for _ in range(count)]
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(b"\n".join(lines) + b"\n")
        redactor = Redactor(enabled=False, capture="full", rules_file=None, cache_dir=tmp_path, environ={})
        shippers.append((SlowLog(path, redactor), f"w{number}"))

    async def ship(log: FileLog) -> Shipper:
        async def url() -> str:
            return migrated_url

        async def prepare(_: asyncpg.Connection) -> None: ...

        sink = PostgresSink(url, prepare)
        shipper = Shipper(log, sink, lambda: Builder(BuildSettings()), logger(), batch_size=10, flush_ms=1, retry_max=5)
        try:
            await shipper.run()
        finally:
            await sink.close()
        return shipper

    async with connected(migrated_url) as connection:
        tasks = [asyncio.create_task(ship(log)) for log, _ in shippers]

        async def some() -> bool:
            return bool(await connection.fetchval("SELECT count(*) FROM agent_trace_events"))

        await eventually_async(some)
        written, deadline = await connection.fetchval("SELECT count(*) FROM agent_trace_events"), Deadline(10)
        made = await make_months(connection, TODAY, ahead=0)
        late = deadline.passed()
        done = await asyncio.gather(*tasks)
        again = await make_months(connection, TODAY, ahead=0)
    for log, _ in shippers:
        log.__exit__(None, None, None)
    assert written < 2 * count
    assert not late
    assert len(made.months + again.months) == len(PARTITIONED)
    assert sum(shipper.counts.stored for shipper in done) == 2 * count
    assert sum(shipper.counts.dead for shipper in done) == 0
    assert fetch(migrated_url, "SELECT count(*) FROM agent_trace_events")[0][0] == 2 * count


def test_keys_of_lines_wait_in_a_short_list(migrated_url: str) -> None:
    """Every search for lines reads the list as a whole."""
    query = "SELECT pg_get_indexdef(indexrelid) AS text FROM pg_index WHERE indrelid = $1::text::regclass"
    (index,) = [
        row["text"] for row in fetch(migrated_url, query, "agent_trace_file_states_default") if " gin " in row["text"]
    ]
    assert "gin_pending_list_limit='64'" in index
