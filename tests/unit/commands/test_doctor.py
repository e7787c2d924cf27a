"""What `doctor` finds, and what it tells people to do about it."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent_trace_sidecar.commands import doctor
from agent_trace_sidecar.commands.doctor import Check, database, programs, recording, settings, state_folder
from agent_trace_sidecar.commands.init import PLUGIN, init
from agent_trace_sidecar.commands.recording import Recording, find_shim
from agent_trace_sidecar.postgres import migrate as migrating
from agent_trace_sidecar.postgres.partitions import make_months
from tests.support.postgres import connected, execute


def test_the_shim_is_found_where_opencode_finds_it(tmp_path: Path) -> None:
    """In the project, at home, or named in a configuration; one of another version is a note."""
    project, home = tmp_path / "project", tmp_path / "home"
    project.mkdir()

    def shim() -> Check:
        found = Recording(
            str(project), enabled=True, shim=find_shim(project, {"HOME": str(home)}), failing=(), recovered=()
        )
        (check,) = recording(found)
        return check

    assert shim().state == "wrong"
    (project / "opencode.json").write_text('{"plugin": ["opencode-agent-trace-sidecar"]}')
    assert shim() == Check("shim", "ok", str(project / "opencode.json"))
    at_home = home / ".config" / "opencode" / "plugins" / PLUGIN.name
    at_home.parent.mkdir(parents=True)
    at_home.write_text("old")
    assert shim().state == "note"
    init(project)
    assert shim() == Check("shim", "ok", str(project / PLUGIN))


def test_programs_are_looked_for_where_the_shim_looks(tmp_path: Path) -> None:
    """Their absence is a note: another machine may be the one that records."""
    assert {check.what: check.state for check in programs({"PATH": str(tmp_path)})} == {
        "sidecar": "note",
        "opencode": "note",
        "git": "note",
    }
    for name in ("agent-trace-sidecar", "opencode", "git"):
        (tmp_path / name).write_text("#!/bin/sh\necho 1.18.33\n")
        (tmp_path / name).chmod(0o755)
    found = {check.what: check for check in programs({"PATH": str(tmp_path)})}
    assert found["opencode"] == Check("opencode", "ok", f"{tmp_path / 'opencode'} 1.18.33")
    assert found["sidecar"].state == "ok"


def test_what_is_switched_off_is_said() -> None:
    """Recording that is off is wrong, redaction that is off a note."""
    assert list(settings(enabled=True, redaction=True, log_dir=None)) == []
    assert [check.state for check in settings(enabled=False, redaction=False, log_dir="/logs")] == [
        "wrong",
        "note",
        "note",
    ]


def test_a_state_folder_that_can_not_be_written_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One without room for an outage is a note."""
    assert list(state_folder(tmp_path / "new" / "one")) == [Check("state", "ok", str(tmp_path / "new" / "one"))]
    (tmp_path / "file").touch()
    assert [check.state for check in state_folder(tmp_path / "file")] == ["wrong"]
    monkeypatch.setattr(doctor, "_FREE_MIN_BYTES", 2**80)
    assert [check.state for check in state_folder(tmp_path)] == ["note"]


