"""Recorded logs of real sessions, replayed: the same rows whatever way they come in."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent_trace_sidecar.commands import replay_jobs
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.pipeline.replay import Replayed
from agent_trace_sidecar.pipeline.replay import replay as replay_files
from agent_trace_sidecar.telemetry import logging as log
from tests.support.postgres import PostgresServers, execute, fetch
from tests.support.records import checked
from tests.support.waiting import eventually, patient

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"
BAD_LINES = (
    b"not json\n",
    b"\n",
    b'{"v":1}\n',
    b"\xff\xfe\x00\n",
    b'{"v":1,"id":"x","seq":1,"at":1,"instance":"y","hook":"event"}\n',
    b"x" * 70_000 + b"\n",
    b"[" * 100_000 + b"\n",
)
INSTANCE = b"6beba06b-0000-42e2-9ea2-f5f74523829b"
STRANGE = (
    b'{"v":1,"id":"01a201d0-0000-7000-8000-00000000000%d","seq":1,"at":1,'
    b'"instance":"6beba06b-0000-42e2-9ea2-f5f74523829b","hook":%b,"input":%b}\n'
)
SLOW = "ALTER TABLE agent_trace_events ADD CONSTRAINT slow CHECK ({} OR pg_sleep(600)::text IS NOT NULL)"
"""Storing any other row never ends ..."""
SLEEPS = "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
WAKE = SLEEPS.replace("SELECT", "SELECT pg_terminate_backend(pid)")
"""... not even when its client has: the server would sleep on."""
FAST = "ALTER TABLE agent_trace_events DROP CONSTRAINT slow"


def replay(url: str, folder: Path, *files: Path) -> list[Replayed]:
    """Replay files into a database."""
    config = Config(database_url=url, state_dir=str(folder / "state"))
    return asyncio.run(replay_files(config, log.logger(), files, lambda *_: None))


def rows(url: str) -> dict[str, list[dict[str, Any]]]:
    """Everything that a replay made, in an order of its own."""
    return {
        table: [dict(row) for row in fetch(url, f"SELECT * FROM {table} ORDER BY {order}")]
        for table, order in [
            ("agent_trace_events", "event_id"),
            ("agent_trace_records", "record_id"),
            ("agent_trace_ranges", "record_id, path, start_line"),
        ]
    }


@pytest.mark.parametrize(
    ("name", "events", "ranges"),
    [
        ("killed-mid-tool", 18, {}),
        ("slash-command", 27, {}),
        (
            "apply-patch",
            51,
            {
                "lib/a.txt": [(2, 3, "diff")],
                "lib/moved.txt": [(2, 2, "diff")],
                "lib/new.txt": [(1, 3, "content")],
            },
        ),
        (
            "basic-edit-write-bash",
            150,
            {"notes.txt": [(1, 2, "content")], "src/app.py": [(1, 6, "content"), (6, 6, "diff"), (8, 11, "diff")]},
        ),
    ],
)
def test_a_recording_becomes_these_rows(
    migrated_url: str, tmp_path: Path, name: str, events: int, ranges: dict[str, list[tuple[int, int, str]]]
) -> None:
    """Every line an event, and the ranges that the session's own arguments say."""
    (done,) = replay(migrated_url, tmp_path, RECORDINGS / f"{name}.jsonl")
    assert done.counts == (events, events, 0, 0, 0)
    stored = rows(migrated_url)
    assert len(stored["agent_trace_events"]) == events
    found: dict[str, list[tuple[int, int, str]]] = {}
    for span in fetch(migrated_url, "SELECT * FROM agent_trace_ranges ORDER BY recorded_at, start_line"):
        found.setdefault(span["path"], []).append((span["start_line"], span["end_line"], span["method"]))
    assert found == ranges
    for row in stored["agent_trace_records"]:
        checked(row["record"])


