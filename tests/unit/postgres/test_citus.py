"""Citus, which can't be run here: what its documentation and source refuse is looked for instead.

The program does all it can on a PostgreSQL that notes every statement, and each statement is judged. A table with the
name of Citus' own catalogue makes the program believe that the tables are distributed.
"""

import io
import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from agent_trace_sidecar.cli import main
from agent_trace_sidecar.postgres import bisect as refused
from agent_trace_sidecar.postgres import updates as mending
from agent_trace_sidecar.postgres.errors import Fate, verdict
from agent_trace_sidecar.postgres.migrate import migration_files
from agent_trace_sidecar.postgres.partitions import PARTITIONED, make_months
from agent_trace_sidecar.records.rows import Built, EventRow, Item, Void
from tests.support.postgres import OwnServer, PostgresServers, connected, execute, fetch, run_apart
from tests.support.sidecar import sidecar_command, sidecar_env
from tests.support.waiting import completed

ROOT = Path(__file__).parents[3]
CITUS = (ROOT / "deploy" / "citus.sql").read_text()
ROLES = (ROOT / "deploy" / "roles.sql").read_text()
RECORDINGS = sorted((ROOT / "tests" / "data" / "recordings").glob("*.jsonl"))
KEYS = {
    "agent_trace_events": "source_id",
    "agent_trace_records": "source_id",
    "agent_trace_ranges": "source_id",
    "agent_trace_file_states": "source_id",
    "agent_trace_usage": "source_id",
    "agent_trace_ended_calls": "source_id",
    "agent_trace_masked": "source_id",
    "agent_trace_dedupe": "source_id",
    "agent_trace_sources": "source_id",
    "agent_trace_dead_letters": "source_id",
}
UNREAD = {"agent_trace_events", "agent_trace_usage", "agent_trace_ended_calls", "agent_trace_masked"}
"""Tables that a writer can't read."""
TABLES = """
SELECT relname AS name FROM pg_class
WHERE relname LIKE 'agent\\_trace\\_%' AND relkind IN ('r', 'p') AND NOT relispartition
"""
PLAIN = """
SELECT logicalrelid::text AS name FROM pg_dist_partition JOIN pg_class ON oid = logicalrelid WHERE relkind = 'r'
"""
"""In a real Citus the months are in that list too."""
# What Citus gives to clients, as far as citus.sql uses it: it notes what it is asked for.
STAND_IN = """
CREATE TABLE pg_dist_partition (logicalrelid regclass, key text);
CREATE FUNCTION create_distributed_table(name regclass, key text, colocate_with text DEFAULT 'default')
    RETURNS void LANGUAGE sql
    AS 'INSERT INTO pg_dist_partition SELECT attrelid, attname FROM pg_attribute WHERE attrelid = $1 AND attname = $2';
CREATE FUNCTION create_reference_table(name regclass) RETURNS void LANGUAGE sql
    AS 'INSERT INTO pg_dist_partition VALUES ($1, NULL)';
CREATE TABLE truncated (name regclass);
CREATE FUNCTION truncate_local_data_after_distributing_table(name regclass) RETURNS void LANGUAGE sql
    AS 'INSERT INTO truncated VALUES ($1)';
CREATE TABLE pg_dist_node (nodename text, nodeport integer, isactive boolean, noderole text, groupid integer);
CREATE TABLE reached (nodename text, nodeport integer);
CREATE FUNCTION citus_check_connection_to_node(nodename text, nodeport integer DEFAULT 5432)
    RETURNS boolean LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM reached r WHERE r.nodename = $1 AND r.nodeport = $2)';
CREATE FUNCTION create_distributed_function(name regprocedure) RETURNS void LANGUAGE sql AS '';
"""
REFUSED = {
    "locks rows on many nodes": r"\bFOR (NO KEY )?(UPDATE|SHARE|KEY SHARE)\b",
    "looks into the physical order of rows": r"\bctid\b",
    "asks of a function's rows, one by one, what a table holds": r"\bunnest\(.*\bEXISTS\b|\bEXISTS\b.*\bunnest\(",
    "deletes or updates by a join": r"\bDELETE\b.*\bUSING\b|\bUPDATE\b.*\bSET\b.*\bFROM agent_trace",
    "changes rows within a WITH": r"\bWITH\b.*\b(INSERT|UPDATE|DELETE)\b",
    "makes a temporary table": r"\bTEMP(ORARY)?\b",
    "locks for a session": r"\bpg_(try_)?advisory_lock\(",
    "asks the clock": r"\bnow\(|current_timestamp|random\(",
    "joins rows with rows below": r"\bLATERAL \((?=[^)]*\bFROM\b)",
}
TOGETHER = {
    frozenset({"agent_trace_file_states", "agent_trace_records"}),
    frozenset({"agent_trace_events", "agent_trace_records"}),
    frozenset({"agent_trace_sources", "agent_trace_usage"}),
}
"""Tables that one statement may name: they are joined by the id that both are distributed by."""
BY_COLUMN = """
SELECT count(*) AS n FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid::regclass::text LIKE 'agent\\_trace\\_%'
"""
STATEMENT = re.compile(r"LOG:  (?:statement|execute [^:]*): (.*(?:\n\t.*)*)")


