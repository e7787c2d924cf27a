"""A long log is masked by a process of its own: the same rows, and nothing unmasked when that process dies."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.benchmarks.lines import write_log
from tests.support.postgres import PostgresServers, fetch
from tests.support.sidecar import sidecar_command, sidecar_env
from tests.support.waiting import eventually

EVENTS = 13_000
"""Of 0.75 KB: more than a replay masks by itself."""
STORED = """
SELECT count(*) AS events, md5(string_agg(md5(payload::text), '' ORDER BY event_id)) AS payloads,
       count(*) FILTER (WHERE payload ? 'redacted') AS masked
FROM agent_trace_events
"""


def replay(tmp_path: Path, url: str, *files: Path) -> "subprocess.CompletedProcess[str]":
    """Replay files by the command."""
    command = sidecar_command("replay", *map(str, files))
    return subprocess.run(
        command, env=sidecar_env(tmp_path / "state", url, redaction="on"), capture_output=True, text=True, check=False
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A long log."""
    path = tmp_path / "long.jsonl"
    assert write_log(path, EVENTS) > 9_000_000
    return path


def test_a_long_log_gives_the_rows_of_its_parts(postgres_servers: PostgresServers, tmp_path: Path, log: Path) -> None:
    """Which are short enough to be masked by the replay itself."""
    lines = log.read_bytes().splitlines(keepends=True)
    parts = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    parts[0].write_bytes(b"".join(lines[: EVENTS // 2]))
    parts[1].write_bytes(b"".join(lines[EVENTS // 2 :]))
    with postgres_servers.database(migrated=True) as whole, postgres_servers.database(migrated=True) as halves:
        assert replay(tmp_path, whole, log).returncode == 0
        assert replay(tmp_path, halves, *parts).returncode == 0
        (found,) = fetch(whole, STORED)
        assert (found["events"], found["masked"] > 0) == (EVENTS, True)
        assert [found] == fetch(halves, STORED)


def test_a_replay_fails_with_its_masking_process_and_goes_on_where_it_was(
    migrated_url: str, tmp_path: Path, log: Path
) -> None:
    """It does not go on with a funnel that has forgotten what the session has shown."""
    with subprocess.Popen(
        sidecar_command("replay", str(log)),
        env=sidecar_env(tmp_path / "state", migrated_url, redaction="on"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        masking = eventually(lambda: maskers(process.pid), 60, "the masking process is there")
        os.kill(masking[0], signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the process that masks has died" in errors
    assert replay(tmp_path, migrated_url, log).returncode == 0
    assert fetch(migrated_url, STORED)[0]["events"] == EVENTS


def maskers(pid: int) -> list[int]:
    """The processes that a replay has started to mask its lines."""
    listed = subprocess.run(
        ["ps", "-Aww", "-o", "pid=", "-o", "ppid=", "-o", "args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [int(row[0]) for row in rows if row[1] == str(pid) and "spawn_main" in row[2]]
