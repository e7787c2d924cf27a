"""OpenCode's own store: what a live recording has is found in it, and what a recording lacks is filled up."""

import io
import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch
from uuid import uuid4

import pytest

from agent_trace_sidecar.cli import main
from agent_trace_sidecar.redaction import Redacted
from agent_trace_sidecar.spool.spool import Spool
from tests.benchmarks.backfill import make_store
from tests.benchmarks.harness import run
from tests.support.envelopes import Shim
from tests.support.fake_model import FakeModel, Step
from tests.support.figures import Figure, figures
from tests.support.majors import DIALECTS, MAJORS, Dialect, at_work, server
from tests.support.opencode import OpenCode
from tests.support.opencode2 import OpenCode2, installed
from tests.support.postgres import PostgresServers, execute, fetch
from tests.support.recorder import Recorder
from tests.support.waiting import completed, eventually

PATCH: Final = (
    "*** Begin Patch\n*** Add File: n.txt\n+hello\n+there\n*** Update File: a.txt\n@@\n-three\n+THREE\n*** End Patch"
)
RANGES: Final = """
SELECT DISTINCT path, start_line, end_line, tool, model_id, session_id, message_id, call_id, encode(line_hashes, 'hex')
FROM agent_trace_ranges WHERE voided_at IS NULL ORDER BY 1, 2, 3
"""
SPENT: Final = """
SELECT session_id, steps, calls, failed_calls, input_tokens, output_tokens, cost FROM agent_trace_sessions ORDER BY 1
"""
TABLES: Final = ("events", "records", "ranges", "file_states", "dead_letters", "sources")


@dataclass
class Recorded:
    """A user's OpenCode that has worked with the sidecar, and the databases of both."""

    oc: OpenCode
    dialect: Dialect
    project: Path
    live_url: str
    empty_url: str

    @property
    def store(self) -> Path:
        """OpenCode's own database."""
        return self.oc.folder / "home" / "data" / "opencode" / "opencode.db"

    def run(self, url: str, *words: str, code: int = 0) -> str:
        """Run a command of ours, as this user."""
        said = io.StringIO()
        env = self.oc.environment(self.project) | {
            "AGENT_TRACE_DATABASE_URL": url,
            "AGENT_TRACE_STATE_DIR": str(self.oc.folder / "state"),
        }
        with patch.dict(os.environ, env), redirect_stdout(said), redirect_stderr(said):
            assert main(words) == code, said.getvalue()
        return said.getvalue()

    def own(self, query: str) -> list[tuple[Any, ...]]:
        """Ask OpenCode's store."""
        with closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()


def scripts(model: FakeModel, dialect: Dialect) -> None:
    """Two edits in one step, a command, a call that fails, a subagent, a patch."""
    model.script(
        "milk",
        Step([dialect.write("b.txt", "x\ny\n"), dialect.edit("a.txt", "two", "TWO\nnew")], text="Let me"),
        Step([dialect.run("printf 'p\\nq\\n' > c.txt; sed -i s/one/ONE/ a.txt")]),
        Step([dialect.edit("a.txt", "nowhere", "z")]),
        Step([dialect.start("eggs please")]),
    )
    model.script("eggs", Step([dialect.write("eggs.txt", "egg\n")]))
    model.script("patchy", Step([dialect.apply(PATCH)]))


@contextmanager
def working(major: int) -> Iterator[OpenCode]:
    """An OpenCode of a major version, with a scripted model."""
    with at_work(major) as oc:
        scripts(oc.model, DIALECTS[major])
        yield oc


@pytest.fixture(scope="module", params=MAJORS)
def recorded(request: pytest.FixtureRequest, postgres_servers: PostgresServers) -> Iterator[Recorded]:
    """Two runs, recorded live."""
    with (
        working(request.param) as oc,
        postgres_servers.database(migrated=True) as live,
        postgres_servers.database(migrated=True) as empty,
    ):
        recorder = Recorder(oc, live)
        project = recorder.project("shop", {"a.txt": "one\ntwo\nthree\n"})
        for prompt, *more in (("buy milk",), ("do patchy", "--model", "openai/gpt-5-x")):
            done = oc.run(project, prompt, *more)
            assert done.code == 0, done.stderr
        recorder.wait_for("bye", 2)
        yield Recorded(oc, DIALECTS[request.param], project, live, empty)


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """What the database says."""
    return [tuple(row) for row in fetch(url, query)]


