"""Tables that somebody has changed: what the server drops or alters without an error is never counted as stored."""

from pathlib import Path

import pytest

from tests.faults.test_databases import RECORDING, events, replay, run
from tests.support.postgres import execute, executed, fetch
from tests.support.shipping import Shipping

DROPS = "CREATE FUNCTION drops() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} RETURN NULL; END $$"
TRIGGER = "CREATE TRIGGER drops BEFORE {} ON {} FOR EACH ROW EXECUTE FUNCTION drops()"
STORED = "SELECT count(*) AS n FROM agent_trace_events"


@pytest.mark.parametrize(
    ("table", "when"),
    [
        ("agent_trace_events", "INSERT"),
        ("agent_trace_dedupe", "INSERT"),
        ("agent_trace_sources", "INSERT"),
        ("agent_trace_sources", "UPDATE"),
    ],
)
def test_a_trigger_that_drops_every_row_is_named(migrated_url: str, tmp_path: Path, table: str, when: str) -> None:
    """Nothing is stored in part, and everything is when the trigger is gone."""
    execute(migrated_url, DROPS.format(""), TRIGGER.format(when, table))
    message = replay(tmp_path, migrated_url)
    assert "The server drops rows " in message
    assert f"trigger drops on {table}" in message
    assert fetch(migrated_url, STORED)[0]["n"] == 0
    execute(migrated_url, f"DROP TRIGGER drops ON {table}")
    assert "150 stored, 0 duplicate, 0 dead" in run(tmp_path, migrated_url, "replay", str(RECORDING)).stdout
    assert fetch(migrated_url, STORED)[0]["n"] == 150


async def test_a_row_that_a_trigger_drops_is_a_dead_letter(migrated_url: str, tmp_path: Path) -> None:
    """Its neighbours are stored, and so is it by a retry when the trigger is gone."""
    body = "IF NEW.payload ->> 'input' IS DISTINCT FROM 'bad' THEN RETURN NEW; END IF;"
    await executed(migrated_url, DROPS.format(body), TRIGGER.format("INSERT", "agent_trace_events"))
    async with Shipping(tmp_path / "spool", migrated_url, batch_size=100) as shipping:
        shipping.append(events('"a"', '"bad"', '"b"'))
        await shipping.delivered()
        assert shipping.counts == (3, 2, 0, 1, 0)
    await executed(migrated_url, "DROP TRIGGER drops ON agent_trace_events")
    assert "1 stored" in run(tmp_path, migrated_url, "dead-letters", "retry").stdout
    assert [row["seq"] for row in fetch(migrated_url, "SELECT seq FROM agent_trace_events ORDER BY seq")] == [1, 2, 3]


async def test_a_row_that_is_refused_at_the_commit_is_a_dead_letter(migrated_url: str, tmp_path: Path) -> None:
    """A constraint that is deferred names no row then; a retry leaves it where it is as long as it is refused."""
    await executed(
        migrated_url,
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.payload ->> 'input' = 'bad' THEN RAISE 'late'; END IF; RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON agent_trace_events DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION late()",
    )
    async with Shipping(tmp_path / "spool", migrated_url, batch_size=100) as shipping:
        shipping.append(events('"a"', '"bad"', '"b"'))
        await shipping.delivered()
        assert shipping.counts == (3, 2, 0, 1, 0)
    assert "1 still refused" in run(tmp_path, migrated_url, "dead-letters", "retry").stdout
    await executed(migrated_url, "DROP TRIGGER late ON agent_trace_events")
    assert "1 stored" in run(tmp_path, migrated_url, "dead-letters", "retry").stdout


async def test_an_id_that_a_trigger_drops_is_no_duplicate(migrated_url: str, tmp_path: Path) -> None:
    """Also where ids are looked up because the last batch held some that were stored before."""
    lines = events('"a"', '"b"', '"c"')
    async with Shipping(tmp_path / "spool", migrated_url, batch_size=100) as shipping:
        shipping.append(lines[:2])
        await shipping.delivered()
        shipping.append(lines[:1])
        await shipping.delivered()
        await executed(migrated_url, DROPS.format(""), TRIGGER.format("INSERT", "agent_trace_dedupe"))
        shipping.append(lines[1:])
        await shipping.failed("dropped")
        await executed(migrated_url, "DROP TRIGGER drops ON agent_trace_dedupe")
        await shipping.delivered()
        assert shipping.counts == (5, 3, 2, 0, 0)


async def test_a_state_that_a_trigger_drops_is_no_other_shippers(migrated_url: str, tmp_path: Path) -> None:
    """The batch is not built anew without an end."""
    body = "IF NEW.kind <> 'instance' THEN RETURN NEW; END IF;"
    await executed(migrated_url, DROPS.format(body), TRIGGER.format("INSERT", "agent_trace_sources"))
    async with Shipping(tmp_path / "spool", migrated_url) as shipping:
        shipping.append(events('"a"'))
        await shipping.failed("dropped")
        await executed(migrated_url, "DROP TRIGGER drops ON agent_trace_sources")
        await shipping.delivered()
        assert shipping.counts == (1, 1, 0, 0, 0)


