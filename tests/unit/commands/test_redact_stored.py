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

from agent_trace_sidecar.commands.redact import _TABLES, redact_stored
from agent_trace_sidecar.records.fingerprints import line_hashes, line_keys
from agent_trace_sidecar.redaction import Redactor
from tests.support.envelopes import Shim
from tests.support.postgres import connected, fetch

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SECRET = "Tr0ub4dor-and-3"
TOKEN = "ghp_" + "Zk3vQ9xT1mB7nR5cW2yD8fH4jL6pS0aE1uGo"
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


async def test_no_hash_stays_of_what_is_masked(migrated_url: str) -> None:
    """With the rest of the event known, a secret could be guessed until it is right; other events keep theirs."""
    async with connected(migrated_url) as connection:
        await fill(connection, 4)
        await connection.execute(
            "INSERT INTO agent_trace_dedupe SELECT source_id, event_id, occurred_at, seq FROM agent_trace_events"
        )
        await redact_stored(connection, Redactor())
        rows = await connection.fetch("SELECT content_hash AS n FROM agent_trace_dedupe ORDER BY 1")
        assert [row["n"] for row in rows] == [0, 2, None, None]


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
    """As on a platform for which there is no kingfisher: what the other rules know is masked."""
    (tmp_path / "kingfisher").mkdir()
    (tmp_path / "kingfisher" / "__init__.py").touch()
    words = [sys.executable, "-m", "agent_trace_sidecar", "run"]
    env = {"AGENT_TRACE_DATABASE_URL": migrated_url, "AGENT_TRACE_STATE_DIR": str(tmp_path / "state")}
    line = Shim().line("chat.message", {"text": f"my token is {TOKEN}", **DIRTY["input"]})
    done = subprocess.run(
        words,
        env={**os.environ, **env, "PYTHONPATH": str(tmp_path)},
        input=line + b"\n",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert b"event=rules_missing" in done.stderr
    (row,) = fetch(migrated_url, "SELECT payload::text AS text FROM agent_trace_events")
    assert "my token is [REDACTED:" in row["text"]
    assert "[REDACTED:assignment]" in row["text"]
    assert TOKEN not in row["text"]
    assert SECRET not in row["text"]


async def test_every_column_that_may_hold_text_is_looked_at(migrated_url: str) -> None:
    """Whatever the tables have: a column that is added later is named here, or this fails."""
    async with connected(migrated_url) as connection:
        rows = await connection.fetch(
            "SELECT c.relname AS tab, a.attname AS col FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
            "WHERE c.relname LIKE 'agent_trace_%' AND c.relkind IN ('r', 'p') AND NOT c.relispartition "
            "AND a.attnum > 0 AND a.atttypid IN ('text'::regtype, 'jsonb'::regtype, 'bytea'::regtype)"
        )
    covered = {(table.name, name) for table in _TABLES for name, _ in table.columns}
    covered |= {(table.name, name) for table in _TABLES for name in table.hashes}
    constant = {
        ("agent_trace_migrations", "version"),
        ("agent_trace_sources", "kind"),
        ("agent_trace_file_states", "kind"),
        ("agent_trace_ranges", "method"),
        ("agent_trace_ranges", "contributor"),
        ("agent_trace_records", "contributor"),
        ("agent_trace_masked", "rule"),
        ("agent_trace_ranges", "line_tokens"),  # goes with line_hashes
    }
    assert {(row["tab"], row["col"]) for row in rows} - covered - constant == set()


async def test_names_and_hashes_of_lines_are_masked_too(migrated_url: str) -> None:
    """A secret in a session's address, and the hash of the line that an event shows to hold one."""
    line = f"export DB_PASSWORD={SECRET}"
    url = f"https://user:{TOKEN}@example.org/c/1"
    hashes = line_hashes([b"clean = 1", line.encode()])
    content = {"input": {"args": {"content": f"clean = 1\n{line}\n"}}}
    async with connected(migrated_url) as connection:
        await connection.execute(
            "INSERT INTO agent_trace_events (event_id, occurred_at, source_id, seq, event_name, payload, session_id)"
            " VALUES ($1, $2, $1, 1, 'x', $3::text::jsonb, $4)",
            UUID(int=1),
            NOW,
            json.dumps(content),
            url,
        )
        await connection.execute(
            "INSERT INTO agent_trace_ranges (source_id, record_id, recorded_at, ordinal, path, start_line, end_line,"
            " contributor, method, session_id, content_hash, line_hashes)"
            " VALUES ($1, $1, $2, 0, 'a', 1, 2, 'ai', 'diff', $3, 'blake2s:00', $4)",
            UUID(int=1),
            NOW,
            url,
            hashes,
        )
        await connection.execute(
            "INSERT INTO agent_trace_file_states VALUES ($1, $1, $2, 'p', '/w', 'a', NULL, 'add', ''::bytea, $3, $4)",
            UUID(int=1),
            NOW,
            hashes,
            line_keys("p", hashes, None),
        )
        found = await redact_stored(connection, Redactor())
        assert found["agent_trace_ranges"] == found["agent_trace_file_states"] == 1
        row = await connection.fetchrow("SELECT session_id, content_hash, line_hashes FROM agent_trace_ranges")
        assert row is not None
        assert TOKEN not in row["session_id"]
        assert (row["content_hash"], row["line_hashes"]) == (None, hashes[:8] + bytes(8))
        state = await connection.fetchrow("SELECT after_hashes, line_keys FROM agent_trace_file_states")
        assert state is not None
        assert state["after_hashes"] == hashes[:8] + bytes(8)
        assert state["line_keys"] == line_keys("p", hashes[:8], None)
        assert set((await redact_stored(connection, Redactor())).values()) == {0}
