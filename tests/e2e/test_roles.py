"""The roles of deploy/roles.sql, with the real sink on a real server: least rights that work."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from agent_trace_sidecar.postgres import updates as mending
from agent_trace_sidecar.postgres.migrate import migration_files
from agent_trace_sidecar.records.rows import Built, EventRow, Item, Void
from tests.support.postgres import OwnServer, PostgresServers, execute, fetch, run_apart
from tests.support.sidecar import sidecar_env
from tests.support.tailing import Writer, all_stored, stored_ids, tailing
from tests.support.waiting import eventually

ROLES = Path(__file__).parents[2] / "deploy" / "roles.sql"
RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"
FORBIDDEN_TO_WRITERS = (
    "SELECT payload FROM agent_trace_events",
    "SELECT event_id FROM agent_trace_events",
    "SELECT line_hashes FROM agent_trace_ranges",
    "UPDATE agent_trace_ranges SET model_id = 'x'",
    "UPDATE agent_trace_records SET record = '{}'",
    "SELECT after_hashes FROM agent_trace_file_states",
    "SELECT line FROM agent_trace_dead_letters",
    "UPDATE agent_trace_events SET tool = 'x'",
    "DELETE FROM agent_trace_events",
    "DELETE FROM agent_trace_sources",
    "DELETE FROM agent_trace_dedupe",
    "TRUNCATE agent_trace_events",
    "DROP TABLE agent_trace_records",
    "ALTER TABLE agent_trace_events ADD COLUMN x int",
    "CREATE TABLE agent_trace_more (x int)",
    "CREATE INDEX ON agent_trace_events (tool)",
    "INSERT INTO agent_trace_migrations VALUES ('x', '2026-01-01')",
    "SELECT * FROM agent_trace_events_default",
)
FORBIDDEN_TO_READERS = (
    "DELETE FROM agent_trace_events",
    "UPDATE agent_trace_records SET contributor = 'human'",
    "INSERT INTO agent_trace_dedupe VALUES (gen_random_uuid(), gen_random_uuid(), 'now')",
    "CREATE TABLE agent_trace_more (x int)",
)


@dataclass
class Roles:
    """A server with the roles."""

    server: OwnServer

    def url(self, role: str) -> str:
        """The URL of one of them."""
        return self.server.url.replace("agent_trace@", f"agent_trace_{role}@", 1)

    def apply(self) -> None:
        """Run roles.sql as the superuser."""
        execute(self.server.url, ROLES.read_text())


@pytest.fixture(name="roles")
def _roles(postgres_servers: PostgresServers, tmp_path: Path) -> Iterator[Roles]:
    """Made as the file's head says: roles, then `migrate` as the owner, then the rights."""
    server = postgres_servers.own(migrated=False)
    try:
        roles = Roles(server)
        roles.apply()
        assert command(tmp_path, roles.url("owner"), "migrate").returncode == 0
        roles.apply()
        yield roles
    finally:
        server.close()


