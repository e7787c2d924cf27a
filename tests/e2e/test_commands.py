"""The commands as a person types them: what they print, and their exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_trace_sidecar import __version__
from tests.support.postgres import fetch
from tests.support.records import checked
from tests.support.waiting import patient

RECORDING = Path(__file__).parents[1] / "data" / "recordings" / "basic-edit-write-bash.jsonl"


def command(*args: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run one command to its end, with nothing on stdin."""
    return fed(b"", *args, **env)


def fed(stdin: bytes, /, *args: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run one command to its end, in the folder PWD."""
    return subprocess.run(
        [sys.executable, "-m", "agent_trace_sidecar", *args],
        input=stdin,
        cwd=env.pop("PWD", None),
        capture_output=True,
        env={**os.environ, **env},
        timeout=patient(60),
        check=False,
    )


@pytest.fixture
def settings(migrated_url: str, tmp_path: Path) -> dict[str, str]:
    """A database and a state folder of this test's own."""
    return {"AGENT_TRACE_DATABASE_URL": migrated_url, "AGENT_TRACE_STATE_DIR": str(tmp_path / "state")}


def test_run_acknowledges_what_it_made_durable_and_stores_it(settings: dict[str, str]) -> None:
    """The last acknowledgement names the last line, and the database has them all when `run` ends."""
    done = fed(RECORDING.read_bytes(), "run", **settings)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == b'{"ack":150}'
    assert done.stderr == b""
    stored = fetch(
        settings["AGENT_TRACE_DATABASE_URL"], "SELECT count(*) AS n, max(seq) AS top FROM agent_trace_events"
    )
    assert dict(stored[0]) == {"n": 150, "top": 150}


def test_run_does_nothing_when_it_is_switched_off(settings: dict[str, str]) -> None:
    """No row, no spool."""
    done = fed(RECORDING.read_bytes(), "run", AGENT_TRACE_ENABLED="false", **settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert not Path(settings["AGENT_TRACE_STATE_DIR"]).exists()


def test_status_tells_how_it_goes_and_exits_by_it(settings: dict[str, str]) -> None:
    """For a person, as JSON, and when the database is away."""
    fed(RECORDING.read_bytes() + b"broken\n", "run", **settings)
    text = command("status", **settings)
    assert text.returncode == 0
    assert b"151 read = 150 stored + 0 duplicate + 1 dead" in text.stdout
    found = json.loads(command("status", "--json", **settings).stdout)
    assert found["healthy"] is True
    assert found["stored"]["dead_letters"] == {"invalid_json": 1}
    assert (found["gaps"], found["lost"], found["pending_bytes"]) == (0, 0, 0)
    away = command("status", **{**settings, "AGENT_TRACE_DATABASE_URL": "postgresql://nobody:hunter2@127.0.0.1:1/x"})
    assert away.returncode == 1
    assert b"can't be reached" in away.stdout
    assert b"hunter2" not in away.stdout + away.stderr


def test_events_wait_in_the_spool_while_there_is_no_database(settings: dict[str, str]) -> None:
    """And the next sidecar delivers them."""
    away = {**settings, "AGENT_TRACE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}
    done = fed(RECORDING.read_bytes(), "run", **away)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == b'{"ack":150}'
    assert json.loads(command("status", "--json", **away).stdout)["pending_bytes"] > 0
    assert command("run", **settings).returncode == 0
    assert fetch(settings["AGENT_TRACE_DATABASE_URL"], "SELECT count(*) AS n FROM agent_trace_events")[0]["n"] == 150


def test_dead_letters_are_shown_and_tried_again(settings: dict[str, str]) -> None:
    """With reason and line; one that is mended meanwhile is stored, any other stays."""
    assert command("dead-letters", **settings).stdout == b"no dead letters\n"
    fed(RECORDING.read_bytes() + b"broken\n", "run", **settings)
    shown = command("dead-letters", **settings).stdout
    assert b"invalid_json" in shown
    assert b"broken" in shown
    (letter,) = json.loads(command("dead-letters", "--json", "--reason", "invalid_json", **settings).stdout)
    assert (letter["line"], letter["bytes"]) == ("broken", 6)
    again = command("dead-letters", "retry", **settings)
    assert again.stdout == b"0 stored, 0 already stored, 1 still refused\n"


def test_export_prints_valid_records(settings: dict[str, str]) -> None:
    """One JSON object a line, filtered when asked."""
    command("replay", str(RECORDING), **settings)
    done = command("export", **settings)
    records = [checked(line) for line in done.stdout.decode().splitlines()]
    assert [f["path"] for r in records for f in r["files"]] == ["src/app.py", "src/app.py", "notes.txt"]
    assert command("export", "--session", "ses_none", **settings).stdout == b""
    assert command("export", "--since", "2000-01-01", **settings).stdout == done.stdout
    assert command("export", "--since", "soon", **settings).returncode == 2


def test_migrate_says_what_it_did(database_url: str, tmp_path: Path) -> None:
    """And nothing the second time."""
    settings = {"AGENT_TRACE_DATABASE_URL": database_url, "AGENT_TRACE_STATE_DIR": str(tmp_path)}
    assert b"applied 001_agent_trace_tables" in command("migrate", **settings).stdout
    assert command("migrate", **settings).stdout == b"the tables are up to date\n"


def test_tables_that_migrate_would_not_create_are_named(settings: dict[str, str]) -> None:
    """Changed by hand, or created by an unpublished version: running `migrate` again would not help."""
    command("psql", "-c", "ALTER TABLE agent_trace_dedupe DROP COLUMN content_hash", **settings)
    for name in ("migrate", "doctor"):
        done = command(name, **settings)
        assert done.returncode == 1
        assert b"agent_trace_dedupe.content_hash is not of type bigint" in done.stdout + done.stderr


def test_psql_opens_the_database(settings: dict[str, str]) -> None:
    """With psql's own arguments and exit code."""
    done = command("psql", "-Atc", "SELECT count(*) FROM agent_trace_events", **settings)
    assert (done.returncode, done.stdout) == (0, b"0\n")


def test_a_fresh_install_is_ready_and_says_what_happens_next(tmp_path: Path) -> None:
    """With the embedded database, which `status` does not even start: no error, and nothing to do."""
    settings = {"AGENT_TRACE_STATE_DIR": str(tmp_path / "state"), "HOME": str(tmp_path / "home")}
    project = tmp_path / "shop"
    project.mkdir()
    assert b"agent-trace-sidecar status" in command("init", str(project), **settings).stdout
    status = command("status", PWD=str(project), **settings)
    assert (status.returncode, status.stdout.splitlines()[-1]) == (0, b"ready: nothing recorded yet")
    assert f"project  {project}: recorded, by {project}/.opencode".encode() in status.stdout
    doctor = command("doctor", PWD=str(project), **settings)
    assert doctor.returncode == 0, doctor.stdout
    assert b"wrong" not in doctor.stdout
    assert b"this month has partitions" in doctor.stdout
    gone = command("uninstall", "--data", PWD=str(project), **settings)
    assert (gone.returncode, b"confirm with --yes" in gone.stderr) == (1, True)
    gone = command("uninstall", "--data", "--yes", PWD=str(project), **settings)
    assert gone.returncode == 0, gone.stderr
    assert b"stays" in gone.stdout
    assert list(project.iterdir()) == []
    assert not (tmp_path / "state").exists()


def test_a_failure_that_the_shim_left_makes_status_and_doctor_fail(settings: dict[str, str], tmp_path: Path) -> None:
    """Until the directory is recorded again."""
    folder = Path(settings["AGENT_TRACE_STATE_DIR"]) / "failures"
    folder.mkdir(parents=True)
    why = "Nothing is recorded: AGENT_TRACE_CAPTURE is 'metdata': choose full or metadata."
    failure = {"at": 1767225600000, "directory": str(tmp_path), "message": why, "code": 2, "state": "stopped"}
    (folder / "0123456789abcdef.json").write_text(json.dumps(failure))
    (folder / "broken.json").write_text("{")
    command("init", str(tmp_path), **settings)
    for name in ("status", "doctor"):
        done = command(name, PWD=str(tmp_path), **settings)
        assert (done.returncode, why.encode() in done.stdout) == (1, True)
    (folder / "0123456789abcdef.json").write_text(json.dumps({**failure, "recovered_at": 1767225700000}))
    done = command("status", PWD=str(tmp_path), **settings)
    assert (done.returncode, why.encode() in done.stdout) == (0, True)
    assert b"agent-trace-sidecar backfill" in done.stdout


def test_a_misspelt_setting_is_warned_of_and_a_wrong_value_names_the_choices(settings: dict[str, str]) -> None:
    """By every command."""
    done = command("status", AGENT_TRACE_CAPTRUE="metadata", **settings)
    assert b"warning: AGENT_TRACE_CAPTRUE is not a setting" in done.stderr
    assert b"Did you mean AGENT_TRACE_CAPTURE?" in done.stderr
    done = command("status", AGENT_TRACE_CAPTURE="metdata", **settings)
    assert done.returncode == 2
    assert b"AGENT_TRACE_CAPTURE is 'metdata': choose full or metadata. Did you mean metadata?" in done.stderr


@pytest.mark.parametrize("name", ["backfill", "reconcile", "sessions", "usage", "report"])
@pytest.mark.parametrize("age", ["3x", ""])
def test_a_wrong_age_is_reported_first(settings: dict[str, str], name: str, age: str) -> None:
    """By each command in the same words, whatever else is missing."""
    done = command(name, "--since", age, **settings)
    assert done.returncode == 2
    assert f"--since '{age}' is neither an age nor a time, e.g. 30d, 36h or 2026-01-31." in done.stderr.decode()


def test_init_writes_the_shim_and_says_so(tmp_path: Path) -> None:
    """Where OpenCode finds it by itself; a second time it is up to date. It names no path of this machine."""
    settings = {"AGENT_TRACE_STATE_DIR": str(tmp_path / "state"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    first = command("init", str(tmp_path), **settings)
    plugin = tmp_path / ".opencode" / "plugins" / "agent-trace-sidecar.js"
    assert f"{plugin} written (shim {__version__})".encode() in first.stdout
    assert plugin.read_bytes() == (Path(__file__).parents[2] / "opencode-shim" / "index.js").read_bytes()
    started = json.loads((tmp_path / "state" / "sidecar.json").read_text())["command"]
    assert started == [str(Path(sys.executable).with_name("agent-trace-sidecar")), "run"]
    assert b"is up to date" in command("init", str(tmp_path), **settings).stdout
    assert command("init", str(tmp_path / "missing"), **settings).returncode == 1
    assert b"removed" in command("init", "--remove", str(tmp_path), **settings).stdout
    assert not plugin.parent.parent.exists()
    everywhere = tmp_path / "config" / "opencode" / "plugins" / plugin.name
    assert f"{everywhere} written".encode() in command("init", "--global", **settings).stdout
    assert b"removed" in command("init", "--global", "--remove", **settings).stdout
    assert not everywhere.exists()


@pytest.mark.parametrize("name", ["run", "replay", "status", "migrate"])
def test_a_wrong_setting_is_one_sentence_and_exit_2(name: str) -> None:
    """No traceback, for whichever command."""
    args = [name, "x"] if name == "replay" else [name]
    done = command(*args, AGENT_TRACE_FLUSH_MS="soon")
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"AGENT_TRACE_FLUSH_MS" in done.stderr


def test_wrong_rules_are_one_sentence_and_exit_2(settings: dict[str, str], tmp_path: Path) -> None:
    """A rule that can't be used is named; recording without it would store what it should mask."""
    rules = tmp_path / "rules.toml"
    rules.write_text("[[rule]]\nid = 'broken'\npattern = '('\n")
    done = command("run", AGENT_TRACE_REDACTION_RULES=str(rules), **settings)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"broken" in done.stderr


@pytest.mark.parametrize("args", [(), ("fly",), ("replay",), ("status", "--yaml")])
def test_wrong_usage_exits_2(args: tuple[str, ...]) -> None:
    """As argparse says it."""
    assert command(*args).returncode == 2


def test_a_file_that_is_not_there_is_named() -> None:
    """With exit code 1."""
    done = command("replay", "/nowhere/x.jsonl", AGENT_TRACE_DATABASE_URL="postgresql://127.0.0.1:1/x")
    assert done.returncode == 1
    assert b"/nowhere/x.jsonl" in done.stderr
    assert b"Traceback" not in done.stderr


def test_python_m_and_the_version_work() -> None:
    """One version everywhere."""
    assert command("--version").stdout.decode().strip() == f"agent-trace-sidecar {__version__}"
    package = json.loads((Path(__file__).parents[2] / "opencode-shim" / "package.json").read_text())
    assert package["version"] == __version__