def test_a_log_replayed_twice_changes_nothing(migrated_url: str, tmp_path: Path) -> None:
    """From the same place it is not even read again; from another place every line is a duplicate."""
    source = RECORDINGS / "basic-edit-write-bash.jsonl"
    replay(migrated_url, tmp_path, source)
    before = rows(migrated_url)
    assert replay(migrated_url, tmp_path, source)[0].counts == (150, 150, 0, 0, 0)
    copy = tmp_path / "copy.jsonl"
    shutil.copyfile(source, copy)
    assert replay(migrated_url, tmp_path, copy)[0].counts == (150, 0, 150, 0, 0)
    assert rows(migrated_url) == before


@pytest.mark.parametrize("share", [0.0, 0.001, 0.13, 0.31, 0.5, 0.77, 0.93, 0.9999])
def test_a_log_cut_anywhere_and_continued_gives_the_same_rows(
    postgres_servers: PostgresServers, tmp_path: Path, share: float
) -> None:
    """Also in the middle of a line: the incomplete line is left for the next replay."""
    data = (RECORDINGS / "subagent-overwrite-crlf-unicode-commit.jsonl").read_bytes()
    path = tmp_path / "log.jsonl"
    with postgres_servers.database(migrated=True) as whole, postgres_servers.database(migrated=True) as parts:
        path.write_bytes(data)
        replay(whole, tmp_path, path)
        path.write_bytes(data[: int(len(data) * share)])
        replay(parts, tmp_path, path)
        path.write_bytes(data)
        (done,) = replay(parts, tmp_path, path)
        assert done.counts == (183, 183, 0, 0, 0)
        assert rows(parts) == rows(whole)


def test_two_files_of_one_run_share_its_state(postgres_servers: PostgresServers, tmp_path: Path) -> None:
    """A log that was rotated in the middle of a session gives the same rows."""
    lines = (RECORDINGS / "basic-edit-write-bash.jsonl").read_bytes().splitlines(keepends=True)
    with postgres_servers.database(migrated=True) as whole, postgres_servers.database(migrated=True) as parts:
        for name, part in [("all", lines), ("one", lines[:17]), ("two", lines[17:])]:
            (tmp_path / name).write_bytes(b"".join(part))
        replay(whole, tmp_path, tmp_path / "all")
        replay(parts, tmp_path, tmp_path / "one", tmp_path / "two")
        assert rows(parts) == rows(whole)


def test_a_log_that_is_truncated_while_it_is_replayed_ends_there(migrated_url: str, tmp_path: Path) -> None:
    """The replay reports it, and what it had read is stored."""
    path = tmp_path / "log.jsonl"
    line = (
        b'{"v":1,"id":"01a201d0-0000-7000-8000-%012x","seq":%d,"at":1795000000000,"instance":"%b","hook":"event",'
        b'"input":"%b"}\n'
    )
    path.write_bytes(b"".join(line % (n, n, INSTANCE, b"x" * 60_000) for n in range(1, 101)))
    half = path.stat().st_size // 2
    config = Config(database_url=migrated_url, state_dir=str(tmp_path / "state"), redaction=False)
    with pytest.raises(OSError, match="truncated while it was read"):
        asyncio.run(replay_files(config, log.logger(), [path], lambda *_: os.truncate(path, half)))
    assert fetch(migrated_url, "SELECT max(seq) AS n FROM agent_trace_events")[0]["n"] in range(49, 60)


def test_bad_lines_become_dead_letters_and_their_neighbours_are_stored(migrated_url: str, tmp_path: Path) -> None:
    """Each with its reason; an empty line is nothing."""
    good = (RECORDINGS / "killed-mid-tool.jsonl").read_bytes().splitlines(keepends=True)
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(g + b for g, b in zip(good, BAD_LINES, strict=False)) + b"".join(good[len(BAD_LINES) :]))
    (done,) = replay(migrated_url, tmp_path, path)
    assert done.counts == (len(good) + 6, len(good), 0, 6, 0)
    reasons = [
        r["reason"] for r in fetch(migrated_url, "SELECT reason FROM agent_trace_dead_letters ORDER BY position")
    ]
    assert len(reasons) == 6
    assert set(reasons) <= {"invalid_json", "truncated", "missing_field", "wrong_type", "too_deep"}