def command(folder: Path, url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of the program."""
    return subprocess.run(
        [sys.executable, "-m", "agent_trace_sidecar", *arguments],
        env=sidecar_env(folder / "state", url),
        capture_output=True,
        text=True,
        check=False,
    )


def may(url: str, statement: str) -> bool:
    """Whether a statement is allowed; it is rolled back."""
    try:
        execute(url, f"BEGIN; {statement}; ROLLBACK")
    except asyncpg.InsufficientPrivilegeError:
        return False
    return True


def test_a_writer_stores_everything_and_can_do_nothing_else(roles: Roles, tmp_path: Path) -> None:
    """Records of a real session, dead letters, a rotation and a restart, all with the writer's rights."""
    writer, logs, url = Writer(), tmp_path / "logs", roles.url("writer")
    logs.mkdir()
    recording = (RECORDINGS / "basic-edit-write-bash.jsonl").read_bytes()
    lines = recording.count(b"\n")
    for round_ in range(2):
        with tailing(sidecar_env(tmp_path / "state", url, flush_ms="50"), tmp_path / "said", logs) as tail:
            (logs / f"{round_}.jsonl").write_bytes(writer.lines(5) + b"no event\n" + recording)
            wanted = len(writer.ids) + lines
            eventually(lambda wanted=wanted: len(stored_ids(roles.server.url)) == wanted, 20, "all is stored")  # type: ignore[misc]
            assert tail.stop() == 0
    assert fetch(roles.server.url, "SELECT count(*) AS n FROM agent_trace_records")[0]["n"] == 3
    assert fetch(roles.server.url, "SELECT count(*) AS n FROM agent_trace_dead_letters")[0]["n"] == 2
    assert "database_failed" not in (tmp_path / "said").read_text()
    assert [statement for statement in FORBIDDEN_TO_WRITERS if may(url, statement)] == []
    healthy = command(tmp_path, url, "status")
    assert (healthy.returncode, "UNHEALTHY" in healthy.stdout) == (0, False), healthy.stdout + healthy.stderr


def test_a_writer_voids_restores_and_replaces_what_a_record_says(roles: Roles, tmp_path: Path) -> None:
    """What undoing and a step's end need: without these rights the recording would stand still."""
    assert command(tmp_path, roles.url("writer"), "replay", str(RECORDINGS / "apply-patch.jsonl")).returncode == 0
    (row,) = fetch(roles.server.url, "SELECT source_id, record_id, recorded_at, session_id FROM agent_trace_records")
    event = EventRow(UUID(int=1), row["recorded_at"], row["source_id"], 1, None, None, None, "x", None, "{}")
    undone = Void(row["session_id"], "", None, onward=True, at=row["recorded_at"], restore=False)

    def voided() -> int:
        query = "SELECT count(*) AS n FROM agent_trace_ranges WHERE voided_at IS NOT NULL"
        return int(fetch(roles.server.url, query)[0]["n"])

    async def mend(built: Built) -> None:
        connection = await asyncpg.connect(roles.url("writer"), statement_cache_size=0)
        try:
            await mending.undo(connection, [Item(built, b"", 0)])
            await mending.drop_refined(connection, [Item(built, b"", 0)])
        finally:
            await connection.close()

    run_apart(lambda: mend(Built(event, voids=(undone,))))
    assert voided() == 3
    run_apart(lambda: mend(Built(event, voids=(undone._replace(restore=True),))))
    assert voided() == 0
    run_apart(lambda: mend(Built(event, refined=((event.source_id, row["record_id"], row["recorded_at"]),))))
    for table in ("agent_trace_records", "agent_trace_ranges", "agent_trace_file_states"):
        assert fetch(roles.server.url, f"SELECT count(*) AS n FROM {table}")[0]["n"] == 0


@pytest.mark.needs("ssh-keygen")
def test_what_a_peer_deletes_an_audit_finds(roles: Roles, tmp_path: Path) -> None:
    """Two login roles, both members of the writers': one records, the other one blanks records, and no events."""
    for name in ("anna", "ben"):
        execute(roles.server.url, f"CREATE ROLE agent_trace_{name} LOGIN IN ROLE agent_trace_writer")
    assert command(tmp_path, roles.url("anna"), "replay", str(RECORDINGS / "apply-patch.jsonl")).returncode == 0
    key, manifest = str(tmp_path / "key"), str(tmp_path / "manifest.jsonl")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    made = command(tmp_path, roles.url("reader"), "export", "--signed", key, "--output", manifest)
    assert made.returncode == 0, made.stderr
    check = ("validate", "--signed", f"{key}.pub", manifest)
    assert command(tmp_path, roles.url("reader"), *check).returncode == 0
    (record,) = fetch(roles.server.url, "SELECT record_id FROM agent_trace_records")
    assert [statement for statement in FORBIDDEN_TO_WRITERS if may(roles.url("ben"), statement)] == []
    execute(roles.url("ben"), "DELETE FROM agent_trace_records")
    found = command(tmp_path, roles.url("reader"), *check)
    assert found.returncode == 1
    assert str(record["record_id"]) in found.stdout
    execute(roles.server.url, "REVOKE agent_trace_writer FROM agent_trace_ben")
    assert not may(roles.url("ben"), "DELETE FROM agent_trace_ranges")


def test_a_reader_reads_and_cannot_write(roles: Roles, tmp_path: Path) -> None:
    """Export and status work; a table that a later migration makes is readable after the file has run again."""
    done = command(tmp_path, roles.url("owner"), "replay", str(RECORDINGS / "apply-patch.jsonl"))
    assert done.returncode == 0, done.stderr
    exported = command(tmp_path, roles.url("reader"), "export")
    assert exported.stdout.count("\n") == 1, exported.stderr
    assert command(tmp_path, roles.url("reader"), "status").returncode == 0
    assert [statement for statement in FORBIDDEN_TO_READERS if may(roles.url("reader"), statement)] == []
    execute(roles.server.url, "CREATE TABLE agent_trace_later (x int)")
    assert not may(roles.url("reader"), "SELECT x FROM agent_trace_later")
    roles.apply()
    assert may(roles.url("reader"), "SELECT x FROM agent_trace_later")
    assert may(roles.url("owner"), "DROP TABLE agent_trace_later")


def test_the_owner_migrates_and_prunes(roles: Roles, tmp_path: Path) -> None:
    """And needs no more than its tables for it."""
    assert command(tmp_path, roles.url("owner"), "migrate").stdout == "the tables are up to date\n"
    done = command(tmp_path, roles.url("owner"), "prune", "--older-than", "90d", "--yes")
    assert done.returncode == 0, done.stderr


def test_what_a_superuser_has_made_becomes_the_owners(postgres_servers: PostgresServers, tmp_path: Path) -> None:
    """Made by hand at first and brought up to date by the owner later: he may replace views and functions too."""
    server = postgres_servers.own(migrated=False)
    try:
        files = migration_files()
        execute(server.url, *(sql for _, sql in files[:2]))
        roles = Roles(server)
        roles.apply()
        done = command(tmp_path, roles.url("owner"), "migrate")
        assert done.returncode == 0, done.stderr
        assert [f"applied {version}" for version, _ in files[2:]] == done.stdout.splitlines()[: len(files) - 2]
        execute(roles.url("owner"), *(sql for _, sql in files))
        roles.apply()
        assert command(tmp_path, roles.url("writer"), "replay", str(RECORDINGS / "apply-patch.jsonl")).returncode == 0
        assert fetch(roles.url("reader"), "SELECT count(*) AS n FROM agent_trace_calls")[0]["n"] > 0
    finally:
        server.close()


def test_a_writer_without_tables_is_told_what_to_do(postgres_servers: PostgresServers, tmp_path: Path) -> None:
    """The sidecar waits until the owner has migrated and the rights are given, and loses nothing meanwhile."""
    server = postgres_servers.own(migrated=False)
    roles, writer = Roles(server), Writer()
    roles.apply()
    (tmp_path / "a.jsonl").write_bytes(writer.lines(5))
    env = sidecar_env(tmp_path / "state", roles.url("writer"), flush_ms="50")
    try:
        with tailing(env, tmp_path / "said", tmp_path / "a.jsonl") as tail:
            eventually(lambda: "cause=42501" in tail.said, 10, "it says what is missing")
            assert command(tmp_path, roles.url("owner"), "migrate").returncode == 0
            roles.apply()
            all_stored(server.url, [writer])
    finally:
        server.close()


SUMS = {
    "agent_trace_usage_by_day",
    "agent_trace_calls_by_day",
    "agent_trace_lines_by_day",
    "agent_trace_secrets_by_day",
    "agent_trace_dead_letters_by_day",
    "agent_trace_usage_by_user",
    "agent_trace_calls_by_user",
    "agent_trace_lines_by_user",
    "agent_trace_secrets_by_user",
}
RELATIONS = """
SELECT relname AS name FROM pg_class
WHERE relname LIKE 'agent\\_trace\\_%' AND relkind IN ('r', 'p', 'v') AND pg_table_is_visible(oid)
"""
SHOWN = {
    "agent_trace_usage_by_user": "SELECT os_user, model_id, steps, cost FROM agent_trace_usage_by_user",
    "agent_trace_calls_by_user": "SELECT sum(calls)::int AS calls FROM agent_trace_calls_by_user",
    "agent_trace_lines_by_user": "SELECT contributor, sum(lines)::int AS n FROM agent_trace_lines_by_user GROUP BY 1",
}


def test_who_sees_sums_sees_nothing_else(roles: Roles, tmp_path: Path) -> None:
    """Of every table and view, also of those that a later migration makes; and no command that shows contents works."""
    execute(roles.server.url, "CREATE TABLE agent_trace_later (prompt text)")
    roles.apply()
    for name in ("basic-edit-write-bash", "apply-patch"):
        done = command(tmp_path, roles.url("owner"), "replay", str(RECORDINGS / f"{name}.jsonl"))
        assert done.returncode == 0, done.stderr
    url = roles.url("aggregates")
    relations = {row["name"] for row in fetch(roles.server.url, RELATIONS)}
    assert relations > SUMS
    assert {name for name in relations if may(url, f"SELECT * FROM {name}")} == SUMS
    for name in SUMS:
        for statement in (f"DELETE FROM {name}", f"INSERT INTO {name} DEFAULT VALUES"):
            with pytest.raises(asyncpg.PostgresError):
                execute(url, statement)
    columns = fetch(
        roles.server.url,
        "SELECT DISTINCT attname FROM pg_attribute WHERE attnum > 0 AND attrelid = ANY ($1::text[]::regclass[])",
        sorted(SUMS),
    )
    telling = {"title", "prompt", "payload", "path", "worktree", "session_id", "message_id", "call_id", "error", "line"}
    assert not {row["attname"] for row in columns} & telling
    by_owner = {name: fetch(roles.server.url, query) for name, query in SHOWN.items()}
    assert {name: fetch(url, query) for name, query in SHOWN.items()} == by_owner
    assert all(by_owner.values())
    for words in (("export",), ("sessions",), ("usage",)):
        assert command(tmp_path, url, *words).returncode == 1


def test_sums_by_user_are_those_by_day(roles: Roles, tmp_path: Path) -> None:
    """Nothing is counted twice by the way to the repository and the user."""
    for file in sorted(RECORDINGS.glob("*.jsonl")):
        assert command(tmp_path, roles.url("owner"), "replay", str(file)).returncode == 0
    for what, sums in {
        "usage": "sum(steps), sum(input_tokens), sum(output_tokens), sum(cost), sum(unpriced_steps)",
        "calls": "sum(calls), sum(failed)",
        "lines": "sum(lines)",
        "secrets": "sum(masked), sum(events)",
    }.items():
        by = {
            form: [
                tuple(row)
                for row in fetch(
                    roles.server.url, f"SELECT day, {sums} FROM agent_trace_{what}_by_{form} GROUP BY 1 ORDER BY 1"
                )
            ]
            for form in ("day", "user")
        }
        assert by["user"] == by["day"]
        assert by["day"] or what == "secrets"
