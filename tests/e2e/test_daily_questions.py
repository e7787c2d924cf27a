"""Which sessions there were, what they did and what they cost: as a person asks, on a terminal and in a pipe."""

import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from html import unescape
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.backfill import make_store
from tests.support.attributed import run_git
from tests.support.postgres import PostgresServers, execute, fetch
from tests.support.terminal import on_terminal
from tests.support.waiting import eventually, patient

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"
SESSION_FIELDS = {
    "session_id", "title", "started_at", "model_id", "repository", "user", "calls", "lines_written", "cost",
}  # fmt: skip
USAGE_FIELDS = {
    "name", "sessions", "steps", "input_tokens", "output_tokens", "reasoning_tokens", "cache_read_tokens",
    "cache_write_tokens", "cost", "unpriced_steps",
}  # fmt: skip
WITH_SUBAGENT = "ses_dfe28bfd2ffe0zFr5mI1LfPtej"
UNPRICED = "ses_dfe2fe554ffed7CPsiH867SoIO"
GROUPS = ("day", "week", "month", "model", "repository", "user", "session", "tool")


@pytest.fixture(scope="module", name="settings")
def _settings(postgres_servers: PostgresServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A database with all recordings in it; nobody changes it."""
    with postgres_servers.database(migrated=True) as url:
        settings = {
            "AGENT_TRACE_DATABASE_URL": url,
            "AGENT_TRACE_STATE_DIR": str(tmp_path_factory.mktemp("state")),
            "TZ": "Asia/Tokyo",
        }
        assert asked("replay", *map(str, sorted(RECORDINGS.glob("*.jsonl"))), **settings).returncode == 0
        yield settings


def asked(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run one command in a pipe."""
    words = [sys.executable, "-m", "agent_trace_sidecar", *args]
    return subprocess.run(
        words, env={**os.environ, **env}, capture_output=True, text=True, timeout=patient(60), check=False
    )


def found(*args: str, **env: str) -> Any:  # noqa: ANN401 - JSON
    """What a command prints as JSON."""
    done = asked(*args, "--json", **env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_sessions_are_listed_with_what_they_did_and_cost(settings: dict[str, str]) -> None:
    """The latest first; no price is null, and times are UTC in JSON."""
    sessions = found("sessions", **settings)
    assert all(set(one) >= SESSION_FIELDS for one in sessions)
    assert [one["started_at"] for one in sessions] == sorted((one["started_at"] for one in sessions), reverse=True)
    known = {one["session_id"]: one for one in sessions}
    assert known[UNPRICED]["title"] == "Demo session title"
    assert (known[UNPRICED]["cost"], known[UNPRICED]["calls"], known[UNPRICED]["lines_written"]) == (None, 8, 13)
    assert known[UNPRICED]["model_id"] == "mock/gpt-4o"
    assert known[UNPRICED]["started_at"].startswith("2026-11-22T05:52:2")
    assert known[UNPRICED]["started_at"].endswith("Z")
    assert known[WITH_SUBAGENT]["cost"] == pytest.approx(0.0042)
    piped = asked("sessions", **settings).stdout
    assert UNPRICED in piped
    assert "started (JST)" in piped
    assert "2026-11-22 14:52" in piped
    assert "\x1b" not in piped


def test_the_latest_sessions_are_the_first_of_all(settings: dict[str, str]) -> None:
    """They are chosen from an index before anything else of them is read."""
    listed = found("sessions", **settings)
    assert found("sessions", "--limit", "2", **settings) == listed[:2]
    assert found("sessions", "--since", "9000d", **settings) == listed
    assert found("sessions", "--since", "9000d", "--limit", "1", **settings) == listed[:1]


@pytest.mark.parametrize(
    ("options", "number"),
    [
        (("--model", "sonnet"), 3),
        (("--search", "MATH HELPERS"), 1),
        (("--search", "Demo session"), 1),
        (("--repository", "/home/dev/project"), 6),
        (("--repository", "elsewhere"), 0),
        (("--user", "nobody"), 0),
        (("--since", "2026-11-22T06:01:00Z"), 1),
        (("--limit", "2"), 2),
    ],
)
def test_sessions_are_searched(settings: dict[str, str], options: tuple[str, ...], number: int) -> None:
    """By time, repository, user, model and text; a person is told when there is none."""
    assert len(found("sessions", *options, **settings)) == number
    done = asked("sessions", *options, **settings)
    assert done.returncode == (0 if number else 1)
    assert number or "no recorded session matches" in done.stderr


def test_every_way_to_ask_for_the_cost_gives_the_same_figure(settings: dict[str, str]) -> None:
    """Usage in each grouping and as CSV, sessions, stats and SQL."""
    url = settings["AGENT_TRACE_DATABASE_URL"]
    (row,) = fetch(url, "SELECT count(*) AS steps, sum(cost) AS cost FROM agent_trace_steps")
    (views,) = fetch(
        url,
        "SELECT (SELECT sum(cost) FROM agent_trace_sessions) AS sessions,"
        " (SELECT sum(cost) FROM agent_trace_usage_by_day) AS days",
    )
    assert row["cost"] == views["sessions"] == views["days"] == Decimal("0.006")
    for by in GROUPS:
        rows = found("usage", "--by", by, **settings)
        assert all(set(one) >= USAGE_FIELDS | {by} for one in rows)
        assert sum(one["steps"] for one in rows) == row["steps"], by
        assert sum(one["cost"] or 0 for one in rows) == pytest.approx(0.006), by
        assert sum(one["unpriced_steps"] for one in rows) == 10, by
    priced = {one["name"]: one["cost"] for one in found("usage", "--by", "model", **settings)}
    assert priced["mock/gpt-4o"] is None
    table = list(csv.DictReader(io.StringIO(asked("usage", "--by", "model", "--csv", **settings).stdout)))
    assert {one["model"]: one["cost"] for one in table}["mock/gpt-4o"] == ""
    assert sum(float(one["cost"] or 0) for one in found("sessions", **settings)) == pytest.approx(0.006)


def test_stats_and_the_page_of_a_period_count_sessions_that_wrote_no_line(
    settings: dict[str, str], tmp_path: Path
) -> None:
    """As usage does: they worked in the repository too."""
    log = (RECORDINGS / "subagent-overwrite-crlf-unicode-commit.jsonl").read_text()
    log += (RECORDINGS / "slash-command.jsonl").read_text()
    project = tmp_path / "project"
    project.mkdir()
    run_git(project, "init", "-q")
    run_git(project, "commit", "-q", "--allow-empty", "-m", "first")
    first = run_git(project, "rev-parse", "HEAD")
    moved = tmp_path / "moved.jsonl"
    for other in set(re.findall(r'"project":\{"id":"([0-9a-f]{40})"', log)):
        log = log.replace(other, first)
    moved.write_text(log.replace("/home/dev/project", str(project)))
    with_own = {**settings, "AGENT_TRACE_DATABASE_URL": settings["AGENT_TRACE_DATABASE_URL"]}
    url = with_own["AGENT_TRACE_DATABASE_URL"]
    execute(url, "CREATE SCHEMA IF NOT EXISTS apart")
    with_own["AGENT_TRACE_DATABASE_URL"] = url + "&options=-csearch_path%3Dapart"
    assert asked("replay", str(moved), **with_own).returncode == 0
    words = [sys.executable, "-m", "agent_trace_sidecar", "stats", "--json"]
    done = subprocess.run(
        words, cwd=project, env={**os.environ, **with_own}, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["total"]["cost"] == pytest.approx(0.006)
    assert sum(one["cost"] or 0 for one in found("usage", **with_own)) == pytest.approx(0.006)
    page = tmp_path / "page.html"
    words = [sys.executable, "-m", "agent_trace_sidecar", "report", "--since", "2026-11-01", "--output", str(page)]
    subprocess.run(words, cwd=project, env={**os.environ, **with_own}, capture_output=True, check=True)
    shown = re.search(r'id="sql-cost"[^>]*>([^<]+)<', page.read_text())
    assert shown is not None
    rows = fetch(with_own["AGENT_TRACE_DATABASE_URL"], unescape(shown[1]).split(";")[0])
    assert sum(row["cost"] or 0 for row in rows) == pytest.approx(0.006)
    by_model = found("usage", "--by", "model", **with_own)
    assert {row["model"]: row["unpriced_steps"] for row in rows} == {
        one["name"]: one["unpriced_steps"] for one in by_model
    }
    execute(url, "DROP SCHEMA apart CASCADE")


def test_tables_fit_a_terminal_of_80_columns(settings: dict[str, str]) -> None:
    """Numbers are never cut; in a pipe nothing is."""
    for words in (("sessions",), *(("usage", "--by", by) for by in GROUPS)):
        text = on_terminal([sys.executable, "-m", "agent_trace_sidecar", *words], {**os.environ, **settings})
        lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
        assert max(map(len, lines)) <= 80, text
        assert "cost $" in text
        assert "0.00" in text
        assert "\x1b[1m" in text


@pytest.fixture(scope="module", name="faulty")
def _faulty(
    postgres_servers: PostgresServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, str], Path]]:
    """A database with dead letters and a run with a gap, and a store of OpenCode's of which nothing is recorded."""
    folder = tmp_path_factory.mktemp("faulty")
    lines = (RECORDINGS / "basic-edit-write-bash.jsonl").read_bytes().splitlines()
    log = folder / "log.jsonl"
    log.write_bytes(b"\n".join([*lines[:40], *lines[60:], b"broken " * 50, b'{"v":1,"id":7}']) + b"\n")
    make_store(folder / "opencode.db", 200_000, 3, running=0)
    with postgres_servers.database(migrated=True) as url:
        settings = {"AGENT_TRACE_DATABASE_URL": url, "AGENT_TRACE_STATE_DIR": str(folder / "state")}
        settings |= {"HOME": str(folder), "XDG_DATA_HOME": str(folder)}
        assert asked("replay", str(log), **settings).returncode == 0
        yield settings, folder / "opencode.db"


TABLES = [
    (("status",), "last event", "6beba06b-5354-42e2-9ea2-f5f74523829b", "20: 41-60"),
    (("dead-letters",), "seen (", "JSON is malformed: invalid character (byte 0)", "350"),
    (("reconcile", "--store", "{store}"), "session", "ses_00000000000000000000000002", "2 calls, 4 messages"),
]
"""Commands, how their table's head begins, a cell that a pipe gets whole, and one that a terminal does, too."""


@pytest.mark.parametrize(("words", "head", "long", "short"), TABLES, ids=["status", "dead-letters", "reconcile"])
def test_what_is_wrong_fits_a_terminal_of_80_columns(
    faulty: tuple[dict[str, str], Path], words: tuple[str, ...], head: str, long: str, short: str
) -> None:
    """The table is as wide as the terminal at most, with a bold head; a pipe gets every cell whole, without colours."""
    settings, store = faulty
    words = tuple(word.format(store=store) for word in words)
    text = on_terminal([sys.executable, "-m", "agent_trace_sidecar", *words], {**os.environ, **settings})
    lines = text.splitlines()
    begin = next(at for at, line in enumerate(lines) if line.startswith(f"\x1b[1m{head}"))
    table = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines[begin:]]
    table = list(takewhile(lambda line: "  " in line, table))
    assert len(table) >= 2
    assert max(map(len, table)) <= 80, text
    assert short in "\n".join(table)
    assert long not in text
    piped = asked(*words, **settings)
    assert long in piped.stdout
    assert short in piped.stdout
    assert "\x1b" not in piped.stdout
    assert "…" not in piped.stdout


