"""`redact --stored`: old rows are masked again, in batches, and an interrupted run goes on where it stopped."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from agent_trace_sidecar.commands.redact import redact_stored
from agent_trace_sidecar.redaction import Redactor
from tests.support.postgres import connected

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SECRET = "Tr0ub4dor-and-3"
CLEAN = {"input": {"tool": "bash", "n": 1.50}}
DIRTY = {"input": {"args": {"command": f"export DB_PASSWORD={SECRET}"}}}


async def fill(connection: asyncpg.Connection, rows: int) -> None:
    """Events, clean and dirty in turn, and one dirty dead letter."""
    await connection.executemany(
        "INSERT INTO agent_trace_events (event_id, occurred_at, source_id, seq, event_name, payload)"
        " VALUES ($1, $2, $3, $4, 'x', $5::text::jsonb)",
        [(uuid4(), NOW, UUID(int=1), n, json.dumps(DIRTY if n % 2 else CLEAN)) for n in range(rows)],
    )
    await connection.execute(
        "INSERT INTO agent_trace_dead_letters VALUES ($1, 1, 'r', 'e', $2, $3)",
        UUID(int=1),
        f"password={SECRET}".encode(),
        NOW,
    )


async def payloads(connection: asyncpg.Connection) -> str:
    """Everything that is stored, as one text."""
    rows = await connection.fetch("SELECT payload::text AS t FROM agent_trace_events")
    lines = await connection.fetch("SELECT encode(line, 'escape') AS t FROM agent_trace_dead_letters")
    return "\n".join(row["t"] for row in (*rows, *lines))


async def test_old_rows_are_masked_and_clean_ones_left_alone(migrated_url: str) -> None:
    """Only what changed is written."""
    async with connected(migrated_url) as connection:
        await fill(connection, 20)
        assert await redact_stored(connection, Redactor(), batch_rows=7) == {
            "agent_trace_events": 10,
            "agent_trace_records": 0,
            "agent_trace_dead_letters": 1,
        }
        text = await payloads(connection)
        assert SECRET not in text
        assert text.count("[REDACTED:assignment]") == 11
        assert set((await redact_stored(connection, Redactor(), batch_rows=7)).values()) == {0}


async def test_an_interrupted_run_goes_on_where_it_stopped(migrated_url: str) -> None:
    """The batches before the interruption are not looked at again."""
    seen: list[tuple[str, int]] = []

    def stop(table: str, rows: int) -> None:
        seen.append((table, rows))
        if len(seen) == 2:
            raise KeyboardInterrupt

    async with connected(migrated_url) as connection:
        await fill(connection, 20)
        with pytest.raises(KeyboardInterrupt):
            await redact_stored(connection, Redactor(), batch_rows=6, progress=stop)
        seen.clear()
        await redact_stored(connection, Redactor(), batch_rows=6, progress=lambda t, n: seen.append((t, n)))
        assert max(rows for table, rows in seen if table == "agent_trace_events") == 8
        assert SECRET not in await payloads(connection)


def command(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    words = [sys.executable, "-m", "agent_trace_sidecar", *args]
    return subprocess.run(
        words, env={**os.environ, **env}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


async def test_the_command_says_how_many_rows_it_masked(migrated_url: str, tmp_path: Path) -> None:
    """And changes nothing unless it is told to change what is stored, or when masking is off."""
    settings = {"AGENT_TRACE_DATABASE_URL": migrated_url, "AGENT_TRACE_STATE_DIR": str(tmp_path)}
    async with connected(migrated_url) as connection:
        await fill(connection, 4)
        assert command("redact", **settings).returncode == 2
        off = command("redact", "--stored", AGENT_TRACE_REDACTION="off", **settings)
        assert (off.returncode, off.stderr.count("\n"), "AGENT_TRACE_REDACTION" in off.stderr) == (1, 1, True)
        assert SECRET in await payloads(connection)
        done = command("redact", "--stored", **settings)
        assert (done.returncode, done.stderr) == (0, "")
        assert "agent_trace_events: 2 rows masked" in done.stdout
        assert SECRET not in await payloads(connection)
    status = json.loads(command("status", "--json", **settings).stdout)
    assert (status["healthy"], status["stored"]["sources"]) == (True, [])


def test_a_missing_rule_set_is_said_and_the_built_in_rules_go_on(migrated_url: str, tmp_path: Path) -> None:
    """As on a platform for which there is no kingfisher."""
    (tmp_path / "kingfisher").mkdir()
    (tmp_path / "kingfisher" / "__init__.py").touch()
    done = command(
        "run",
        PYTHONPATH=str(tmp_path),
        AGENT_TRACE_DATABASE_URL=migrated_url,
        AGENT_TRACE_STATE_DIR=str(tmp_path / "state"),
    )
    assert done.returncode == 0
    assert "event=rules_missing" in done.stderr