def counts(url: str) -> dict[str, int]:
    """How many rows there are."""
    return {table: fetch(url, f"SELECT count(*) FROM agent_trace_{table}")[0][0] for table in TABLES}


def test_a_session_whose_events_are_on_their_way_is_left_out(recorded: Recorded) -> None:
    """A spool of this machine holds one: backfill would store it under another id."""
    session = recorded.own(f"SELECT id FROM {recorded.dialect.sessions} WHERE parent_id IS NULL ORDER BY id")[0][0]
    spool = Spool.create(recorded.oc.folder / "state" / "spool", uuid4())
    line = Shim().event("session.idle", {"sessionID": session})
    spool.append([Redacted.from_spool(line)])
    spool.sync()
    for command in (("backfill",), ("reconcile", "--fill")):
        said = recorded.run(recorded.empty_url, *command, "--session", session, code=1)
        assert f"{session} was left out" in said
    assert counts(recorded.empty_url)["events"] == 0
    spool.close()
    spool.remove()


def test_a_backfill_finds_what_a_live_recording_has(recorded: Recorded) -> None:
    """The same lines with the same hashes, model, message and call; tokens and cost are OpenCode's own."""
    said = recorded.run(recorded.empty_url, "backfill", "--dry-run")
    assert "would be stored" in said
    assert counts(recorded.empty_url)["events"] == 0
    recorded.run(recorded.empty_url, "backfill")

    assert rows(recorded.empty_url, RANGES) == rows(recorded.live_url, RANGES)
    assert rows(recorded.empty_url, SPENT) == rows(recorded.live_url, SPENT)
    own = recorded.own(f"SELECT id, tokens_input, tokens_output, cost FROM {recorded.dialect.sessions} ORDER BY id")
    found = rows(
        recorded.empty_url, "SELECT session_id, input_tokens, output_tokens, cost FROM agent_trace_sessions ORDER BY 1"
    )
    assert [(name, float(cost or 0)) for name, *_, cost in found] == [(name, cost) for name, *_, cost in own]
    stored = counts(recorded.empty_url)
    assert stored["dead_letters"] == 0
    assert "Nothing is missing" in recorded.run(recorded.empty_url, "backfill")
    assert counts(recorded.empty_url) == stored


def test_every_way_to_ask_for_the_cost_gives_opencodes_own_figure(recorded: Recorded) -> None:
    """Of a live recording and of a backfill; OpenCode 2 counts titles, too."""
    own = f"""
        SELECT sum(cost), sum(tokens_input + tokens_output + tokens_reasoning + tokens_cache_read + tokens_cache_write)
        FROM {recorded.dialect.sessions}
    """
    ((cost, tokens),) = recorded.own(own)
    recorded.run(recorded.empty_url, "backfill")
    env = recorded.oc.environment(recorded.project)
    for url in (recorded.live_url, recorded.empty_url):
        found = figures(url, recorded.project, env)
        assert set(found.values()) == {Figure(round(cost, 6), tokens)}, found


def test_a_whole_recording_gets_nothing_twice(recorded: Recorded) -> None:
    """What was recorded live is recognised: by the ids of events, and by what they tell of."""
    before = rows(recorded.live_url, RANGES), rows(recorded.live_url, SPENT)
    recorded.run(recorded.live_url, "backfill")
    assert (rows(recorded.live_url, RANGES), rows(recorded.live_url, SPENT)) == before
    assert "Nothing is missing" in recorded.run(recorded.live_url, "backfill")
    calls = "SELECT count(*), count(DISTINCT (session_id, message_id, call_id)) FROM agent_trace_calls"
    assert rows(recorded.live_url, calls)[0][0] == rows(recorded.live_url, calls)[0][1]


def _is_exported(recorded: Recorded, command: list[str], file: Path) -> bool:
    """Run OpenCode's export; on a busy machine the file of version 2 was seen cut off."""
    env = recorded.oc.environment(recorded.project)
    with file.open("w") as out:
        completed(command, cwd=recorded.project, env=env, stdout=out)
    try:
        json.loads(file.read_bytes())
    except ValueError:
        return False
    return True


