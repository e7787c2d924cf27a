"""The schema, by both ways of making it, on every PostgreSQL that this machine has."""

import asyncio
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from agent_trace_sidecar.postgres.embedded import EmbeddedPostgres
from agent_trace_sidecar.postgres.embedded.binaries import Binaries, find_binaries
from agent_trace_sidecar.postgres.errors import verdict
from agent_trace_sidecar.postgres.explain import explained, wrong
from agent_trace_sidecar.postgres.migrate import LOCK_KEY, migrate, migration_files, schema_version
from agent_trace_sidecar.records.rows import (
    CallRow,
    DeadLetter,
    EventRow,
    FileStateRow,
    MaskedRow,
    RangeRow,
    RecordRow,
    StepRow,
)
from tests.support.postgres import connected, execute, fetch, guarded_folder, migrate_database
from tests.support.sidecar import sidecar_command, sidecar_env

MIGRATIONS = Path(__file__).parents[3] / "migrations"
VERSIONS = sorted(file.stem for file in MIGRATIONS.glob("*.sql"))
TABLES = """
SELECT relname AS name FROM pg_class
WHERE relname LIKE 'agent\\_trace\\_%' AND relkind IN ('r', 'p') AND NOT relispartition
"""
KEYS = """
SELECT c.relname AS name, a.attname AS key FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
WHERE i.indisprimary AND c.relname LIKE 'agent\\_trace\\_%' AND NOT c.relispartition
"""
WITHOUT_COMMENT = """
SELECT c.relname || coalesce('.' || a.attname, '') AS name FROM pg_class c
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relname LIKE 'agent\\_trace\\_%' AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
  AND (obj_description(c.oid) IS NULL OR col_description(c.oid, a.attnum) IS NULL)
UNION ALL
SELECT proname FROM pg_proc WHERE proname LIKE 'agent\\_trace\\_%' AND obj_description(oid) IS NULL
"""
LEGACY = (  # the tables that tell, as 0.3.0 left them
    "CREATE TABLE agent_trace_migrations (version text PRIMARY KEY, applied_at timestamptz NOT NULL)",
    "CREATE TABLE agent_trace_records (record_id uuid, recorded_at timestamptz, PRIMARY KEY (record_id, recorded_at))",
    "INSERT INTO agent_trace_migrations VALUES ('001_agent_trace_tables', '2026-01-01')",
)
CLIENTS = next(find_binaries(os.environ)).folder


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A folder for servers of other versions; they are gone after the module."""
    with guarded_folder() as folder:
        yield folder


def run_psql(url: str) -> str:
    """Run every file as the README tells people to, and return what psql said."""
    output = ""
    for file in sorted(MIGRATIONS.glob("*.sql")):
        command = [str(CLIENTS / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(file), url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        output += done.stdout + done.stderr
    return output


def schema(url: str) -> str:
    """Return the database's schema as SQL, without what differs from one dump to the next."""
    command = [str(CLIENTS / "pg_dump"), "--schema-only", "--no-owner", url]
    dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.sub(r"^\\(un)?restrict .*$", "", dump, flags=re.MULTILINE)


def applied(url: str) -> list[tuple[str, object]]:
    """Return what the database has recorded, with the times."""
    return [tuple(row) for row in fetch(url, "SELECT version, applied_at FROM agent_trace_migrations ORDER BY version")]


async def test_migrate_applies_each_file_once(database_url: str) -> None:
    """The first run applies all files in order, the second none."""
    async with connected(database_url) as connection:
        assert await schema_version(connection) is None
        assert await migrate(connection) == VERSIONS
        assert await schema_version(connection) == VERSIONS[-1]
        assert await migrate(connection) == []


def test_psql_and_migrate_make_the_same_schema(database_url: str, migrated_url: str) -> None:
    """Whoever runs the files by hand has what `migrate` would have made, and `migrate` knows it."""
    assert run_psql(database_url) == ""
    assert schema(database_url) == schema(migrated_url)
    assert [version for version, _ in applied(database_url)] == VERSIONS
    assert migrate_database(database_url) == []


def test_running_the_files_again_changes_nothing(migrated_url: str) -> None:
    """Also the recorded times stay."""
    before = schema(migrated_url), applied(migrated_url)
    assert run_psql(migrated_url) == ""
    assert (schema(migrated_url), applied(migrated_url)) == before


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
async def test_eight_at_once_apply_each_file_once(database_url: str, isolation: str) -> None:
    """Sidecars that start together on an empty database do not get into each other's way, whatever the default is."""
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(connected(database_url, default_transaction_isolation=isolation))
            for _ in range(8)
        ]
        results = await asyncio.gather(*(migrate(connection) for connection in opened))
    assert sorted(version for result in results for version in result) == VERSIONS


async def test_psql_beside_migrate_waits_for_its_turn(database_url: str) -> None:
    """The files take the same lock as `migrate`."""
    async with connected(database_url) as connection:
        _, said = await asyncio.gather(migrate(connection), asyncio.to_thread(run_psql, database_url))
        assert said == ""
        assert await schema_version(connection) == VERSIONS[-1]