@pytest.mark.parametrize("part", ["CPsiH", UNPRICED])
def test_a_part_of_an_id_is_enough(settings: dict[str, str], part: str) -> None:
    """Where it is only one's; else the candidates are named."""
    records = asked("export", "--session", part, **settings).stdout.splitlines()
    assert len(records) == len(asked("export", "--session", UNPRICED, **settings).stdout.splitlines()) > 0
    dry = asked("prune", "--session", part, "--dry-run", **settings)
    assert "agent_trace_events: 142 rows would be deleted" in dry.stdout
    several = asked("export", "--session", "ses_", **settings)
    assert (several.returncode, "part of several" in several.stderr) == (1, True)
    none = asked("report", "--session", "nowhere", **settings)
    assert (none.returncode, "`agent-trace-sidecar sessions` lists them" in none.stderr) == (1, True)


@pytest.mark.parametrize("words", ["prune --session", "watch"])
def test_a_shell_completes_the_ids_of_recorded_sessions(settings: dict[str, str], words: str) -> None:
    """Which it reads from the database when one is wanted; without a database it completes nothing and is silent."""
    script = asked("completion", "bash", **settings).stdout
    script += f"COMP_WORDS=(agent-trace-sidecar {words} ses_dfe); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
    script += '_shtab_agent_trace_sidecar; printf "%s\\n" "${COMPREPLY[@]}"'
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for url, wanted in (
        (settings["AGENT_TRACE_DATABASE_URL"], {one["session_id"] for one in found("sessions", **settings)}),
        ("postgresql://127.0.0.1:1/none", set()),
    ):
        env = {**os.environ, **settings, "AGENT_TRACE_DATABASE_URL": url, "PATH": path}
        done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=False)
        assert (set(done.stdout.split()), done.stderr) == ({one for one in wanted if one.startswith("ses_dfe")}, "")