def test_what_is_unknown_is_stored_as_an_event_and_makes_no_record(migrated_url: str, tmp_path: Path) -> None:
    """An unknown hook, an unknown event type, and inputs of the wrong type."""
    cases = [
        (b'"tomorrow.hook"', b'{"x":1}'),
        (b'"event"', b'{"event":{"type":"new.thing","properties":{"sessionID":"ses_1"}}}'),
        (b'"event"', b"[]"),
        (b'"tool.execute.after"', b'{"tool":7,"callID":[],"sessionID":{}}'),
        (b'"event"', b'{"event":{"type":"message.part.updated","properties":{"part":"no"}}}'),
    ]
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(STRANGE % (n, hook, text) for n, (hook, text) in enumerate(cases)))
    (done,) = replay(migrated_url, tmp_path, path)
    assert done.counts == (5, 5, 0, 0, 0)
    assert rows(migrated_url)["agent_trace_records"] == []
    names = {row["event_name"] for row in rows(migrated_url)["agent_trace_events"]}
    assert {"tomorrow.hook", "new.thing"} <= names


def test_a_stopped_replay_says_that_it_resumes_and_does(postgres_servers: PostgresServers, tmp_path: Path) -> None:
    """Ctrl-C in the second of two logs: the first one stays stored, and the same command adds the rest."""
    names = ("killed-mid-tool", "slash-command")
    files = [RECORDINGS / f"{name}.jsonl" for name in names]
    (second,) = set(re.findall(r'"instance":"([0-9a-f-]{36})"', files[1].read_text()))
    command = [sys.executable, "-m", "agent_trace_sidecar", "replay", *map(str, files)]
    with postgres_servers.database(migrated=True) as whole, postgres_servers.database(migrated=True) as parts:
        replay(whole, tmp_path, *files)
        execute(parts, SLOW.format(f"source_id <> '{second}'"))
        env = os.environ | {"AGENT_TRACE_DATABASE_URL": parts, "AGENT_TRACE_STATE_DIR": str(tmp_path / "parts")}
        with subprocess.Popen(command, env=env, stderr=subprocess.PIPE) as process:
            eventually(lambda: fetch(parts, SLEEPS), 30, "the second log is being stored")
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=patient(30))
        assert (process.returncode, b"The same command resumes where it stopped." in said) == (130, True), said
        assert len(rows(parts)["agent_trace_events"]) == 18
        fetch(parts, WAKE)
        execute(parts, FAST)
        done = subprocess.run(command, env=env, capture_output=True, check=True)
        assert b"nothing new, all 18 events are already stored" in done.stdout
        assert b"27 events read, 27 stored, 0 duplicate" in done.stdout
        assert rows(parts) == rows(whole)