def test_a_rule_is_named(migrated_url: str, tmp_path: Path) -> None:
    """With ON CONFLICT the server refuses a table that has one."""
    execute(migrated_url, "CREATE RULE quiet AS ON UPDATE TO agent_trace_sources DO INSTEAD NOTHING")
    assert "rule quiet on agent_trace_sources" in replay(tmp_path, migrated_url)


def test_a_key_that_is_gone_is_named(migrated_url: str, tmp_path: Path) -> None:
    """Without it nothing would be stored once; `migrate` could not make it where rows are there twice."""
    execute(migrated_url, "ALTER TABLE agent_trace_sources DROP CONSTRAINT agent_trace_sources_pkey")
    assert "agent_trace_sources has no primary key" in replay(tmp_path, migrated_url)


def test_an_event_trigger_that_refuses_to_create_the_tables_is_named(database_url: str, tmp_path: Path) -> None:
    """A replay ends there, and so does `migrate`."""
    execute(
        database_url,
        "CREATE FUNCTION frozen() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$",
        "CREATE EVENT TRIGGER hold ON ddl_command_start EXECUTE FUNCTION frozen()",
    )
    assert "event trigger hold" in replay(tmp_path, database_url)
    done = run(tmp_path, database_url, "migrate")
    assert done.returncode == 1
    assert "event trigger hold" in done.stderr


async def test_a_column_of_another_type_takes_no_bytes_of_the_old_one(migrated_url: str, tmp_path: Path) -> None:
    """A text would store what is encoded for a jsonb, also on a connection that was made before."""
    async with Shipping(tmp_path / "spool", migrated_url, batch_size=1) as shipping:
        shipping.append(events('"a"', '"b"')[:1])
        await shipping.delivered()
        views = fetch(migrated_url, "SELECT viewname AS name FROM pg_views WHERE schemaname = 'public'")
        await executed(
            migrated_url,
            f"DROP VIEW {', '.join(row['name'] for row in views)} CASCADE",
            "ALTER TABLE agent_trace_events ALTER payload TYPE text",
        )
        shipping.append(events('"c"'))
        await shipping.failed("42703")
        await executed(migrated_url, "ALTER TABLE agent_trace_events ALTER payload TYPE jsonb USING payload::jsonb")
        await shipping.delivered()
    inputs = fetch(migrated_url, "SELECT payload ->> 'input' AS input FROM agent_trace_events ORDER BY 1")
    assert [row["input"] for row in inputs] == ["a", "c"]


def test_a_column_of_any_table_that_is_of_another_type_is_named(migrated_url: str, tmp_path: Path) -> None:
    """Nothing of the batch is stored."""
    views = fetch(migrated_url, "SELECT viewname AS name FROM pg_views WHERE schemaname = 'public'")
    execute(
        migrated_url,
        f"DROP VIEW {', '.join(row['name'] for row in views)} CASCADE",
        "DROP INDEX agent_trace_records_parent",
        "ALTER TABLE agent_trace_records ALTER record TYPE text",
    )
    assert "agent_trace_records.record is not of type jsonb" in replay(tmp_path, migrated_url)
    assert fetch(migrated_url, STORED)[0]["n"] == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("ALTER TABLE agent_trace_usage SET UNLOGGED", "ALTER TABLE agent_trace_usage SET LOGGED"),
        ("ALTER TABLE agent_trace_masked RENAME TO away", "agent_trace_masked is missing"),
        (
            "ALTER TABLE agent_trace_dedupe DROP CONSTRAINT agent_trace_dedupe_pkey",
            "agent_trace_dedupe has no primary key",
        ),
        ("ALTER TABLE agent_trace_usage ADD note text NOT NULL", "agent_trace_usage.note is an additional column"),
        (
            "ALTER TABLE agent_trace_usage ALTER agent TYPE varchar(9)",
            "agent_trace_usage.agent is not of type text",
        ),
    ],
)
def test_a_changed_table_is_named_before_anything_is_recorded(
    database_url: str, tmp_path: Path, change: str, sentence: str
) -> None:
    """By `status` and `doctor`; a column that may be empty is nobody's trouble."""
    run(tmp_path, database_url, "migrate")
    execute(database_url, "DROP VIEW agent_trace_requests CASCADE", "ALTER TABLE agent_trace_usage ADD added text")
    assert run(tmp_path, database_url, "status").returncode == 0
    execute(database_url, change)
    for command in ("status", "doctor"):
        done = run(tmp_path, database_url, command)
        assert done.returncode == 1
        assert sentence in done.stdout


def test_a_short_transaction_timeout_of_the_role_ends_no_batch(migrated_url: str, tmp_path: Path) -> None:
    """A batch has deadlines of its own. Servers before 17 have no such setting, but the one of an idle transaction."""
    version = int(fetch(migrated_url, "SELECT current_setting('server_version_num') AS v")[0]["v"])
    name = "transaction_timeout" if version >= 170000 else "idle_in_transaction_session_timeout"
    execute(
        migrated_url,
        f"DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {name} = 1000', current_database()); END $$",
        DROPS.format("PERFORM pg_sleep(0.02); IF NEW.seq > 0 THEN RETURN NEW; END IF;"),
        TRIGGER.format("INSERT", "agent_trace_events"),
    )
    done = run(tmp_path, migrated_url, "replay", str(RECORDING))
    assert "150 stored" in done.stdout, done.stderr
    assert "database_failed" not in done.stderr
