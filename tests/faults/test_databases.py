"""Databases and roles that are not as they should be: what can be stored is, and every sentence names what is wrong."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.support.envelopes import DATA
from tests.support.postgres import execute, executed, fetch
from tests.support.shipping import HURRIED, Shipping
from tests.support.sidecar import sidecar_command, sidecar_env
from tests.support.waiting import patient

RECORDING = DATA / "recordings" / "basic-edit-write-bash.jsonl"
INSTANCE = "11111111-2222-4333-8444-555555555555"


def run(tmp_path: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    """One command, with what it prints; none of them may wait for ever."""
    env = sidecar_env(tmp_path / "state", url)
    return subprocess.run(
        sidecar_command(*words), env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=patient(60)
    )


def replay(tmp_path: Path, url: str) -> str:
    """What a replay that fails says."""
    done = run(tmp_path, url, "replay", str(RECORDING))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def events(*inputs: str) -> list[tuple[int, bytes]]:
    """Events with these texts of JSON as their inputs."""
    head = f'"at":1795000000000,"instance":"{INSTANCE}","hook":"tool.execute.before"'
    return [
        (seq, f'{{"v":1,"id":"{uuid4()}","seq":{seq},{head},"input":{text}}}'.encode())
        for seq, text in enumerate(inputs, 1)
    ]


@contextmanager
def database(url: str, encoding: str) -> Iterator[str]:
    """A database of another encoding on the same server."""
    name = f"t_{uuid4().hex}"
    execute(url, f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    try:
        yield url.replace(url.partition("@/")[2].partition("?")[0], name)
    finally:
        execute(url, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def role(url: str, *grants: str, name: str = "") -> Iterator[str]:
    """A role with these rights; gives the URL with it."""
    name = name or f"r_{uuid4().hex[:8]}"
    execute(url, f"CREATE ROLE {name} LOGIN", *(grant.format(role=name) for grant in grants))
    try:
        yield url.replace("agent_trace@", f"{name}@")
    finally:
        execute(url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


@pytest.mark.parametrize(
    ("encoding", "refused"), [("SQL_ASCII", '"\\ud83d\\ude00"'), ("LATIN1", '"it\\u2019s"'), ("LATIN1", '"it\u2019s"')]
)
async def test_one_text_that_the_encoding_lacks_stops_no_other(
    database_url: str, tmp_path: Path, encoding: str, refused: str
) -> None:
    """Its event is a dead letter; `migrate`, `status` and `doctor` name the encoding."""
    with database(database_url, encoding) as url:
        assert f"encoding is {encoding}" in run(tmp_path, url, "migrate").stdout
        async with Shipping(tmp_path / "spool", url, batch_size=100) as shipping:
            shipping.append(events('"a"', refused, '"b"'))
            await shipping.delivered()
            assert shipping.counts == (3, 2, 0, 1, 0)
        assert [row["seq"] for row in fetch(url, "SELECT seq FROM agent_trace_events ORDER BY seq")] == [1, 3]
        for command in ("status", "doctor"):
            done = run(tmp_path, url, command)
            assert done.returncode == 1
            assert f"encoding is {encoding}, and events need UTF8" in done.stdout


async def test_a_trigger_that_refuses_one_row_stops_no_other(migrated_url: str, tmp_path: Path) -> None:
    """With whatever SQLSTATE; one that refuses every row is the operator's, and no event is a dead letter."""
    await executed(
        migrated_url,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.payload ->> 'input' = 'bad' THEN RAISE 'no'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON agent_trace_events FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    async with Shipping(tmp_path / "spool", migrated_url, batch_size=100) as shipping:
        shipping.append(events('"a"', '"bad"', '"b"'))
        await shipping.delivered()
        assert shipping.counts == (3, 2, 0, 1, 0)
    await executed(
        migrated_url,
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$",
    )
    assert "A trigger or function of the database refuses the statement" in replay(tmp_path, migrated_url)
    assert fetch(migrated_url, "SELECT count(*) FROM agent_trace_dead_letters")[0][0] == 1


def test_a_role_without_create_is_named_with_its_schema(database_url: str, tmp_path: Path) -> None:
    """Where there are no tables yet."""
    execute(database_url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    with role(database_url) as url:
        said = replay(tmp_path, url)
        assert "may not create tables in schema public" in said
        assert "GRANT CREATE ON SCHEMA public TO" in said
        assert "may not create tables in schema public" in run(tmp_path, url, "migrate").stderr
        assert "may not create tables in schema public" in run(tmp_path, url, "doctor").stdout


def test_a_missing_privilege_is_named_with_its_table(migrated_url: str, tmp_path: Path) -> None:
    """A reader's replay ends at once."""
    with role(migrated_url, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}") as url:
        said = replay(tmp_path, url)
        assert "GRANT INSERT ON agent_trace_events, agent_trace_records" in said
        assert "GRANT INSERT ON agent_trace_events" in run(tmp_path, url, "doctor").stdout


@pytest.mark.parametrize("table", ["agent_trace_migrations", "agent_trace_events", "agent_trace_sources"])
def test_row_level_security_is_named(migrated_url: str, tmp_path: Path, table: str) -> None:
    """Wherever it is on: it hides rows, or refuses them."""
    grants = ("GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}", f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    with role(migrated_url, *grants) as url:
        named = f"applies to user {url.partition('//')[2].partition('@')[0]} on {table}"
        assert named in replay(tmp_path, url)
        assert named in run(tmp_path, url, "status").stdout
        assert named in run(tmp_path, url, "doctor").stdout


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("default_transaction_read_only = on", "default_transaction_read_only is on for user"),
        ("search_path = nowhere", "No schema of search_path (nowhere)"),
    ],
)
def test_a_setting_of_the_role_is_named(migrated_url: str, tmp_path: Path, setting: str, named: str) -> None:
    """Instead of a standby, or a table that is missing."""
    grants = ("GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}", f"ALTER ROLE {{role}} SET {setting}")
    with role(migrated_url, *grants) as url:
        assert named in replay(tmp_path, url)
        assert named in run(tmp_path, url, "status").stdout + run(tmp_path, url, "doctor").stdout


def test_a_short_statement_timeout_is_named(migrated_url: str, tmp_path: Path) -> None:
    """By `status` and `doctor`, before it bites."""
    grants = ("GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}", "ALTER ROLE {role} SET statement_timeout = 900")
    with role(migrated_url, *grants) as url:
        for command in ("status", "doctor"):
            assert "statement_timeout is 900 ms for user" in run(tmp_path, url, command).stdout


@pytest.mark.parametrize(
    ("parameter", "named"),
    [
        ("ssl=true", "connection parameter ssl is not supported: use sslmode=require"),
        ("pgbouncer=true", "connection parameter pgbouncer is not supported: leave it out"),
        ("schema=x", "connection parameter schema is not supported: use options=-csearch_path%3DSCHEMA"),
        ("tomorrow=x", "the server refuses the parameter tomorrow (SQLSTATE 42704)"),
        ("fsync=off", "the server refuses the parameter fsync (SQLSTATE 55P02)"),
        ("work_mem=much", "the server refuses the parameter work_mem (SQLSTATE 22023)"),
        ("options=" + quote("-c tomorrow=x"), "the server refuses the parameter tomorrow (SQLSTATE 42704)"),
    ],
)
def test_a_parameter_of_the_url_is_named(migrated_url: str, tmp_path: Path, parameter: str, named: str) -> None:
    """Also those that other programs write into their URLs."""
    url = f"{migrated_url}&{parameter}"
    done = run(tmp_path, url, "status")
    assert named in done.stdout + done.stderr
    done = run(tmp_path, url, "replay", str(RECORDING))
    assert done.returncode != 0
    assert named in done.stderr


def test_a_publication_of_all_tables_lets_everything_be_stored_undone_and_pruned(
    migrated_url: str, tmp_path: Path
) -> None:
    """Rows that are published can only be changed in tables with a key."""
    execute(migrated_url, "CREATE PUBLICATION everything FOR ALL TABLES")
    logs = [str(path) for path in sorted((DATA / "recordings").glob("*.jsonl"))]
    for words in (("replay", *logs), ("prune", "--older-than", "1h", "--dedupe-older-than", "1h", "--yes")):
        done = run(tmp_path, migrated_url, *words)
        assert done.returncode == 0, done.stderr
    assert json.loads(run(tmp_path, migrated_url, "status", "--json").stdout)["healthy"]


async def test_a_deadline_that_passes_is_called_too_slow(migrated_url: str, tmp_path: Path) -> None:
    """With the seconds; it is no lost connection."""
    await executed(
        migrated_url,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN PERFORM pg_sleep({HURRIED.write_s + 0.5}); RETURN NEW; END $$",
        "CREATE TRIGGER slow BEFORE INSERT ON agent_trace_events FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    async with Shipping(tmp_path / "spool", migrated_url, deadlines=HURRIED) as shipping:
        shipping.append(events('"a"'))
        await shipping.failed("too_slow")
        assert "did not finish within" in shipping.shipper.health.hint
        await executed(migrated_url, "DROP TRIGGER slow ON agent_trace_events")
        await shipping.delivered()


def test_a_command_that_reaches_no_database_ends(tmp_path: Path) -> None:
    """A person waits for it; only a daemon waits for the database."""
    said = replay(tmp_path, "postgresql://127.0.0.1:1/nowhere")
    assert "The database can't be reached" in said