@pytest.fixture(name="server", scope="module")
def _server(postgres_servers: PostgresServers) -> Iterator[OwnServer]:
    """A server that notes every statement."""
    server = postgres_servers.own(settings={"log_statement": "all"})
    try:
        execute(server.url, STAND_IN, CITUS)
        yield server
    finally:
        server.close()


@pytest.fixture(name="statements", scope="module")
def _statements(server: OwnServer, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Every statement about our tables, after each command has run with something to do."""
    folder = tmp_path_factory.mktemp("all")
    before = len(server.log)
    do_everything(folder, server.url)
    run_apart(lambda: mend_and_make_months(server.url))
    noted = [re.sub(r"\s+", " ", found[1]).strip() for found in STATEMENT.finditer(server.log[before:])]
    return sorted({text for text in noted if "agent_trace_" in text})


def do_everything(folder: Path, url: str) -> None:
    """Each command that asks the database something."""
    env = sidecar_env(folder / "state", url, redaction="on")
    repository = folder / "repository"
    repository.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=repository, check=True)
    (repository / "a.txt").write_text("one\n")
    recordings = []  # of this repository: one of which nothing is recorded is an error for some commands
    for file in RECORDINGS:
        recordings.append(folder / file.name)
        recordings[-1].write_text(file.read_text().replace("/home/dev/project", str(repository)))
    (folder / "odd.jsonl").write_bytes(recordings[0].read_bytes() + b"no event\n")
    record = '{"version":"0.1.0","id":"%s","timestamp":"2026-01-01T00:00:00Z","files":[]}'
    (folder / "theirs.jsonl").write_text(record % uuid4() + "\n")

    def run(*words: str | Path, code: int = 0) -> None:
        """In this process: a start of the program takes longer than most commands."""
        printed = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
            patch.chdir(repository)
            for name, value in env.items():
                patch.setenv(name, value)
            assert main(list(map(str, words))) == code, (words, printed.getvalue())

    run("migrate")
    recording = recordings[-1].read_bytes()
    subprocess.run(sidecar_command(), cwd=repository, env=env, input=recording, capture_output=True, check=True)
    run("replay", *recordings, folder / "odd.jsonl")
    execute(url, "DELETE FROM agent_trace_sources WHERE kind = 'file'")
    run("replay", *recordings)
    run("status")
    run("doctor", code=1)  # there is no shim in this folder
    stored_already = recordings[0].read_bytes().splitlines()[0].hex()
    execute(
        url,
        "INSERT INTO agent_trace_dead_letters "
        f"VALUES (gen_random_uuid(), 0, 'refused', '', '\\x{stored_already}', '2026-01-01')",
    )
    run("dead-letters")
    run("dead-letters", "retry")
    run("blame", "a.txt")
    run("stats")
    run("stats", "a.txt")
    session = fetch(url, "SELECT session_id AS s FROM agent_trace_records WHERE session_id IS NOT NULL LIMIT 1")[0]["s"]
    for what in (("--repo", "."), ("--session", session), ("--since", "2026-01-01")):
        run("report", *what, "--output", folder / "page.html")
    run("report", "--site", folder / "site")
    run("export")
    run("import", folder / "theirs.jsonl")
    run("redact", "--stored")
    run("prune", "--yes", "--older-than", "9000d", "--dedupe-older-than", "9000d")
    execute(
        url,
        "UPDATE agent_trace_sources SET os_user = 'anna', repositories = '{\"/w\": \"https://example.com/r\"}' "
        "WHERE kind = 'instance'",
    )
    run("prune", "--session", session, "--dry-run")
    run("prune", "--yes", "--session", session)
    run("prune", "--yes", "--repository", "https://example.com/r")
    run("prune", "--yes", "--user", "anna")


async def mend_and_make_months(url: str) -> None:
    """What undoing, a step's end, and another year ask for."""
    row = EventRow(UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC), UUID(int=2), 1, None, None, None, "x", None, "{}")
    void = Void("s", "m", None, onward=True, at=row.occurred_at, restore=False)
    record = (UUID(int=3), row.occurred_at)
    async with connected(url) as connection:
        await connection.execute(
            "INSERT INTO agent_trace_records "
            "VALUES ($1, $2, $3, $4, 's', '0.1.0', NULL, NULL, NULL, NULL, NULL, 'ai', $5)",
            row.source_id,
            *record,
            UUID(int=1),
            '{"metadata":{"io.opencode.message_id":"m"}}',
        )
        for one in (void, void._replace(restore=True)):
            await mending.undo(connection, [Item(Built(row, voids=(one,)), b"", 0)])
        await mending.drop_refined(connection, [Item(Built(row, refined=((row.source_id, *record),)), b"", 0)])
        made = await make_months(connection, date(2030, 1, 1), ahead=0)
    assert made == ([f"{table}_2030_01" for table in PARTITIONED], [])


