"""Logs in other forms than the shim writes, files that are no logs, and environments that lack what others have."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import zstandard

from tests.support.envelopes import DATA
from tests.support.postgres import OwnServer, PostgresServers, fetch
from tests.support.sidecar import sidecar_command, sidecar_env
from tests.support.waiting import patient

RECORDING = (DATA / "recordings" / "basic-edit-write-bash.jsonl").read_bytes()
LINES = RECORDING.count(b"\n")
MARK = b"\xef\xbb\xbf"
HALF = RECORDING.index(b"\n", len(RECORDING) // 2) + 1
NOBODY = ["setpriv", "--reuid", "4242", "--regid", "4242", "--clear-groups"]
MAY_READ = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
"""The program itself may lie in a folder that is closed to others."""


def replay(tmp_path: Path, url: str, content: bytes, name: str = "log.jsonl") -> subprocess.CompletedProcess[str]:
    """Replay a file with this content."""
    (tmp_path / name).write_bytes(content)
    command = sidecar_command("replay", str(tmp_path / name))
    return subprocess.run(
        command,
        env=sidecar_env(tmp_path / "state", url),
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(60),
    )


def counts(url: str) -> tuple[int, int]:
    """Stored events and dead letters."""
    query = "SELECT (SELECT count(*) FROM agent_trace_events), (SELECT count(*) FROM agent_trace_dead_letters)"
    events, dead = fetch(url, query)[0]
    return events, dead


@pytest.mark.parametrize(
    "packed",
    [
        lambda log: MARK + log,
        lambda log: MARK + log[:HALF] + MARK + log[HALF:],
        lambda log: MARK + log.rstrip(b"\n"),
        lambda log: log.replace(b"\n", b"\r\n"),
        gzip.compress,
        lambda log: gzip.compress(log[:HALF]) + gzip.compress(MARK + log[HALF:]),
        zstandard.compress,
        lambda log: zstandard.compress(log[:HALF]) + zstandard.compress(log[HALF:]),
        lambda log: log.decode().encode("utf-16"),
        lambda log: b"\xfe\xff" + log.decode().encode("utf-16-be"),
        lambda log: log.decode().encode("utf-16-le"),
        lambda log: log.decode().encode("utf-16-be"),
        lambda log: gzip.compress(log.decode().encode("utf-16")),
        lambda log: b"\x50\x2a\x4d\x18\x04\0\0\0size" + zstandard.compress(log),
        lambda log: log[:HALF] + bytes(70_000) + log[HALF:] + bytes(100),
    ],
    ids=[
        *("mark", "marks", "mark-cut", "crlf", "gzip", "gzips", "zstd", "zstds", "utf-16", "utf-16-be"),
        *("unmarked-le", "unmarked-be", "gzip-utf-16", "zstd-skippable", "hole"),
    ],
)
def test_every_event_of_a_log_in_another_form_is_stored(
    migrated_url: str, tmp_path: Path, packed: Callable[[bytes], bytes]
) -> None:
    """Once, by however many replays."""
    for _ in range(2):
        done = replay(tmp_path, migrated_url, packed(RECORDING))
        assert done.returncode == 0, done.stderr
        assert counts(migrated_url) == (LINES, 0)


def test_a_log_that_begins_with_a_mark_is_read_from_stdin(migrated_url: str, tmp_path: Path) -> None:
    """As `run` reads it."""
    subprocess.run(
        sidecar_command("run"),
        env=sidecar_env(tmp_path, migrated_url),
        input=MARK + RECORDING,
        check=True,
        timeout=patient(60),
    )
    assert counts(migrated_url) == (LINES, 0)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"# A project\n\nIt does this.\n", "its lines are not JSON objects with v, id, seq"),
        (bytes(range(256)) * 40, "its lines are not JSON objects with v, id, seq"),
        (b'{"name": "x", "version": "1.0.0"}\n', "is not an event log"),
        (
            b'{"version":"0.1.0","id":"x","timestamp":"2026-01-01T00:00:00Z","files":[]}',
            "sidecar import FILE` stores it",
        ),
        (
            b'{\n  "info": {\n    "id": "ses_1"\n  },\n  "messages": []\n}\n',
            "sidecar backfill FILE` stores it",
        ),
        (b'{"type":"step_start","timestamp":1795975041333,"sessionID":"ses_1","part":{}}\n', "names no model"),
        (b'data: {"type":"server.connected","properties":{}}\n\n', "names no model"),
        (b"SQLite format 3\0" + bytes(84), "`agent-trace-sidecar backfill --store FILE` reads OpenCode's"),
        (gzip.compress(b"hello\n" * 100), "its lines are not JSON objects"),
        (gzip.compress(RECORDING)[:-20], "it is cut off or damaged"),
        (zstandard.compress(RECORDING)[:-20], "it is cut off or damaged"),
        (zstandard.compress(RECORDING)[:40] + b"x" * 400, "it is cut off or damaged"),
        (RECORDING.replace(b"\n", b"\r"), "its lines end with CR alone"),
        (b"[" + RECORDING.strip().replace(b"\n", b",\n") + b"]\n", "none of its first lines is a JSON object"),
        (RECORDING.replace(b',"seq"', b',\n"seq"'), "none of its first lines is a JSON object"),
    ],
    ids=[
        "text",
        "binary",
        "json",
        "records",
        "export",
        "run",
        "stream",
        "sqlite",
        "gzip-text",
        "gzip-cut",
        "zstd-cut",
        "zstd-damaged",
        "cr",
        "array",
        "pretty",
    ],
)
def test_a_file_that_is_no_log_is_refused(migrated_url: str, tmp_path: Path, content: bytes, why: str) -> None:
    """In one sentence, with the exit code of wrong usage, and without a dead letter."""
    done = replay(tmp_path, migrated_url, content, "README.md")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{tmp_path / 'README.md'} is not an event log" in done.stderr
    assert why in done.stderr
    assert done.stderr.count("\n") == 1
    assert counts(migrated_url) == (0, 0)


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\0" * 100, gzip.compress(b"", mtime=0)], ids=["nothing", "newlines", "zeros", "gzip"]
)
def test_an_empty_log_is_a_log(migrated_url: str, tmp_path: Path, content: bytes) -> None:
    """Nothing has happened yet."""
    assert replay(tmp_path, migrated_url, content).returncode == 0
    assert counts(migrated_url) == (0, 0)


def test_dead_letters_can_be_discarded(migrated_url: str, tmp_path: Path) -> None:
    """Those of one reason, or all; a replay does not bring them back, and the counts agree with the tables."""
    odd = RECORDING + b'not JSON\n{"v":2,"id":"01a201d0-0000-7000-8000-000000000001","hook":"x"}\n'
    replay(tmp_path, migrated_url, odd)
    assert counts(migrated_url) == (LINES, 2)
    env = sidecar_env(tmp_path / "state", migrated_url)
    for words, left in ((("--reason", "invalid_json"), 1), ((), 0)):
        command = sidecar_command("dead-letters", "discard", *words)
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert done.stdout == "1 dead letters deleted\n"
        assert counts(migrated_url) == (LINES, left)
    replay(tmp_path, migrated_url, odd)
    assert counts(migrated_url) == (LINES, 0)
    status = subprocess.run(sidecar_command("status", "--json"), env=env, capture_output=True, text=True, check=True)
    stored = json.loads(status.stdout)["stored"]
    assert [int(stored[name]) for name in ("read", "stored", "dead")] == [LINES, LINES, 0]


# -- bare environments -----------------------------------------------------------------------------------------


def bare(words: Sequence[str], cwd: Path, env: dict[str, str], said: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command as a user without a name, a home folder, or more variables than these."""
    command = [*NOBODY, *MAY_READ, sys.executable, "-m", "agent_trace_sidecar", *words]
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        command,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": root, **env},
        cwd=cwd,
        input=said,
        capture_output=True,
        check=False,
        timeout=patient(60),
    )


