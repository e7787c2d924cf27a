"""What `prune` has erased is nowhere any more: no row of the run, no spool, and no dead row in the tables' files."""

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from agent_trace_sidecar.commands.prune import Gone, drop_shipped, erase, of_session, vacuum
from agent_trace_sidecar.redaction import Redacted
from agent_trace_sidecar.spool.folders import SPOOL_FOLDER
from agent_trace_sidecar.spool.spool import Spool
from agent_trace_sidecar.telemetry.health import HealthFile
from tests.support.postgres import connected, fetch
from tests.support.waiting import eventually, patient

RUN = UUID(int=1)
_EVENT = (
    "INSERT INTO agent_trace_events (event_id, occurred_at, source_id, seq, session_id, event_name, payload) "
    "VALUES ($1, $2, $3, 1, $4, 'event', $5)"
)


async def fill(connection: asyncpg.Connection, at: datetime, *sessions: str | None) -> None:
    """A run with an event of each of these sessions."""
    state = '{"directory": "/home/anna/secret-project"}'
    source = "INSERT INTO agent_trace_sources VALUES ($1, 'instance', 'h', 1, 1, $2, $3, $3)"
    await connection.execute(source, RUN, state, at)
    for session in sessions:
        await connection.execute(_EVENT, uuid4(), at, RUN, session, '{"text": "what anna said"}')


async def test_a_run_without_sessions_goes_with_its_folder(migrated_url: str) -> None:
    """With the events that are of no session: they say where it was. One that has another session stays."""
    async with connected(migrated_url) as connection:
        await fill(connection, datetime.now(UTC), "ses_a", "ses_b", None)
        await erase(connection, await of_session(connection, "ses_a"))
        assert await connection.fetchval("SELECT count(*) FROM agent_trace_sources") == 1
        await erase(connection, await of_session(connection, "ses_b"))
        assert await connection.fetchval("SELECT count(*) FROM agent_trace_sources") == 0
        assert await connection.fetchval("SELECT count(*) FROM agent_trace_events") == 0


def spool(root: Path, *, shipped: bool) -> Path:
    """What an ended sidecar has left."""
    one = Spool.create(root, uuid4())
    one.append([Redacted.from_spool(b'{"text":"what anna said"}')])
    one.sync()
    if shipped:
        HealthFile(one.folder).mark_shipped(one.end)
    one.close()
    return one.folder


def test_spools_that_are_stored_go(tmp_path: Path) -> None:
    """Those that are not, and those of a sidecar that runs, stay."""
    stored, waiting = spool(tmp_path / SPOOL_FOLDER, shipped=True), spool(tmp_path / SPOOL_FOLDER, shipped=False)
    running = Spool(spool(tmp_path / SPOOL_FOLDER, shipped=True))
    try:
        assert drop_shipped(tmp_path / SPOOL_FOLDER) == 1
        assert [folder.exists() for folder in (stored, waiting, running.folder)] == [False, True, True]
    finally:
        running.close()


@pytest.mark.parametrize("which", [["--session", "ses_a"], ["--older-than", "1h"]])
async def test_the_command_leaves_no_spool_and_vacuums(migrated_url: str, tmp_path: Path, which: list[str]) -> None:
    """The tables that rows were deleted from, as the owner of the tables."""
    async with connected(migrated_url) as connection:
        await fill(connection, datetime.now(UTC) - timedelta(hours=2), *(["ses_a"] * 50))
    left = spool(tmp_path / SPOOL_FOLDER, shipped=True)
    environment = {**os.environ, "AGENT_TRACE_DATABASE_URL": migrated_url, "AGENT_TRACE_STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "agent_trace_sidecar", "prune", "--yes", *which]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=patient(60), check=False
    )
    assert done.returncode == 0, done.stderr
    assert "VACUUM" not in done.stdout
    assert not left.exists()
    vacuumed = (
        "SELECT count(*) FROM pg_stat_user_tables WHERE relname LIKE 'agent_trace_events%' AND last_vacuum IS NOT NULL"
    )
    await asyncio.to_thread(eventually, lambda: fetch(migrated_url, vacuumed)[0][0] > 0)


async def test_without_the_right_to_vacuum_a_sentence_says_so(migrated_url: str) -> None:
    """The rows are deleted all the same."""
    async with connected(migrated_url) as connection:
        await connection.execute("SET default_transaction_read_only = on")
        notes = await vacuum(connection, [Gone("no_such_table", 1), Gone("agent_trace_events", 0)])
    assert notes == ["VACUUM no_such_table failed (SQLSTATE 42P01): run it as the owner of the tables."]