def test_no_statement_is_one_that_citus_refuses(statements: list[str]) -> None:
    """Whatever command issues it, and however it is put together."""
    assert len(statements) > 50
    found = [
        (why, text)
        for text in statements
        for why, pattern in REFUSED.items()
        if re.search(pattern, text, re.IGNORECASE) and not text.startswith("BEGIN")
    ]
    assert [(why, text) for why, text in found if not text.startswith(("SELECT EXISTS (SELECT FROM pg_class",))] == []


def test_no_statement_joins_tables_that_lie_apart(statements: list[str]) -> None:
    """Names of columns, settings and views are no tables; a month is a part of its table."""
    for text in statements:
        names = {name for name in KEYS if re.search(rf"\b{name}(_default|_\d{{4}}_\d\d)?\b(?!\.)", text)}
        apart = " JOIN " not in text and re.search(r"\bEXISTS \(|\bUNION\b", text)  # one after the other: no join
        assert len(names) <= 1 or names in TOGETHER or apart or text.startswith("SELECT c.relname"), text


def test_an_upsert_calls_immutable_functions_only(server: OwnServer, statements: list[str]) -> None:
    """And what it did is counted by RETURNING: the number that Citus gives back is another one."""
    immutable = {
        row["name"] for row in fetch(server.url, "SELECT proname AS name FROM pg_proc WHERE provolatile = 'i'")
    }
    upserts = [text for text in statements if "ON CONFLICT" in text and text.startswith("INSERT")]
    assert len(upserts) >= 6
    for text in upserts:
        called = set(re.findall(r"(\w+)\(", text.partition("ON CONFLICT")[2]))
        assert called - {"CONFLICT"} <= immutable | {"coalesce", "greatest"}, text
        assert "DO UPDATE" in text or "RETURNING" in text, text