def test_latest_is_the_session_with_the_last_event(settings: dict[str, str], tmp_path: Path) -> None:
    """For every command."""
    page = tmp_path / "page.html"
    done = asked("report", "--session", "latest", "--output", str(page), **settings)
    assert done.returncode == 0, done.stderr
    latest = max(found("sessions", **settings), key=lambda one: one["last_event_at"])
    assert latest["session_id"] in page.read_text()


def test_watch_shows_a_session_until_ctrl_c(settings: dict[str, str], tmp_path: Path) -> None:
    """Prompt, calls, lines and steps."""
    out = tmp_path / "out"
    words = [sys.executable, "-u", "-m", "agent_trace_sidecar", "watch", "CPsiH"]
    with out.open("w") as stream, subprocess.Popen(words, env={**os.environ, **settings}, stdout=stream) as process:
        eventually(lambda: "idle" in out.read_text(), 30, "the session is shown")
        process.send_signal(signal.SIGINT)
        assert process.wait(patient(20)) == 0
    text = out.read_text()
    for line in ("prompt  ", "call    write src/app.py", "failed  edit", "6 lines of src/app.py", "no price"):
        assert line in text


def test_nothing_recorded_is_said_with_what_to_do(migrated_url: str, tmp_path: Path) -> None:
    """And exit code 1; programs get an empty list."""
    settings = {"AGENT_TRACE_DATABASE_URL": migrated_url, "AGENT_TRACE_STATE_DIR": str(tmp_path)}
    for name in ("sessions", "usage"):
        done = asked(name, **settings)
        assert (done.returncode, done.stdout, "agent-trace-sidecar status" in done.stderr) == (1, "", True)
        assert found(name, **settings) == []
    for words in (("export",), ("export", "--session", "latest"), ("watch", "latest")):
        done = asked(*words, **settings)
        assert (done.returncode, done.stdout, "agent-trace-sidecar" in done.stderr) == (1, "", True)


