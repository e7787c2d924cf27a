"""`redact --stored`: old rows are masked again, in batches, and an interrupted run goes on where it stopped."""

import json
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import pytest

from agent_trace_sidecar.query.redact import redact_stored
from agent_trace_sidecar.redaction import Funnel
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
        assert await redact_stored(connection, Funnel(), batch_rows=7) == {
            "agent_trace_events": 10,
            "agent_trace_records": 0,
            "agent_trace_dead_letters": 1,
        }
        text = await payloads(connection)
        assert SECRET not in text
        assert text.count("[REDACTED:assignment]") == 11
        assert set((await redact_stored(connection, Funnel(), batch_rows=7)).values()) == {0}


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
            await redact_stored(connection, Funnel(), batch_rows=6, progress=stop)
        seen.clear()
        await redact_stored(connection, Funnel(), batch_rows=6, progress=lambda t, n: seen.append((t, n)))
        assert max(rows for table, rows in seen if table == "agent_trace_events") == 8
        assert SECRET not in await payloads(connection)