def test_a_batch_of_one_log_and_one_run_writes_to_one_shard(migrated_url: str, tmp_path: Path) -> None:
    """What a transaction wrote, the checkpoint included, has one value of the column that tables are distributed by."""
    env = sidecar_env(tmp_path / "state", migrated_url)
    with RECORDINGS[0].open("rb") as one_run:
        completed(sidecar_command(), env=env, stdin=one_run)
    completed([*sidecar_command("replay"), RECORDINGS[1]], env=env)
    query = " UNION ALL ".join(
        f"SELECT xmin::text AS batch, source_id AS source, '{table}' AS written FROM {table}" for table in KEYS
    )
    sources, written = defaultdict[str, set[UUID]](set), defaultdict[str, set[str]](set)
    for row in fetch(migrated_url, query):
        sources[row["batch"]].add(row["source"])
        written[row["batch"]].add(row["written"])
    assert {len(one) for one in sources.values()} == {1}
    assert len(set.union(*sources.values())) == 2
    checkpoints = fetch(
        migrated_url, "SELECT xmin::text AS batch, kind FROM agent_trace_sources WHERE kind <> 'instance' ORDER BY kind"
    )
    assert [row["kind"] for row in checkpoints] == ["file", "stdin"]
    for row in checkpoints:
        assert {"agent_trace_sources", "agent_trace_events", "agent_trace_dedupe"} <= written[row["batch"]]


def test_a_statement_that_citus_refuses_is_found() -> None:
    """So the tests above look at what they should."""
    for text in (
        "SELECT 1 FROM agent_trace_dead_letters LIMIT 1 FOR UPDATE",
        "SELECT f FROM unnest($1::text[]) AS f WHERE EXISTS (SELECT FROM agent_trace_file_states WHERE project = f)",
        "WITH moved AS (DELETE FROM agent_trace_events RETURNING *) SELECT * FROM moved",
    ):
        assert any(re.search(pattern, text) for pattern in REFUSED.values()), text