async def test_the_database_is_up_to_date_or_not(
    database_url: str, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables that are not there yet are created when needed, an old schema is wrong, missing months are a note."""
    async with connected(database_url) as connection:
        assert [(c.what, c.state) for c in await database(connection)] == [
            ("database", "ok"),
            ("schema", "ok"),
            ("clock", "ok"),
        ]
    async with connected(migrated_url) as connection:
        assert {c.what: c.state for c in await database(connection)} == {
            "database": "ok",
            "schema": "ok",
            "clock": "ok",
            "months": "note",
        }
        await make_months(connection, datetime.now(UTC).date())
        assert {c.state for c in await database(connection)} == {"ok"}
    files = [*migrating.migration_files(), ("900_newer", "")]
    monkeypatch.setattr(doctor, "migration_files", lambda: files)
    async with connected(migrated_url) as connection:
        [schema] = [c for c in await database(connection) if c.what == "schema"]
    assert schema.state == "wrong"
    assert "this version needs 900_newer: run `agent-trace-sidecar migrate`" in schema.text


async def test_a_clock_that_is_off_is_wrong(migrated_url: str) -> None:
    """Which way, and how far."""
    execute(
        migrated_url,
        "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql "
        "AS $$ SELECT pg_catalog.clock_timestamp() + interval '90 seconds' $$",
    )
    async with connected(migrated_url, search_path="public, pg_catalog") as connection:
        [clock] = [c for c in await database(connection) if c.what == "clock"]
    assert (clock.state, clock.text) == (
        "wrong",
        "this machine is 90 s behind the database: synchronise the clocks (NTP)",
    )
    assert timedelta(seconds=90) > timedelta(seconds=doctor._SKEW_MAX_S)


@pytest.mark.parametrize(
    ("tables", "noted"),
    [
        (("session", "session_v2"), True),
        (("session",), False),
        (("session_v2",), False),
        (("session", "session_v2", "event"), False),
    ],
)
async def test_an_upgrade_that_emptied_opencodes_log_is_noted(
    migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: tuple[str, ...], noted: bool
) -> None:
    """Where the store has both majors' tables, no events, and sessions of 1.x that are not recorded."""
    columns = "(id, parent_id, project_id, directory, title, version, time_created)"
    statements = [
        *(f"CREATE TABLE {name} {columns}" for name in tables if name != "event"),
        "CREATE TABLE message (id, session_id, time_created, data)",
        "CREATE TABLE part (id, message_id, session_id, time_created, data)",
        "CREATE TABLE event (id, aggregate_id, seq, type, data)",
        "CREATE TABLE session_message (id, session_id, type, seq, time_created, data)",
        *(f"INSERT INTO {name} (id, time_created) VALUES ('ses_{name}', 1)" for name in tables if name != "event"),
        *("INSERT INTO event VALUES (1, 'ses_session', 0, 'x', '{}')" for name in tables if name == "event"),
    ]
    store = tmp_path / "opencode" / "opencode.db"
    store.parent.mkdir()
    with closing(sqlite3.connect(store)) as opened:
        opened.executescript(";".join(statements))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("OPENCODE_DB", raising=False)
    async with connected(migrated_url) as connection:
        await make_months(connection, datetime.now(UTC))
        found = [check for check in await database(connection) if check.what == "store"]
        assert [("unrecorded: 1;" in check.text, "backfill" in check.text) for check in found] == [(True, True)] * noted


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command."""
    return subprocess.run(
        [sys.executable, "-m", "agent_trace_sidecar", *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_fails_when_something_is_wrong(migrated_url: str, tmp_path: Path) -> None:
    """And only then."""
    init(tmp_path)
    env = {"AGENT_TRACE_STATE_DIR": str(tmp_path / "state"), "HOME": str(tmp_path)}
    well = run("doctor", str(tmp_path), DATABASE_URL=migrated_url, **env)
    assert (well.returncode, well.stderr) == (0, ""), well.stdout
    assert "wrong" not in well.stdout
    ill = run("doctor", str(tmp_path), DATABASE_URL="postgresql://127.0.0.1:1/x", **env)
    assert ill.returncode == 1
    assert "wrong database  postgresql://127.0.0.1:1/x: The database can't be reached" in ill.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command(shell: str) -> None:
    """And bash at least accepts it."""
    done = run("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("blame", "prune", "older-than", "doctor", "remove-shipped"):
        assert word in done.stdout
    if shell == "bash":
        ask = '_shtab_agent_trace_sidecar; echo "${COMPREPLY[@]}"'
        asked = f"{done.stdout}\nCOMP_WORDS=(agent-trace-sidecar pru); COMP_CWORD=1; {ask}"
        heard = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=False)
        assert heard.stdout.split() == ["prune"], heard.stderr