def test_prune_asks_first(migrated_url: str, tmp_path: Path) -> None:
    """On a terminal; elsewhere it needs --yes."""
    settings = {"AGENT_TRACE_DATABASE_URL": migrated_url, "AGENT_TRACE_STATE_DIR": str(tmp_path)}
    asked("replay", str(RECORDINGS / "basic-edit-write-bash.jsonl"), **settings)
    words = [sys.executable, "-m", "agent_trace_sidecar", "prune", "--session", "latest"]
    piped = asked("prune", "--session", "latest", **settings)
    assert (piped.returncode, "--yes" in piped.stderr) == (1, True)
    assert "nothing was deleted" in on_terminal(words, {**os.environ, **settings}, typed="n\n")
    count = "SELECT count(*) AS n FROM agent_trace_events"
    assert fetch(migrated_url, count)[0]["n"] == 150
    assert "142 rows deleted" in on_terminal(words, {**os.environ, **settings}, typed="y\n")
    assert fetch(migrated_url, count)[0]["n"] == 0, "a run without a session left goes too"


def test_a_bare_command_prints_help_and_a_mistyped_word_gets_a_suggestion() -> None:
    """With exit code 2; the help begins with the commands of every day."""
    bare = asked()
    assert (bare.returncode, "sessions" in bare.stdout) == (2, True)
    assert bare.stdout.index("    init ") < bare.stdout.index("    blame ") < bare.stdout.index("    tail ")
    for words, meant in (
        (("sesions",), "sessions"),
        (("status", "--jsn"), "--json"),
        (("blame", "--revision=x", "f"), "--rev"),
    ):
        done = asked(*words)
        assert (done.returncode, f"Did you mean {meant}?" in done.stderr) == (2, True), done.stderr
        assert done.stderr.count("\n") == 1
    nothing = asked("status", "all")
    assert (nothing.returncode, "status does not take 'all'. `agent-trace" in nothing.stderr) == (2, True)