def test_an_export_has_the_lines_of_a_live_recording(recorded: Recorded, postgres_servers: PostgresServers) -> None:
    """Of one session, as far as its tools reported them: a file of an export is without snapshots."""
    words = ("export",) if recorded.dialect is DIALECTS[1] else ("session", "export")
    ((session,),) = recorded.own(
        f"SELECT id FROM {recorded.dialect.sessions} WHERE parent_id IS NULL ORDER BY time_created LIMIT 1"
    )
    file = recorded.oc.folder / "export.json"
    eventually(lambda: _is_exported(recorded, recorded.oc.command(*words, session), file), 60)
    lines = f"""
        SELECT DISTINCT path, start_line, end_line, tool, model_id, call_id FROM agent_trace_ranges
        WHERE session_id = '{session}' AND tool IN ('write', 'edit') AND voided_at IS NULL ORDER BY 1, 2
    """
    with postgres_servers.database(migrated=True) as url:
        assert "read: 1 session." in recorded.run(url, "backfill", str(file))
        assert rows(url, lines) == rows(recorded.live_url, lines) != []
        assert rows(url, SPENT) == [one for one in rows(recorded.live_url, SPENT) if one[0] == session]
        assert "Nothing is missing" in recorded.run(url, "backfill", str(file))


def test_reconcile_compares_session_by_session(recorded: Recorded) -> None:
    """In events, messages, steps and calls, tokens and cost; exit code 1 as long as something is missing."""
    recorded.run(recorded.live_url, "reconcile", "--fill")
    found = json.loads(recorded.run(recorded.live_url, "reconcile", "--json"))["sessions"]
    assert len(found) == 3
    for one in found:
        ours, own = one["recorded"], one["opencode"]
        assert one["missing"] == {}
        assert (ours["steps"], ours["calls"], ours["cost"]) == (own["steps"], own["calls"], own["cost"])
        assert own["messages"] > 0
        assert one["extra"] > 0
    execute(recorded.live_url, "DELETE FROM agent_trace_events WHERE event_name LIKE '%step%' AND tool IS NULL")
    execute(recorded.live_url, "DELETE FROM agent_trace_events WHERE payload::text LIKE '%step-finish%'")
    execute(recorded.live_url, "DELETE FROM agent_trace_dedupe")
    assert "steps" in recorded.run(recorded.live_url, "reconcile", code=1)
    recorded.run(recorded.live_url, "reconcile", "--fill")
    assert "3 recorded completely, 0 not" in recorded.run(recorded.live_url, "reconcile")


@pytest.mark.needs("OpenCode 2")
def test_lines_of_a_command_in_the_background_are_its_own(postgres_servers: PostgresServers) -> None:
    """The call ends at once; what it writes later is between the snapshots of two prompts, and told from a person's."""
    with working(2) as oc, postgres_servers.database(migrated=True) as url:
        late = "while ! test -e go; do sleep 0.1; done; printf 'late\\nlater\\n' > late.txt"
        oc.model.script("backwork", Step([DIALECTS[2].run(late, background=True)]))
        for name in ("next", "last"):
            oc.model.script(f"{name}work", Step([DIALECTS[2].write(f"{name}.txt", f"{name}\n")]))
        project = oc.project("shop", {"a.txt": "one\n"})
        with server(oc, project) as served:
            session = served.session(project)
            served.prompt(project, session, "do the backwork")
            (project / "go").touch()
            user = Recorded(oc, DIALECTS[2], project, url, url)
            idle = "SELECT count(*) FROM session_message WHERE type = 'idle'"
            eventually(lambda: user.own(idle) == [(2,)], 20, "the model has heard of the command's end")
            served.prompt(project, session, "do the nextwork")
            (project / "typed.txt").write_text("by a person\n")
            served.prompt(project, session, "do the lastwork")
            served.close()
        user.run(url, "backfill")
        assert rows(url, "SELECT path, start_line, end_line, tool, method FROM agent_trace_ranges ORDER BY path") == [
            ("last.txt", 1, 1, "write", "content"),
            ("late.txt", 1, 2, "shell", "snapshot"),
            ("next.txt", 1, 1, "write", "content"),
        ]


@pytest.mark.parametrize("major", MAJORS)
def test_a_run_whose_sidecar_was_killed_is_made_whole(
    major: int, postgres_servers: PostgresServers, tmp_path: Path
) -> None:
    """The sidecar dies in the middle of a run and no other one can be started: the rest is filled up, exactly."""
    with (
        working(major) as oc,
        postgres_servers.database(migrated=True) as live,
        postgres_servers.database(migrated=True) as whole,
    ):
        recorder = Recorder(oc, live)
        project = recorder.project("shop", {"a.txt": "one\ntwo\nthree\n"})
        oc.env["AGENT_TRACE_SIDECAR"] = str(stopping_sidecar(tmp_path, after_steps=2))
        done = oc.run(project, "buy milk")
        assert done.code == 0, done.stderr
        eventually((tmp_path / "ended").exists, 30, "the sidecar has stored what it got")
        user = Recorded(oc, DIALECTS[major], project, live, whole)
        user.run(whole, "backfill")
        user.run(live, "reconcile", code=1)
        partly = rows(live, RANGES)
        assert 0 < len(partly) < len(rows(whole, RANGES))
        user.run(live, "reconcile", "--fill")
        assert rows(live, RANGES) == rows(whole, RANGES)
        assert rows(live, SPENT) == rows(whole, SPENT)
        user.run(live, "reconcile")


