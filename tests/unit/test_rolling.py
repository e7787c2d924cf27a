"""A fleet is upgraded while it writes: the tables first, then the sidecars one by one."""

import asyncio
import time
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg

from agent_trace_sidecar.migrate import migrate, migration_files
from tests.support.postgres import connected, fetch
from tests.support.waiting import eventually_async

FIRST = ("001_agent_trace_tables", "002_agent_trace_indexes")
SOURCE = (
    "INSERT INTO agent_trace_sources (source_id, kind, host, epoch, position, state, opened_at, updated_at) "
    "VALUES ($1, 'instance', 'h', 0, 1, '{}', $2, $2) ON CONFLICT (source_id) DO UPDATE "
    "SET position = agent_trace_sources.position + 1, updated_at = excluded.updated_at"
)
EVENT = "event_id occurred_at source_id seq session_id message_id call_id event_name tool payload".split()  # noqa: SIM905
RANGE = "record_id recorded_at path start_line end_line content_hash contributor model_id session_id method".split()  # noqa: SIM905
RECORD = "record_id recorded_at event_id session_id spec_version contributor record".split()  # noqa: SIM905


async def write(connection: asyncpg.Connection) -> None:
    """One batch, as the first release wrote it."""
    now, event_id, record_id, source_id = datetime.now(UTC), uuid4(), uuid4(), uuid4()
    async with connection.transaction():
        await connection.execute("INSERT INTO agent_trace_dedupe VALUES ($1, $2)", event_id, now)
        await connection.execute(SOURCE, source_id, now)
        event = (event_id, now, source_id, 1, "s", None, None, "x", None, "{}")
        await connection.copy_records_to_table("agent_trace_events", columns=EVENT, records=[event])
        record = (record_id, now, event_id, "s", "0.1.0", "ai", "{}")
        await connection.copy_records_to_table("agent_trace_records", columns=RECORD, records=[record])
        line = (record_id, now, "a", 1, 2, None, "ai", None, "s", "diff")
        await connection.copy_records_to_table("agent_trace_ranges", columns=RANGE, records=[line])


async def test_the_first_release_keeps_writing_while_the_tables_are_brought_up_to_date(database_url: str) -> None:
    """No batch fails, none waits for long, and every statement of it works on the newest tables too."""
    async with connected(database_url) as owner:
        for version, sql in migration_files():
            if version in FIRST:
                await owner.execute(sql)
        longest, stop, written = 0.0, asyncio.Event(), 0

        async def sidecar() -> None:
            nonlocal longest, written
            async with connected(database_url) as connection:
                while not stop.is_set():
                    began = time.monotonic()
                    await write(connection)
                    longest, written = max(longest, time.monotonic() - began), written + 1

        sidecars = [asyncio.create_task(sidecar()) for _ in range(4)]
        applied = await migrate(owner)
        before = written

        async def went_on() -> bool:
            return written >= before + 20 or any(task.done() for task in sidecars)

        await eventually_async(went_on)
        stop.set()
        await asyncio.gather(*sidecars)
    assert applied == [version for version, _ in migration_files() if version not in FIRST]
    assert longest < 5
    for table in ("events", "records", "ranges", "sources", "dedupe"):
        assert fetch(database_url, f"SELECT count(*) FROM agent_trace_{table}")[0][0] == written
