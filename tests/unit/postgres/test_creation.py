"""Databases whose schema is created or applied again while sidecars start, write, or are killed."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from agent_trace_sidecar.postgres.migrate import migration_files, schema_version
from tests.support.oracle import Oracle
from tests.support.postgres import connected, fetch
from tests.support.sidecar import ShimDouble, sidecar_env
from tests.support.waiting import Deadline, eventually_async

OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
SOURCE = (
    "INSERT INTO agent_trace_sources (source_id, kind, host, epoch, position, state, opened_at, updated_at) "
    "VALUES ($1, 'instance', 'h', 0, 1, '{}', $2, $2) ON CONFLICT (source_id, log_id) DO UPDATE "
    "SET position = agent_trace_sources.position + 1, updated_at = excluded.updated_at"
)
EVENT = "event_id occurred_at source_id seq session_id message_id call_id event_name tool payload".split()  # noqa: SIM905


async def write(connection: asyncpg.Connection) -> None:
    """One batch."""
    now, event_id, source_id = datetime.now(UTC), uuid4(), uuid4()
    async with connection.transaction():
        await connection.execute("INSERT INTO agent_trace_dedupe VALUES ($1, $2, $3)", source_id, event_id, now)
        await connection.execute(SOURCE, source_id, now)
        event = (event_id, now, source_id, 1, "s", None, None, "x", None, "{}")
        await connection.copy_records_to_table("agent_trace_events", columns=EVENT, records=[event])


async def test_sidecars_keep_writing_while_the_files_run_again(migrated_url: str) -> None:
    """As whoever applies them by `psql` does at each release: no batch fails, none waits for long."""
    async with connected(migrated_url) as owner:
        late, stop, written = False, asyncio.Event(), 0

        async def sidecar() -> None:
            nonlocal late, written
            async with connected(migrated_url) as connection:
                while not stop.is_set():
                    deadline = Deadline(5)
                    await write(connection)
                    late, written = late or deadline.passed(), written + 1

        sidecars = [asyncio.create_task(sidecar()) for _ in range(4)]
        for _, sql in migration_files():
            await owner.execute(sql)
        before = written

        async def went_on() -> bool:
            return written >= before + 20 or any(task.done() for task in sidecars)

        await eventually_async(went_on)
        stop.set()
        await asyncio.gather(*sidecars)
    assert not late
    for table in ("events", "sources", "dedupe"):
        assert fetch(migrated_url, f"SELECT count(*) FROM agent_trace_{table}")[0][0] == written


@pytest.mark.parametrize("applied", [1, 2])
async def test_a_creation_that_was_cut_off_is_completed_by_the_next_start(
    database_url: str, tmp_path: Path, applied: int
) -> None:
    """Whoever ran the files by `psql` may have been stopped in between."""
    async with connected(database_url) as owner:
        for _, sql in migration_files()[:applied]:
            await owner.execute(sql)
    oracle = Oracle(130, hostile=False)
    with ShimDouble(sidecar_env(tmp_path, database_url, flush_ms="20")) as shim:
        for _ in range(40):
            shim.send(*oracle.line("small"))
        shim.drained(20)
        assert shim.close() == 0
    assert fetch(database_url, "SELECT count(*) FROM agent_trace_events")[0][0] == 40
    async with connected(database_url) as connection:
        assert await schema_version(connection) == migration_files()[-1][0]


@pytest.mark.parametrize(
    "in_the_way", ["TABLE agent_trace_dead_letters (n int)", "VIEW agent_trace_prompts AS SELECT 1"]
)
async def test_a_sidecar_that_is_killed_while_it_creates_the_tables_leaves_none(
    database_url: str, tmp_path: Path, in_the_way: str
) -> None:
    """In the first file or in the last one; the next start creates them and delivers what is in the spool."""
    oracle, env = Oracle(131, hostile=False), sidecar_env(tmp_path, database_url, flush_ms="20")
    async with connected(database_url) as owner, connected(database_url) as blocker:

        async def blocked() -> bool:
            return bool(await owner.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        async def nobody_waits() -> bool:
            return not await owner.fetchval(OTHERS)

        transaction = blocker.transaction()
        await transaction.start()
        await blocker.execute(f"CREATE {in_the_way}")
        with ShimDouble(env) as shim:
            for _ in range(20):
                shim.send(*oracle.line("small"))
            shim.drained(20)
            await eventually_async(blocked)
            shim.kill_for_good()
        await transaction.rollback()
        await blocker.close()
        await eventually_async(nobody_waits)
        assert await owner.fetchval("SELECT count(*) FROM pg_class WHERE relname LIKE 'agent_trace%'") == 0
    with ShimDouble(env) as shim:
        shim.send(*oracle.line("small"))
        shim.drained(20)
        assert shim.close() == 0
    assert fetch(database_url, "SELECT count(*) FROM agent_trace_events")[0][0] == 21