def test_citus_sql_distributes_every_table_by_the_first_column_of_its_key(migrated_url: str) -> None:
    """Run twice against a stand-in for Citus' own functions, which notes what it is asked for."""
    execute(migrated_url, STAND_IN)
    for _ in range(2):
        execute(migrated_url, CITUS)
    placed = {
        row["name"]: row["key"]
        for row in fetch(migrated_url, "SELECT logicalrelid::text AS name, key FROM pg_dist_partition")
    }
    assert placed == KEYS | {"agent_trace_migrations": None, "agent_trace_pruned": None}
    assert set(placed) == {row["name"] for row in fetch(migrated_url, TABLES)}
    assert not re.search("^(BEGIN|SET)\\b", CITUS, re.MULTILINE)  # rows are moved in one transaction for each table
    truncated = {row["name"] for row in fetch(migrated_url, "SELECT name::text FROM truncated")}
    assert truncated == {row["name"] for row in fetch(migrated_url, PLAIN)}
    settings = fetch(
        migrated_url,
        "SELECT unnest(setconfig) AS setting FROM pg_db_role_setting WHERE setdatabase = "
        "(SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    assert [row["setting"] for row in settings] == ["citus.override_table_visibility=off"]


def test_every_unique_key_contains_the_column_that_a_table_is_distributed_by(migrated_url: str) -> None:
    """Otherwise the nodes could not check it."""
    query = """
    SELECT indrelid::regclass::text AS name,
           ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = indrelid AND attnum = ANY (indkey)) AS columns
    FROM pg_index WHERE indisunique AND indrelid::regclass::text LIKE 'agent\\_trace\\_%'
    """
    for row in fetch(migrated_url, query):
        table = next((key for name, key in KEYS.items() if row["name"].startswith(name)), None)
        assert table is None or table in row["columns"], row


def test_the_migrations_hold_nothing_that_citus_refuses(migrated_url: str) -> None:
    """No trigger, no foreign key, no sequence."""
    text = "\n".join(re.sub(r"--.*", "", sql) for _, sql in migration_files())
    assert not re.search(r"\b(CREATE\s+TRIGGER|REFERENCES|SERIAL|GENERATED)\b", text, re.IGNORECASE)
    assert fetch(migrated_url, "SELECT count(*) AS n FROM pg_trigger")[0]["n"] == 0


def laterals(text: str) -> Iterator[str]:
    """What stands in the parentheses after each LATERAL."""
    for begin in re.finditer(r"LATERAL \(", text):
        depth, end = 1, begin.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        yield text[begin.end() : end]


def test_views_join_what_lies_together_or_is_fetched_first(migrated_url: str) -> None:
    """Tables by the id that both are distributed by, all others as subqueries; none row by row."""
    views = fetch(
        migrated_url,
        "SELECT viewname AS name, definition FROM pg_views WHERE viewname LIKE 'agent\\_trace\\_%'",
    )
    assert len(views) == 17
    for view in views:
        text = re.sub(r"\s+", " ", view["definition"])
        assert not re.search(r"_agg\([^)]* ORDER BY", text), view["name"]
        assert not re.search(r", \( SELECT", text), view["name"]  # a sum for each row
        assert not any("FROM agent_trace" in inner for inner in laterals(text)), view["name"]
        for table, alias in re.findall(r"JOIN (agent_trace_\w+) (\w+) ON", text):
            key = KEYS.get(table)
            fetched = view["name"] == "agent_trace_sessions" and table == "agent_trace_sources"  # joins groups to it
            assert key is None or fetched or re.search(rf"\b{alias}\.{key} = \w+\.{key}\b", text), view["name"]


def test_roles_name_no_columns_where_citus_is(postgres_servers: PostgresServers) -> None:
    """It refuses rights to columns; the writer still reads no event."""
    server = postgres_servers.own()
    try:
        execute(server.url, STAND_IN, ROLES)
        assert fetch(server.url, BY_COLUMN)[0]["n"] == 0
        for table in KEYS:
            query = f"SELECT has_table_privilege('agent_trace_writer', '{table}', 'SELECT') AS may"
            assert fetch(server.url, query)[0]["may"] is (table not in UNREAD), table
    finally:
        server.close()


def test_status_names_the_workers_that_are_away(server: OwnServer, tmp_path: Path) -> None:
    """Not the coordinator, whose group is 0, nor a node that was disabled."""
    execute(
        server.url,
        "INSERT INTO pg_dist_node VALUES ('coordinator', 5432, true, 'primary', 0), ('w1', 5432, true, 'primary', 1), "
        "('w2', 5433, true, 'primary', 2), ('w3', 5432, true, 'primary', 3), ('w4', 5432, false, 'primary', 4)",
        "INSERT INTO reached VALUES ('w1', 5432)",
    )

    def status() -> tuple[int, dict[str, Any]]:
        done = completed([*sidecar_command("status"), "--json"], env=sidecar_env(tmp_path / "state", server.url))
        return done.returncode, json.loads(done.stdout)

    try:
        code, found = status()
        assert (code, found["gaps"]) == (1, None)
        assert [one for one in found["problems"] if "these Citus workers do not: w2:5433, w3:5432." in one]
        execute(server.url, "INSERT INTO reached VALUES ('w2', 5433), ('w3', 5432)")
        assert not [one for one in status()[1]["problems"] if "workers" in one]
    finally:
        execute(server.url, "DELETE FROM pg_dist_node")


def test_the_search_for_refused_rows_inserts_no_subquery() -> None:
    """Its statements run within PL/pgSQL, where no log shows them."""
    values = re.findall(r"INSERT INTO (\w+) \([^)]*\) VALUES \((.*)\);", refused._JUDGE)
    assert {table for table, _ in values} == set(KEYS) - {
        "agent_trace_dedupe",
        "agent_trace_sources",
        "agent_trace_dead_letters",
        "agent_trace_usage",
        "agent_trace_ended_calls",
        "agent_trace_masked",
    }
    assert not any("SELECT" in text for _, text in values)


@pytest.mark.parametrize(
    ("message", "fate"),
    [
        ('duplicate key value violates unique constraint "agent_trace_events_2026_11_pkey_102040"', Fate.DUPLICATE),
        ('new row for relation "agent_trace_events_102008" violates check constraint "rule_102008"', Fate.ROW),
        ('null value in column "tool" of relation "x_102008" violates not-null constraint', Fate.ROW),
        ('index row size 2712 exceeds btree version 4 maximum 2704 for index "x_102008"', Fate.ROW),
        ('no partition of relation "agent_trace_events_102008" found for row', Fate.OPERATOR),
        ("the worker had a bad day", Fate.RETRY),
    ],
)
def test_what_a_worker_says_of_a_row_is_understood(message: str, fate: Fate) -> None:
    """COPY passes it on with SQLSTATE XX000."""
    found = verdict(asyncpg.InternalServerError(message))
    assert found.fate is fate
    assert message not in found.hint
