"""What is old goes, what belongs to somebody goes when asked, and nothing else does."""

import asyncio
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from agent_trace_sidecar.commands import prune as pruning
from agent_trace_sidecar.commands.common import CommandError
from agent_trace_sidecar.commands.prune import Gone, erase, of_repository, of_session, of_user, prune
from agent_trace_sidecar.postgres.partitions import make_months
from tests.support.envelopes import DATA
from tests.support.postgres import connected, execute, fetch

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TABLES = [
    f"agent_trace_{name}"
    for name in (
        "file_states",
        "ranges",
        "records",
        "dead_letters",
        "usage",
        "ended_calls",
        "masked",
        "events",
    )
]
ANNA, BEN = UUID(int=1), UUID(int=2)


async def store(
    connection: asyncpg.Connection,
    at: datetime,
    session: str,
    *,
    source: UUID = ANNA,
    worktree: str = "/w",
    parent: str | None = None,
) -> None:
    """One session of three events, a record with two ranges, and its file's state, and a dead letter."""
    info = {"id": session, "parentID": parent}
    payload: dict[str, Any] = {"worktree": worktree, "input": {"event": {"properties": {"info": info}}}}
    event_ids = [uuid4() for _ in range(3)]
    text = as_json(payload)
    await connection.executemany(
        "INSERT INTO agent_trace_events (event_id, occurred_at, source_id, seq, session_id, event_name, payload) "
        "VALUES ($1, $2, $3, 1, $4, 'session.created', $5)",
        [(event_id, at, source, session, text) for event_id in event_ids],
    )
    await connection.executemany(
        "INSERT INTO agent_trace_dedupe VALUES ($1, $2, $3)", [(source, e, at) for e in event_ids]
    )
    for table, columns, values in (
        ("usage", "part_id", "'p'"),
        ("ended_calls", "part_id, tool, status", "'p', 'bash', 'completed'"),
        ("masked", "rule, masked", "'r', 1"),
    ):
        when = "occurred_at" if table == "masked" else "finished_at"
        await connection.execute(
            f"INSERT INTO agent_trace_{table} (source_id, event_id, {when}, session_id, {columns}) "
            f"VALUES ($1, $2, $3, $4, {values})",
            source,
            event_ids[0],
            at,
            session,
        )
    record = uuid4()
    await connection.execute(
        "INSERT INTO agent_trace_records (source_id, record_id, recorded_at, event_id, session_id, spec_version, "
        "contributor, record) VALUES ($1, $2, $3, $4, $5, '0.1.0', 'ai', '{}')",
        source,
        record,
        at,
        event_ids[0],
        session,
    )
    await connection.executemany(
        "INSERT INTO agent_trace_ranges (source_id, record_id, recorded_at, ordinal, worktree, path, start_line, "
        "end_line, contributor, session_id, method) VALUES ($1, $2, $3, $4, $6, 'a.py', $4, $4, 'ai', $5, 'diff')",
        [(source, record, at, line, session, worktree) for line in (1, 2)],
    )
    await connection.execute(
        "INSERT INTO agent_trace_file_states VALUES ($1, $2, $3, 'p', $4, 'a.py', NULL, 'update', NULL, NULL, '{}')",
        source,
        record,
        at,
        worktree,
    )
    line = f'{{"instance":"{source}","session":"{session}","worktree":"{worktree}"'.encode()
    await connection.execute(
        "INSERT INTO agent_trace_dead_letters VALUES ($1, $2, 'x', 'x', $3, $4)", uuid4(), 1, line, at
    )


def as_json(value: object) -> str:
    """Compact JSON."""
    return msgspec.json.encode(value).decode()


async def know(connection: asyncpg.Connection, source: UUID, user: str, repositories: dict[str, str | None]) -> None:
    """A source with its identity."""
    await connection.execute(
        "INSERT INTO agent_trace_sources VALUES ($1, 'instance', 'h', 0, 1, '{}', $2, $2, NULL, $3, $4)",
        source,
        NOW,
        user,
        as_json(repositories),
    )


async def counts(connection: asyncpg.Connection) -> list[int]:
    """Rows of file states, ranges, records, dead letters, events and the gate."""
    return [await connection.fetchval(f"SELECT count(*) FROM {table}") for table in (*TABLES, "agent_trace_dedupe")]