@pytest.mark.parametrize("words", [("stats",), ("report", "--repo", "."), ("report", "--since", "1d")])
def test_a_repository_of_which_nothing_is_recorded_is_named(
    migrated_url: str, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """With exit code 1 and what to do, and no file is written."""
    (tmp_path / "a.txt").write_text("one\n")
    env = {**os.environ, "AGENT_TRACE_DATABASE_URL": migrated_url, "AGENT_TRACE_STATE_DIR": str(tmp_path / "state")}
    command = [sys.executable, "-m", "agent_trace_sidecar", *words]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing is recorded" in done.stderr
    assert not list(tmp_path.glob("*.html"))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://127.0.0.1:1/x", "the connection is refused. Start the server"),
        ("postgresql://nowhere.invalid/x", "its host name is unknown. Check the name"),
        ("postgresql:///x?host=/nowhere", "there is no such socket"),
    ],
)
def test_why_the_database_cannot_be_reached_is_said(tmp_path: Path, url: str, why: str) -> None:
    """What to check differs."""
    done = asked("sessions", AGENT_TRACE_DATABASE_URL=url, AGENT_TRACE_STATE_DIR=str(tmp_path))
    assert (done.returncode, why in done.stderr) == (1, True), done.stderr


def test_status_shows_the_spools_before_the_database_answers(tmp_path: Path) -> None:
    """The server accepts the connection and is silent; when it is gone, the sentence and the verdict follow."""
    with socket.create_server(("127.0.0.1", 0)) as silent, (tmp_path / "out").open("w+") as out:
        url = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x?sslmode=disable"
        env = {**os.environ, "AGENT_TRACE_DATABASE_URL": url, "AGENT_TRACE_STATE_DIR": str(tmp_path / "state")}
        words = [sys.executable, "-m", "agent_trace_sidecar", "status"]
        with subprocess.Popen(words, cwd=tmp_path, env=env, stdout=out) as process:
            connection, _ = silent.accept()  # it is asked, and waits for an answer
            shown = (tmp_path / "out").read_text()
            assert process.poll() is None
            connection.close()
            silent.close()
            assert process.wait(patient(60)) == 1
        assert "project  " in shown
        assert "undelivered" not in shown
        assert shown.endswith(f"database postgresql://127.0.0.1:{url.split(':')[2].split('/', maxsplit=1)[0]}/x\n")
        whole = (tmp_path / "out").read_text()
        assert whole.startswith(shown)
        assert "\nUNHEALTHY\n  ! The connection to the database was lost" in whole