@pytest.mark.needs("OpenCode 2")
def test_a_session_goes_on_after_the_upgrade_to_2_0(postgres_servers: PostgresServers) -> None:
    """It is read from the tables of both majors: the lines of a live recording, and nothing twice.

    OpenCode 2 empties the log of events and copies the session; `doctor` notes it where it is not recorded.
    """
    with (
        working(1) as oc,
        postgres_servers.database(migrated=True) as live,
        postgres_servers.database(migrated=True) as empty,
    ):
        recorder = Recorder(oc, live)
        project = recorder.project("shop", {"a.txt": "one\ntwo\nthree\n"})
        assert oc.run(project, "buy milk").code == 0
        user = Recorded(oc, DIALECTS[1], project, live, empty)
        ((session,),) = user.own("SELECT id FROM session WHERE parent_id IS NULL")
        assert user.own("SELECT count(*) FROM event") > [(0,)]
        upgraded = OpenCode2(binary=installed(), folder=oc.folder, model=oc.model, env=oc.env, config=oc.config)
        oc.model.script("later", Step([DIALECTS[2].write("later.txt", "x\ny\n")]))
        assert upgraded.run(project, "do it later", "--session", session).code == 0
        recorder.wait_for("bye", 2)
        assert user.own("SELECT count(*) FROM event") == [(0,)]
        assert user.own("SELECT count(*) FROM session_v2") == [(2,)], "the upgrade has copied both"

        before = rows(live, RANGES), rows(live, SPENT)
        assert "emptied table event" not in user.run(live, "doctor", str(project))
        user.run(live, "backfill")
        assert (rows(live, RANGES), rows(live, SPENT)) == before
        user.run(live, "reconcile")
        assert "unrecorded: 2;" in user.run(empty, "doctor", str(project))
        user.run(empty, "backfill")
        assert rows(empty, RANGES) == before[0]
        assert rows(empty, SPENT) == before[1]
        assert "emptied table event" not in user.run(empty, "doctor", str(project))
        assert "Nothing is missing" in user.run(empty, "backfill")


def test_memory_does_not_grow_with_the_store(postgres_servers: PostgresServers, tmp_path: Path) -> None:
    """Ten times as many sessions take the same; `tests/benchmarks/backfill.py` measures it with gigabytes."""

    def peak_mib(sessions: int) -> float:
        store = tmp_path / f"{sessions}.db"
        events = make_store(store, sessions * 1_500_000, sessions, running=0)
        with postgres_servers.database(migrated=True) as url:
            env = {"AGENT_TRACE_DATABASE_URL": url, "AGENT_TRACE_STATE_DIR": str(tmp_path / "state")}
            done = run([sys.executable, "-m", "agent_trace_sidecar", "backfill", "--store", str(store)], env)
            assert counts(url)["events"] == events
        return done.peak_mib

    # The larger one has 40 MB more; what waits for a busy database is bounded, and a small store does not reach that.
    assert peak_mib(30) < peak_mib(3) + 25


def stopping_sidecar(folder: Path, *, after_steps: int) -> Path:
    """A sidecar that gets the beginning of a run only: what comes after so many steps is lost with it."""
    program = folder / "sidecar"
    program.write_text(
        f"""#!{sys.executable}
import os, subprocess, sys
mark = {str(folder / "used")!r}
if os.path.exists(mark):
    sys.exit(3)
open(mark, "w").close()
real = subprocess.Popen([sys.executable, "-P", "-m", "agent_trace_sidecar", "run"], stdin=subprocess.PIPE)
steps = 0
for line in sys.stdin.buffer:
    steps += b'"step-finish"' in line or b'"session.step.ended"' in line
    if steps >= {after_steps}:
        break
    real.stdin.write(line)
    real.stdin.flush()
real.stdin.close()
real.wait()
open({str(folder / "ended")!r}, "w").close()
sys.exit(3)
"""
    )
    program.chmod(0o755)
    return program