async def test_old_rows_go_by_month_and_one_by_one(migrated_url: str) -> None:
    """Whole months at once, what lies before the day in its own month by rows; a dry run has said the same before."""
    async with connected(migrated_url) as connection:
        await make_months(connection, date(2026, 8, 1), ahead=1)  # August, September; October is in the default
        for month, day in ((8, 20), (9, 20), (10, 20), (10, 25), (11, 20)):
            await store(connection, datetime(2026, month, day, tzinfo=UTC), f"ses_{month}")
        before = datetime(2026, 10, 23, tzinfo=UTC)
        expected = [
            Gone(
                "agent_trace_file_states", 1, tuple(f"agent_trace_file_states_2026_{month}" for month in ("08", "09"))
            ),
            Gone("agent_trace_ranges", 2, ("agent_trace_ranges_2026_08", "agent_trace_ranges_2026_09")),
            Gone("agent_trace_records", 3),
            Gone("agent_trace_dead_letters", 3),
            Gone("agent_trace_usage", 3),
            Gone("agent_trace_ended_calls", 3),
            Gone("agent_trace_masked", 3),
            Gone("agent_trace_events", 3, ("agent_trace_events_2026_08", "agent_trace_events_2026_09")),
        ]
        said: list[tuple[str, int, float]] = []
        assert await prune(connection, before, dry_run=True) == expected
        assert await counts(connection) == [5, 10, 5, 5, 5, 5, 5, 15, 15]
        assert await prune(connection, before, said=lambda *progress: said.append(progress)) == expected
        assert await counts(connection) == [2, 4, 2, 2, 2, 2, 2, 6, 15]
        assert [table for table, _, share in said if share == 1] == list(TABLES)
        assert await prune(connection, before) == [Gone(table, 0) for table in TABLES]


async def test_the_gate_forgets_only_when_told_to(migrated_url: str) -> None:
    """Otherwise a replay of a pruned log would store it again."""
    async with connected(migrated_url) as connection:
        await store(connection, NOW - timedelta(days=400), "ses_old")
        await prune(connection, NOW - timedelta(days=90), gate_before=NOW - timedelta(days=500))
        assert await counts(connection) == [0, 0, 0, 0, 0, 0, 0, 0, 3]
        gone = await prune(connection, NOW - timedelta(days=90), gate_before=NOW - timedelta(days=300))
        assert gone[-1] == Gone("agent_trace_dedupe", 3)


async def test_what_is_kept_of_quiet_logs_and_runs_goes_too(migrated_url: str) -> None:
    """Of followed files, spools and runs, when they have said nothing for long; never how far `redact` has come."""
    async with connected(migrated_url) as connection:
        for kind in ("file", "stdin", "instance", "retry", "redact"):
            for days in (10, 100):
                await connection.execute(
                    "INSERT INTO agent_trace_sources VALUES ($1, $2, 'h', 1, 1, '{}', $3, $4)",
                    uuid4(),
                    kind,
                    NOW - timedelta(days=400),
                    NOW - timedelta(days=days),
                )
        before = NOW - timedelta(days=90)
        for dry_run in (True, False):
            gone = await prune(connection, before, sources_before=before, dry_run=dry_run)
            assert gone[-1] == Gone("agent_trace_sources", 3)
        left = await connection.fetch("SELECT kind, count(*) FROM agent_trace_sources GROUP BY kind ORDER BY kind")
        assert [tuple(row) for row in left] == [("file", 1), ("instance", 1), ("redact", 2), ("retry", 2), ("stdin", 1)]