def at_once(url: str, folder: Path, *args: str | Path) -> subprocess.Popen[str]:
    """Start the command on files, several at once."""
    return subprocess.Popen(
        [sys.executable, "-m", "agent_trace_sidecar", "replay", *map(str, args)],
        env={**os.environ, "AGENT_TRACE_DATABASE_URL": url, "AGENT_TRACE_STATE_DIR": str(folder / "state")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_logs_at_once_become_the_rows_of_logs_one_after_the_other(
    migrated_url: str, postgres_servers: PostgresServers, tmp_path: Path
) -> None:
    """Also the two parts of one run, whose second part means nothing without the first."""
    whole = (RECORDINGS / "basic-edit-write-bash.jsonl").read_bytes().splitlines(keepends=True)
    parts = [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    for part, lines in zip(parts, (whole[:60], whole[60:]), strict=True):
        part.write_bytes(b"".join(lines))
    files = [parts[0], RECORDINGS / "apply-patch.jsonl", parts[1], RECORDINGS / "slash-command.jsonl"]
    process = at_once(migrated_url, tmp_path, "--jobs", "3", *files)
    output, errors = process.communicate(timeout=patient(60))
    assert (process.returncode, errors) == (0, "")
    assert [line.partition(":")[0] for line in output.splitlines()] == [str(file) for file in files]
    with postgres_servers.database(migrated=True) as other:
        replay(other, tmp_path, *files)
        assert rows(migrated_url) == rows(other)


def test_a_log_that_fails_costs_the_others_nothing(migrated_url: str, tmp_path: Path) -> None:
    """The exit code is that of the first that failed, and each is named with its reason."""
    text, rest = tmp_path / "notes.jsonl", RECORDINGS / "apply-patch.jsonl"
    text.write_text("these are notes\n" * 10)
    process = at_once(migrated_url, tmp_path, "--jobs", "2", text, tmp_path / "none.jsonl", rest)
    output, errors = process.communicate(timeout=patient(60))
    assert process.returncode == 2
    assert output == f"{rest}: 51 events read, 51 stored, 0 duplicate, 0 dead\n"
    assert "notes.jsonl is not an event log" in errors
    assert "none.jsonl can't be read" in errors


def test_a_stopped_replay_of_logs_at_once_resumes(migrated_url: str, tmp_path: Path) -> None:
    """Its processes end with it, by Ctrl-C and by kill -9 alike; the same command stores the rest once."""
    files = []
    for number in range(4):
        files.append(tmp_path / f"{number}.jsonl")
        instance = f"{number:08d}-0000-4000-8000-000000000000".encode()
        lines = recording_of(instance, copies=500)
        files[-1].write_bytes(lines)
    last = lines.count(b"\n")
    # None of them is over before it is stopped, however late that is.
    execute(migrated_url, SLOW.format(f"seq < {last}"))
    for stop in (signal.SIGINT, signal.SIGKILL):
        process = at_once(migrated_url, tmp_path, "--jobs", "2", *files)
        before = stored(migrated_url)
        eventually(lambda known=before: stored(migrated_url) > known or fetch(migrated_url, SLEEPS), 60)  # type: ignore[misc]
        process.send_signal(stop)
        _, errors = process.communicate(timeout=patient(60))  # ends when the last process has closed the pipe
        assert process.returncode == (130 if stop is signal.SIGINT else -signal.SIGKILL)
        assert "Traceback" not in errors
        fetch(migrated_url, WAKE)
    assert 0 < stored(migrated_url) < len(files) * last
    execute(migrated_url, FAST)
    process = at_once(migrated_url, tmp_path, "--jobs", "2", *files)
    _, errors = process.communicate(timeout=patient(120))
    assert (process.returncode, errors) == (0, "")
    assert stored(migrated_url) == len(files) * last


@pytest.mark.parametrize("request_begun", [b"", b'{"config":{"enabled":true'])
def test_a_process_whose_parent_was_killed_before_its_request_ends_quietly(request_begun: bytes) -> None:
    """Not with a traceback on the terminal of somebody who has just used kill -9."""
    command = [sys.executable, "-P", "-c", replay_jobs.PROGRAM]
    ended = subprocess.run(command, input=request_begun, capture_output=True, timeout=patient(60), check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def recording_of(instance: bytes, copies: int) -> bytes:
    """A recording as another run's, several times with other ids and numbers."""
    lines = (RECORDINGS / "killed-mid-tool.jsonl").read_bytes().splitlines()
    made = []
    for seq in range(1, copies * len(lines) + 1):
        line = re.sub(rb'"instance":"[^"]+"', b'"instance":"%b"' % instance, lines[seq % len(lines)], count=1)
        line = re.sub(rb'"id":"[^"]+","seq":\d+', b'"id":"%b%012d","seq":%d' % (instance[:24], seq, seq), line, count=1)
        made.append(line)
    return b"\n".join(made) + b"\n"


def stored(url: str) -> int:
    """How many events are there."""
    return int(fetch(url, "SELECT count(*) FROM agent_trace_events")[0][0])
