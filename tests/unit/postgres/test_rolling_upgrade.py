"""A fleet is upgraded while it writes: the tables first, then the sidecars one by one."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import asyncpg

from agent_trace_sidecar.postgres.migrate import migrate, migration_files
from tests.support.oracle import Oracle
from tests.support.postgres import connected, fetch
from tests.support.sidecar import ShimDouble, sidecar_env
from tests.support.waiting import Deadline, eventually, eventually_async

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
        late, stop, written = False, asyncio.Event(), 0

        async def sidecar() -> None:
            nonlocal late, written
            async with connected(database_url) as connection:
                while not stop.is_set():
                    deadline = Deadline(5)
                    await write(connection)
                    late, written = late or deadline.passed(), written + 1

        sidecars = [asyncio.create_task(sidecar()) for _ in range(4)]
        applied = await migrate(owner)
        before = written

        async def went_on() -> bool:
            return written >= before + 20 or any(task.done() for task in sidecars)

        await eventually_async(went_on)
        stop.set()
        await asyncio.gather(*sidecars)
    assert applied == [version for version, _ in migration_files() if version not in FIRST]
    assert not late
    for table in ("events", "records", "ranges", "sources", "dedupe"):
        assert fetch(database_url, f"SELECT count(*) FROM agent_trace_{table}")[0][0] == written


async def test_a_new_sidecar_waits_for_the_tables_beside_old_ones_that_write(database_url: str, tmp_path: Path) -> None:
    """Started too early it says what is missing, keeps its lines, and delivers them once the tables are there."""
    async with connected(database_url) as owner:
        for version, sql in migration_files():
            if version in FIRST:
                await owner.execute(sql)
    oracle, log = Oracle(130, hostile=False), tmp_path / "said"
    with ShimDouble(sidecar_env(tmp_path, database_url, flush_ms="20"), log=log) as shim:
        for _ in range(40):
            shim.send(*oracle.line("small"))
        shim.drained(20)
        eventually(lambda: "database_failed" in log.read_text(), 10, "it says that the tables are too old")
        assert "run `agent-trace-sidecar migrate`" in log.read_text()
        async with connected(database_url) as old, connected(database_url) as owner:
            await write(old)
            await migrate(owner)
            await write(old)
        assert shim.close() == 0
    assert fetch(database_url, "SELECT count(*) FROM agent_trace_events")[0][0] == 42
    assert fetch(database_url, "SELECT count(*) FROM agent_trace_dead_letters")[0][0] == 0