def test_a_user_who_may_not_create_tables_can_run_it_when_nothing_is_missing(migrated_url: str) -> None:
    """Looking needs no more than reading the list."""
    role = "reader_" + os.urandom(4).hex()
    execute(migrated_url, f"CREATE ROLE {role} LOGIN", f"GRANT SELECT ON agent_trace_migrations TO {role}")
    try:
        assert migrate_database(migrated_url.replace("agent_trace@", f"{role}@")) == []
    finally:
        execute(migrated_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_the_search_path_decides_where_the_tables_are(database_url: str) -> None:
    """Names carry no schema: an operator may want them in one of their own."""
    execute(database_url, "CREATE SCHEMA traces")
    url = f"{database_url}&options={quote('-c search_path=traces')}"
    assert run_psql(url) == ""
    schemas = fetch(database_url, "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'agent_trace%'")
    assert [row["schemaname"] for row in schemas] == ["traces"]


@pytest.mark.parametrize(
    ("search_path", "hint"),
    [("nowhere", "No schema of search_path (nowhere) exists"), ("pg_temp", "search_path (pg_temp) begins with")],
)
async def test_a_search_path_without_a_schema_for_tables_is_named(
    database_url: str, search_path: str, hint: str
) -> None:
    """`migrate` could not help."""
    async with connected(database_url, search_path=search_path) as connection:
        with pytest.raises(asyncpg.PostgresError) as caught:
            await connection.execute("SELECT FROM agent_trace_events")
        assert hint in (await explained(connection, verdict(caught.value))).hint
        assert any(sentence.startswith(hint) for sentence in await wrong(connection))


@pytest.mark.parametrize(
    ("table", "fields"),
    [
        ("agent_trace_events", EventRow._fields),
        ("agent_trace_records", RecordRow._fields),
        ("agent_trace_dedupe", ("source_id", "event_id", "seen_at", "content_hash")),
        ("agent_trace_ranges", (*RangeRow._fields, "voided_at")),
        ("agent_trace_file_states", FileStateRow._fields),
        ("agent_trace_dead_letters", DeadLetter._fields),
        ("agent_trace_usage", StepRow._fields),
        ("agent_trace_ended_calls", CallRow._fields),
        ("agent_trace_masked", MaskedRow._fields),
    ],
)
def test_rows_and_tables_have_the_same_columns(migrated_url: str, table: str, fields: tuple[str, ...]) -> None:
    """A row type's fields are its table's columns, in order; what is written later stands behind them."""
    columns = fetch(
        migrated_url,
        "SELECT column_name FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position",
        table,
    )
    assert tuple(row["column_name"] for row in columns) == fields


def test_a_database_of_0_3_0_is_recognised(database_url: str, tmp_path: Path) -> None:
    """By `migrate`, `status`, `run` and psql, with the way to go on; nothing in it is changed."""
    execute(database_url, *LEGACY)
    before = schema(database_url)
    env = sidecar_env(tmp_path, database_url)
    for command in ("migrate", "status"):
        done = subprocess.run(sidecar_command(command), env=env, capture_output=True, text=True, check=False)
        assert (done.returncode, command) == (1, command)
        assert "made by version 0.3.0" in done.stdout + done.stderr
        assert "agent-trace-sidecar replay" in done.stdout + done.stderr
    with pytest.raises(subprocess.CalledProcessError) as refused:
        run_psql(database_url)
    assert "were made by version 0.3.0" in refused.value.stderr
    assert schema(database_url) == before


def test_every_table_has_a_primary_key_that_begins_with_the_source(migrated_url: str) -> None:
    """Also for publications, and so that a batch's rows are neighbours. What no batch writes has another one."""
    keys = {row["name"]: row["key"] for row in fetch(migrated_url, KEYS)}
    assert {name for name, key in keys.items() if key != "source_id"} == {
        "agent_trace_migrations",
        "agent_trace_pruned",
    }
    assert set(keys) == {row["name"] for row in fetch(migrated_url, TABLES)}


def test_every_table_view_column_and_function_has_a_comment(migrated_url: str) -> None:
    """In the database itself, where whoever writes a query looks."""
    assert [row["name"] for row in fetch(migrated_url, WITHOUT_COMMENT)] == []


async def test_all_tables_can_be_published(migrated_url: str) -> None:
    """Rows are updated and deleted under a publication for all tables."""
    async with connected(migrated_url) as connection:
        await connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        for row in await connection.fetch(TABLES):
            await connection.execute(f"DELETE FROM {row['name']}")


def test_every_file_is_one_transaction_under_the_lock() -> None:
    """A file that forgets one of these would break `psql -f` beside a starting sidecar."""
    for version, sql in migration_files():
        lines = sql.splitlines()
        assert lines.count("BEGIN;") == lines.count("COMMIT;") == 1
        assert lines.index("BEGIN;") < next(at for at, line in enumerate(lines) if str(LOCK_KEY) in line)
        assert f"VALUES ('{version}', now())" in sql


@pytest.mark.parametrize("found", list(find_binaries(os.environ)), ids=lambda found: str(found.major))
def test_every_postgres_here_takes_the_schema(scratch: Path, found: Binaries) -> None:
    """Payloads are packed with lz4 where the server has it, and nothing fails where it has not."""
    environ = {"AGENT_TRACE_PG_BIN": str(found.folder)}
    with EmbeddedPostgres(scratch / str(found.major), settings={"fsync": "off"}, environ=environ) as server:
        assert migrate_database(server.url) == VERSIONS
        has_lz4 = fetch(
            server.url, "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
        )[0][0]
        packed = fetch(server.url, "SELECT attrelid::regclass::text FROM pg_attribute WHERE attcompression = 'l'")
        expected = ["agent_trace_events", "agent_trace_events_default", "agent_trace_records"]
        assert sorted(row[0] for row in packed) == (expected if has_lz4 else [])