def test_a_log_that_was_pruned_is_stored_once_when_it_is_replayed(migrated_url: str, tmp_path: Path) -> None:
    """The gate knows its lines; and an age of an hour forgets no run that may go on tomorrow."""

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "agent_trace_sidecar", *words],
            env={**os.environ, "DATABASE_URL": migrated_url, "AGENT_TRACE_STATE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    recording = str(DATA / "recordings" / "apply-patch.jsonl")
    assert "51 stored" in run("replay", recording)
    assert "agent_trace_sources: 0 rows deleted" in run("prune", "--yes", "--older-than", "1h")
    execute(migrated_url, "UPDATE agent_trace_sources SET updated_at = '2020-01-01'")
    assert "agent_trace_sources: 2 rows deleted" in run("prune", "--yes", "--older-than", "1h")
    assert "51 events read, 0 stored, 51 duplicate" in run("replay", recording)
    assert "agent_trace_sources: 0 rows deleted" in run("prune", "--yes", "--older-than", "90d")
    (row,) = fetch(
        migrated_url, "SELECT state->'sequence'->>'missing' AS n FROM agent_trace_sources WHERE kind = 'instance'"
    )
    assert row["n"] == "0"


async def test_rows_are_found_however_many_batches_it_takes(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old and young lie mixed on every page."""
    monkeypatch.setattr(pruning, "_BATCH_PAGES", 3)
    async with connected(migrated_url) as connection:
        await connection.execute(
            "INSERT INTO agent_trace_events (event_id, occurred_at, source_id, seq, event_name, payload) "
            "SELECT gen_random_uuid(), $1::timestamptz - (n % 2) * interval '1 year', $2, n, 'x', '{}' "
            "FROM generate_series(1, 5000) n",
            NOW,
            ANNA,
        )
        assert (await prune(connection, NOW - timedelta(days=1)))[-1].rows == 2500
        assert await connection.fetchval("SELECT min(occurred_at) FROM agent_trace_events") == NOW


async def test_a_session_goes_with_its_subagents(migrated_url: str) -> None:
    """They were told what it was told."""
    async with connected(migrated_url) as connection:
        await store(connection, NOW, "ses_a")
        await store(connection, NOW, "ses_b", parent="ses_a")
        await store(connection, NOW, "ses_c", parent="ses_b")
        await store(connection, NOW, "ses_other")
        what = await of_session(connection, "ses_a")
        assert what.sessions == ["ses_a", "ses_b", "ses_c"]
        expected = [Gone(table, rows) for table, rows in zip(TABLES, (3, 6, 3, 3, 3, 3, 3, 9), strict=True)]
        assert await erase(connection, what, dry_run=True) == expected
        assert await erase(connection, what) == expected
        assert await counts(connection) == [1, 2, 1, 1, 1, 1, 1, 3, 12]


async def test_a_repository_goes_by_url_or_worktree(migrated_url: str) -> None:
    """On whichever machine it was, and what else these sources recorded stays."""
    async with connected(migrated_url) as connection:
        await know(connection, ANNA, "anna", {"/a": "https://example.com/r", "/other": None})
        await know(connection, BEN, "ben", {"/b": "https://example.com/r"})
        await store(connection, NOW, "ses_a", worktree="/a")
        await store(connection, NOW, "ses_b", worktree="/b", source=BEN)
        await store(connection, NOW, "ses_other", worktree="/other")
        await erase(connection, await of_repository(connection, "https://example.com/r"))
        assert await counts(connection) == [1, 2, 1, 1, 1, 1, 1, 3, 9]
        left = await connection.fetch("SELECT repositories::text FROM agent_trace_sources ORDER BY os_user")
        assert [row[0] for row in left] == ['{"/other": null}']  # ben's run has no session any more
        await erase(connection, await of_repository(connection, "/other"))
        assert (await counts(connection))[:8] == [0] * 8
        with pytest.raises(CommandError, match="nothing is recorded of repository /other"):
            await of_repository(connection, "/other")


async def test_a_user_goes_with_what_is_known_of_him(migrated_url: str) -> None:
    """The other user's rows stay, and the sources of the first are forgotten."""
    async with connected(migrated_url) as connection:
        await know(connection, ANNA, "anna", {"/w": None})
        await know(connection, BEN, "ben", {"/w": None})
        await store(connection, NOW, "ses_a")
        await store(connection, NOW, "ses_b", source=BEN)
        await erase(connection, await of_user(connection, "anna"))
        assert await counts(connection) == [1, 2, 1, 1, 1, 1, 1, 3, 6]
        assert [r[0] for r in await connection.fetch("SELECT os_user FROM agent_trace_sources")] == ["ben"]
        with pytest.raises(CommandError, match="nothing is recorded of user anna"):
            await of_user(connection, "anna")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--older-than", "90d", "--dry-run"], 0, "agent_trace_events: 3 rows would be deleted"),
        (["--older-than", "90d"], 0, "agent_trace_events: 3 rows deleted"),
        (["--session", "ses_a"], 0, "agent_trace_records: 1 rows deleted"),
        (["--user", "nobody-here"], 1, "nothing is recorded of user nobody-here"),
        (["--older-than", "soon"], 2, "--older-than 'soon' is not an age"),
        (["--older-than", "90d", "--dedupe-older-than", "10d"], 2, "ids outlive their events"),
        (["--session", "x", "--dedupe-older-than", "10d"], 2, "requires --older-than"),
        ([], 2, "one of the arguments --older-than --session --repository --user is required"),
    ],
)
def test_the_command_says_what_it_did(migrated_url: str, options: list[str], code: int, said: str) -> None:
    """Or what is wrong with the question."""

    async def fill() -> None:
        async with connected(migrated_url) as connection:
            await store(connection, datetime.now(UTC) - timedelta(days=400), "ses_a")

    asyncio.run(fill())
    done = subprocess.run(
        [sys.executable, "-m", "agent_trace_sidecar", "prune", "--yes", *options],
        env={**os.environ, "DATABASE_URL": migrated_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr
