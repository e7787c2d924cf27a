"""Real OpenCode 1.18 and 2.0 do the same work: what is recorded of them is the same."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.simulator import formatter
from tests.simulator.real import formatter_config
from tests.support.fake_model import FakeModel, Step
from tests.support.figures import Figure, figures
from tests.support.majors import DIALECTS, MAJORS, PATCHING, TOOLS, Dialect, at_work, major_of, server
from tests.support.opencode import ROOT, OpenCode
from tests.support.postgres import PostgresServers
from tests.support.recorder import Recorder
from tests.support.waiting import completed, eventually, exit_code

PATCH: Final = (
    "*** Begin Patch\n*** Add File: n.txt\n+hello\n+there\n*** Update File: a.txt\n@@\n-three\n+THREE\n*** End Patch"
)
FILES: Final = {"a.txt": "one\ntwo\nthree\n", "c.txt": "alpha\nbeta\n"}
RANGES: Final = """
SELECT g.tool, path, start_line, end_line, content_hash, g.contributor, g.model_id, r.vcs_revision
FROM agent_trace_ranges g JOIN agent_trace_records r USING (record_id, recorded_at)
ORDER BY path, g.recorded_at, start_line
"""
STEPS: Final = """
SELECT model_id, agent, reason, input_tokens, output_tokens, reasoning_tokens, cost::float8 AS cost
FROM agent_trace_steps ORDER BY finished_at
"""
SESSIONS: Final = """
SELECT session_id, parent_session_id IS NOT NULL AS is_subagent, steps, calls, failed_calls, records, files, ai_lines,
       unpriced_steps, input_tokens, output_tokens, cost::float8 AS cost
FROM agent_trace_sessions ORDER BY started_at
"""
OWN: Final = "SELECT id, tokens_input, tokens_output, cost FROM {} ORDER BY time_created"
SPENT: Final = ("session_id", "input_tokens", "output_tokens", "cost")
LINES: Final = """
SELECT path, session_id, count(*) FILTER (WHERE voided_at IS NULL) AS valid, count(*) AS all FROM agent_trace_ranges
GROUP BY 1, 2 ORDER BY 1, 2
"""
TURN_ENDS: Final = {1: "session.idle", 2: "session.execution.succeeded"}
CALLS: Final = "SELECT call_id FROM agent_trace_events WHERE event_name = 'tool.execute.after' ORDER BY occurred_at"


def scripts(model: FakeModel, of: Dialect) -> None:
    """Every kind of call; two edits in one step go side by side."""
    model.script(
        "everything",
        Step([of.write("b.txt", "x\ny\n")], text="I begin."),
        Step([of.edit("a.txt", "two", "TWO\nnew"), of.edit("c.txt", "alpha", "ALPHA")]),
        Step([of.run("printf 'p\\nq\\n' > made.txt; sed -i s/one/ONE/ a.txt")]),
        Step([of.edit("a.txt", "nowhere", "z")]),
        Step([of.write("stub.pyi", "def f():\n\treturn 1  \n")]),
        Step([of.start("subwork please")]),
    )
    model.script("subwork", Step([of.write("sub.txt", "from below\n")]))
    model.script("patchwork", Step([of.apply(PATCH)]))
    model.script("slowwork", Step([of.write("before.txt", "before\n")]), Step([of.run("sleep 60")]))
    for name in ("keep", "undo", "on"):
        model.script(f"{name}work", Step([of.write(f"{name}.txt", f"{name}\n")]))


@pytest.fixture(name="oc", params=MAJORS)
def _oc(request: pytest.FixtureRequest) -> Iterator[OpenCode]:
    """An OpenCode of either major."""
    with at_work(request.param) as oc:
        scripts(oc.model, DIALECTS[request.param])
        yield oc


@pytest.fixture(name="recorder")
def _recorder(oc: OpenCode, migrated_url: str) -> Recorder:
    """The same, when it records."""
    return Recorder(oc, migrated_url)


def everything(major: int, url: str) -> dict[str, list[dict[str, Any]]]:
    """Let an OpenCode do all of it, and give what is recorded, but for ids, times and names that differ."""
    with at_work(major) as oc:
        scripts(oc.model, DIALECTS[major])
        oc.config |= formatter_config(Path(formatter.__file__), sys.executable)
        recorder = Recorder(oc, url)
        project = recorder.project("shop", FILES)
        with server(oc, project) as served:
            session = served.session(project)
            served.prompt(project, session, "do everything")
            served.prompt(project, session, "do the patchwork", PATCHING)
            recorder.wait_for(TURN_ENDS[major], 3)  # with the subagent's; OpenCode 2 answers before its last step ends
            served.close()
            recorder.wait_for("bye")
        recorder.assert_complete()
        assert (project / "stub.pyi").read_text() == "def f():\n    return 1\n", "the formatter has run"
        head = oc.git(project, "rev-parse", "HEAD").strip()
        with closing(sqlite3.connect(f"file:{oc.folder}/home/data/opencode/opencode.db?mode=ro", uri=True)) as store:
            own = store.execute(OWN.format(DIALECTS[major].sessions)).fetchall()
    sessions = recorder.rows(SESSIONS)
    assert [tuple(row.pop(name) for name in SPENT) for row in sessions] == [
        pytest.approx(row) if row[3] else row for row in own
    ]
    ranges = recorder.rows(RANGES)
    assert {row.pop("vcs_revision") for row in ranges} == {head}
    calls = recorder.rows("SELECT tool, status FROM agent_trace_calls ORDER BY finished_at, tool")
    prompts = recorder.rows("SELECT prompt FROM agent_trace_prompts ORDER BY asked_at")
    return {
        "ranges": [{**row, "tool": TOOLS.get(row["tool"], row["tool"])} for row in ranges],
        "calls": [{**row, "tool": TOOLS.get(row["tool"], row["tool"])} for row in calls],
        "prompts": [{"prompt": row["prompt"].splitlines()[-1]} for row in prompts],
        "steps": recorder.rows(STEPS),
        "sessions": sessions,
    }


@pytest.mark.needs("OpenCode 2")
def test_the_same_work_is_recorded_the_same_of_both_majors(postgres_servers: PostgresServers) -> None:
    """Lines with their hashes, calls, prompts, tokens and cost; each session's totals are OpenCode's own."""
    with postgres_servers.database(migrated=True) as one:
        first = everything(1, one)
    with postgres_servers.database(migrated=True) as two:
        second = everything(2, two)
    for kind in first:
        assert first[kind] == second[kind], kind
    assert [(row["path"], row["start_line"], row["end_line"], row["tool"]) for row in first["ranges"]] == [
        ("a.txt", 2, 3, "edit"),
        ("a.txt", 1, 1, "shell"),
        ("a.txt", 4, 4, "patch"),
        ("b.txt", 1, 2, "write"),
        ("c.txt", 1, 1, "edit"),
        ("made.txt", 1, 2, "shell"),
        ("n.txt", 1, 2, "patch"),
        ("stub.pyi", 1, 2, "write"),
        ("sub.txt", 1, 1, "write"),
    ]
    assert sorted((row["tool"], row["status"]) for row in first["calls"]) == [
        *[("edit", "completed")] * 2,
        ("edit", "error"),
        ("patch", "completed"),
        ("shell", "completed"),
        ("subagent", "completed"),
        *[("write", "completed")] * 3,
    ]
    assert [row["prompt"] for row in first["prompts"]] == ["do everything", "subwork please", "do the patchwork"]
    assert {(row["input_tokens"], row["output_tokens"], row["cost"]) for row in first["steps"]} == {(10, 5, 0.02)}


def test_what_is_undone_is_void_until_that_is_cleared(oc: OpenCode, recorder: Recorder) -> None:
    """Undone and cleared; undone again, and gone for good with the next prompt."""
    project = recorder.project("shop", FILES)

    def valid() -> set[str]:
        return {row["path"] for row in recorder.rows(LINES) if row["valid"]}

    with server(oc, project) as served:
        session = served.session(project)
        for name in ("keep", "undo"):
            served.prompt(project, session, f"do the {name}work")
        eventually(lambda: valid() == {"keep.txt", "undo.txt"}, 20, "both are recorded")
        served.revert(project, session, prompt=1)
        eventually(lambda: valid() == {"keep.txt"}, 20, "what is undone is void")
        assert not (project / "undo.txt").exists()
        served.unrevert(project, session)
        eventually(lambda: valid() == {"keep.txt", "undo.txt"}, 20, "it counts again")
        assert (project / "undo.txt").exists()
        served.revert(project, session, prompt=1)
        served.prompt(project, session, "do the onwork")
        eventually(lambda: valid() == {"keep.txt", "on.txt"}, 20, "it is gone for good")
        recorder.wait_for(TURN_ENDS[major_of(oc)], 3)
        served.close()
        recorder.wait_for("bye")
    recorder.assert_complete()
    assert [row["all"] for row in recorder.rows(LINES)] == [1, 1, 1], "void lines stay"
    found = figures(recorder.url, project, oc.environment(project))
    assert len(set(found.values())) == 1, found
    (step,) = {Figure(row["cost"], row["input_tokens"] + row["output_tokens"]) for row in recorder.rows(STEPS)}
    titles = major_of(oc) - 1
    assert found["usage --by day"] == Figure(step.cost * (6 + titles), step.tokens * (6 + titles)), (
        "what is undone was paid"
    )


def test_two_directories_in_one_server_are_recorded_each_as_itself(oc: OpenCode, recorder: Recorder) -> None:
    """By one sidecar; every event names its own directory."""
    projects = [recorder.project(name, FILES) for name in ("left", "right")]
    with server(oc, projects[0]) as served:
        sessions = {served.session(project): project for project in projects}
        for session, project in sessions.items():
            served.prompt(project, session, "do the keepwork")
        served.close()
        recorder.wait_for("bye", 2)
    recorder.assert_complete()
    assert len(recorder.rows("SELECT source_id FROM agent_trace_sources WHERE kind = 'stdin'")) == 1
    places = recorder.rows(
        "SELECT DISTINCT session_id, payload ->> 'directory' AS place FROM agent_trace_events "
        "WHERE session_id IS NOT NULL"
    )
    assert sorted((row["session_id"], row["place"]) for row in places) == sorted(
        (session, str(project)) for session, project in sessions.items()
    )
    assert recorder.rows(LINES) == [
        {"path": "keep.txt", "session_id": session, "valid": 1, "all": 1} for session in sorted(sessions)
    ]


def test_a_killed_server_loses_nothing_that_a_hook_has_reported(oc: OpenCode, recorder: Recorder) -> None:
    """Killed in the middle of a command; the session goes on in the next server."""
    project = recorder.project("shop", FILES)
    with server(oc, project) as served:
        session = served.session(project)
        served.begin(project, session, "do the slowwork")
        recorder.wait_for("tool.execute.before", 2)
        served.kill()
    with server(oc, project) as served:
        served.prompt(project, session, "do the onwork")
        served.close()
        recorder.wait_for("bye")
    recorder.assert_complete()
    assert recorder.ranges() == {"before.txt": [(1, 1)], "on.txt": [(1, 1)]}
    assert {row["session_id"] for row in recorder.rows(LINES)} == {session}
    assert len(recorder.rows("SELECT source_id FROM agent_trace_sources WHERE kind = 'instance'")) == 2


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_a_shim_whose_file_changes_under_a_running_server_records_each_call_once(
    oc: OpenCode, recorder: Recorder, change: str
) -> None:
    """By `init` or `init --remove`: OpenCode 2 loads it again at once, OpenCode 1 when it is started."""
    project = recorder.project("shop", FILES)
    shim = project / ".opencode" / "plugins" / "agent-trace-sidecar.js"
    with server(oc, project) as served:
        session = served.session(project)
        served.prompt(project, session, "do the keepwork")
        recorder.wait_for("tool.execute.after")
        if change == "replaced":
            other = shim.with_suffix(".new")
            other.write_text(shim.read_text() + "// newer\n")
            other.replace(shim)
        else:
            shim.unlink()
        served.prompt(project, session, "do the onwork")
        served.close()
        recorder.wait_for("bye")
    recorder.assert_complete()
    is_gone = change == "removed" and major_of(oc) == 2
    wanted = ["call_keepwork_0_0"] if is_gone else ["call_keepwork_0_0", "call_onwork_0_0"]
    assert [row["call_id"] for row in recorder.rows(CALLS)] == wanted
    assert [row["all"] for row in recorder.rows(LINES)] == [1] * len(wanted)


def test_watch_shows_what_a_session_does_while_it_does_it(oc: OpenCode, recorder: Recorder) -> None:
    """The prompt, calls with their lines, steps with their cost, and that it is idle; until Ctrl-C."""
    project = recorder.project("shop", FILES)
    out = oc.folder / "watched"
    words = [sys.executable, "-u", "-P", "-m", "agent_trace_sidecar", "watch"]
    with (
        server(oc, project) as served,
        out.open("w") as stream,
        subprocess.Popen(words, cwd=project, env=oc.environment(project), stdout=stream) as watch,
    ):
        eventually(lambda: "Watching all sessions" in out.read_text(), 20, "it watches")
        session = served.session(project)
        served.prompt(project, session, "do the keepwork")
        eventually(lambda: re.search(r"  idle\n", out.read_text()), 20, "the session's end is shown")
        watch.send_signal(signal.SIGINT)
        assert exit_code(watch, 20) == 0
    text = out.read_text()
    shown = (
        "prompt  do the keepwork",
        "call    write",
        "1 lines of keep.txt, by fake/m1",
        "step    5 output tokens, $0.0200",
    )
    assert [line for line in shown if line not in text] == [], text
    assert all(session[-8:] in line for line in text.splitlines()[1:])


def test_a_user_whose_projects_are_all_recorded_runs_init_once(oc: OpenCode, migrated_url: str) -> None:
    """`init --global`: any project is recorded, and none any more after `init --global --remove`."""
    recorder = Recorder(oc, migrated_url)
    project = oc.project("shop", FILES)

    def init(*words: str) -> str:
        command = [sys.executable, "-P", "-m", "agent_trace_sidecar", "init", "--global", *words]
        done = completed(command, cwd=project, env=oc.environment(project))
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "All OpenCode sessions of this user are recorded" in init()
    assert oc.run(project, "do the keepwork").code == 0
    recorder.wait_for("bye")
    recorder.assert_complete()
    assert recorder.ranges() == {"keep.txt": [(1, 1)]}
    assert "removed" in init("--remove")
    assert oc.run(project, "do the onwork").code == 0
    assert (project / "on.txt").exists()
    assert recorder.ranges() == {"keep.txt": [(1, 1)]}
    assert len(recorder.rows("SELECT source_id FROM agent_trace_sources WHERE kind = 'instance'")) == 1


def test_the_five_commands_of_the_readme_say_who_wrote_a_line_and_what_it_cost(oc: OpenCode) -> None:
    """In an empty home, with the embedded database; pip has installed the program already."""
    block = re.search(r"\n## Install\n\n```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    commands = [line.partition("  #")[0].strip() for line in block[1].splitlines()]
    install, init, start, *questions = commands
    assert (install.split()[:2], start, len(commands)) == (["pip", "install"], "opencode", 5)
    oc.env["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    project = oc.project("your-project", {"src/prices.py": "def price(x):\n    return x\n"})
    of = DIALECTS[major_of(oc)]
    oc.model.script("pricework", Step([of.edit("src/prices.py", "return x", "return 2 * x")]))

    def answer(command: str, folder: Path) -> str:
        done = completed(["bash", "-c", command], cwd=folder, env=oc.environment(folder))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "are recorded from the next start of OpenCode" in answer(init, oc.folder)
    cost = "0.0400" if major_of(oc) == 1 else "0.0600"  # with the title
    with server(oc, project) as served:
        served.prompt(project, served.session(project), "do the pricework")
        is_stored = partial(re.search, "sessions 1 recorded of 1")
        eventually(lambda: is_stored(answer("agent-trace-sidecar status", project)), 30, "the session is being stored")
        is_whole = re.compile(rf"A session .* {cost}$", re.MULTILINE).search
        eventually(lambda: is_whole(answer(questions[-1], project)), 30, f"all of it is stored, which cost {cost}")
        blame = answer(questions[0], project)
    author, line = blame.splitlines()[1].split(" 2) ")
    assert (author.split()[:2], "A session" in author, line) == (["ai", "m1"], True, "    return 2 * x")
    assert not blame.splitlines()[0].startswith("ai")