@pytest.fixture(scope="module")
def server(postgres_servers: PostgresServers) -> Iterator[OwnServer]:
    """A server that any user can connect to."""
    own = postgres_servers.own(tcp=True)
    try:
        yield own
    finally:
        own.close()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A state folder that everybody may write, and a folder that nobody else may."""
    state, closed = tmp_path / "state", tmp_path / "closed"
    for folder, mode in ((state, 0o777), (closed, 0o755)):
        folder.mkdir()
        folder.chmod(mode)
    return state, closed


@pytest.mark.needs("setpriv")
def test_a_user_without_a_name_and_a_home_records(server: OwnServer, folders: tuple[Path, Path]) -> None:
    """Where the state folder is given, everything works."""
    state, closed = folders
    os.chown(state, 4242, 4242)
    given = {"AGENT_TRACE_STATE_DIR": str(state), "AGENT_TRACE_DATABASE_URL": str(server.tcp_url)}
    assert bare(["run"], closed, given, RECORDING).returncode == 0
    assert counts(server.url) == (LINES, 0)
    for words in (["status"], ["export"], ["prune", "--older-than", "9000d", "--yes"]):
        done = bare(words, closed, given)
        assert done.returncode == 0, done.stderr


@pytest.mark.needs("setpriv")
@pytest.mark.parametrize(
    ("words", "given", "named"),
    [
        (["status"], {}, b"set AGENT_TRACE_STATE_DIR"),
        (["run"], {}, b"set AGENT_TRACE_STATE_DIR"),
        (["migrate"], {"AGENT_TRACE_DATABASE_URL": "postgresql://127.0.0.1:1/x"}, b"set AGENT_TRACE_STATE_DIR"),
        (
            ["migrate"],
            {"AGENT_TRACE_STATE_DIR": "STATE", "AGENT_TRACE_DATABASE_URL": "postgresql://127.0.0.1:1/x"},
            b"this user has no name",
        ),
        (["init"], {"AGENT_TRACE_STATE_DIR": "STATE"}, b"can't be written"),
        (["report", "--since", "2026-01-01"], {"AGENT_TRACE_STATE_DIR": "STATE", "URL": "x"}, b"can't be written"),
    ],
)
def test_what_is_missing_is_named_in_one_sentence(
    server: OwnServer, folders: tuple[Path, Path], words: list[str], given: dict[str, str], named: bytes
) -> None:
    """No traceback, whatever command."""
    state, closed = folders
    os.chown(state, 4242, 4242)
    values = {"STATE": str(state), "x": str(server.tcp_url)}
    env = {
        name.replace("URL", "DATABASE_URL") if name == "URL" else name: values.get(v, v) for name, v in given.items()
    }
    done = bare(words, closed, env)
    assert done.returncode in {1, 2}
    assert named in done.stderr
    assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"\n") == 1
