"""The main job: `init` in a project, OpenCode works there, and the whole session is in Postgres."""

import hashlib
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_model import Call, FakeModel, Step, fake_model
from tests.support.opencode import VERSION, opencode
from tests.support.recorder import Recorder
from tests.support.waiting import eventually, exit_code

FILES = {
    "a.txt": "one\ntwo\nthree\n",
    "crlf.txt": b"alpha\r\nbeta\r\ngamma\r\n",
    "old.txt": "to delete\n",
    "mv.txt": "move me\nsecond\n",
    "over.txt": "1\n2\n3\n4\n",
}
PREDECESSOR_HOOKS = {
    "tool.execute.before",
    "tool.execute.after",
    "session.created",
    "session.updated",
    "session.error",
    "message.created",
    "message.updated",
    "message.part.updated",
    "command.executed",
}
TOOLS = """
SELECT tool, payload #>> '{input,event,properties,part,state,status}' AS status, count(*)::int AS n
FROM agent_trace_events
WHERE event_name = 'message.part.updated'
  AND payload #>> '{input,event,properties,part,state,status}' IN ('completed', 'error')
GROUP BY 1, 2 ORDER BY 1, 2
"""
PARENTS = """
SELECT payload #>> '{input,event,properties,info,id}' AS id,
       payload #>> '{input,event,properties,info,parentID}' AS parent
FROM agent_trace_events WHERE event_name = 'session.created'
"""
AFTER = """
SELECT count(*) AS n, count(DISTINCT call_id) AS calls FROM agent_trace_events WHERE event_name = 'tool.execute.after'
"""
HASHES = "SELECT content_hash FROM agent_trace_ranges WHERE path = $1"
PATCH = """*** Begin Patch
*** Update File: a.txt
@@
 one
-two
+zwei
+zweieinhalb
 three
*** Add File: lib/neu.txt
+größe
+日本語
*** Delete File: old.txt
*** Update File: mv.txt
*** Move to: lib/moved.txt
@@
 move me
-second
+zweite
*** End Patch"""


@pytest.fixture
def model() -> Iterator[FakeModel]:
    """A scripted model."""
    with fake_model() as served:
        yield served


@pytest.fixture
def recorder(model: FakeModel, migrated_url: str) -> Iterator[Recorder]:
    """An OpenCode that records."""
    with opencode(model) as oc:
        yield Recorder(oc, migrated_url)


def content_hash(text: str) -> str:
    """The hash of a range whose content is `text`; the last newline does not count."""
    return "blake2s:" + hashlib.blake2s(text.removesuffix("\n").encode()).hexdigest()


def added(recorder: Recorder, project: Path) -> dict[str, list[tuple[int, int]]]:
    """What git says was added since the first commit, new files included."""
    recorder.oc.git(project, "add", "-A", "--", ".", ":!.opencode")
    text = recorder.oc.git(project, "diff", "--cached", "-U0", "--no-renames", "HEAD")
    found: dict[str, list[tuple[int, int]]] = {}
    path = ""
    for line in text.splitlines():
        if line.startswith("+++ "):
            path = line.removeprefix("+++ b/")
        elif match := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            start, count = int(match[1]), int(match[2] or 1)
            if count:
                found.setdefault(path, []).append((start, start + count - 1))
    return found


def test_twenty_calls_on_ten_files_then_ctrl_c(recorder: Recorder, model: FakeModel) -> None:
    """Every hook is stored once, no number is missing, and the ranges are what git says was added."""
    files = {f"f{n}.txt": "".join(f"line {i} of {n}\n" for i in range(1, 13)) for n in range(5)}
    project = recorder.project("shop", files)
    steps = [Step([Call("write", {"filePath": f"n{n}.py", "content": f"# {n}\nx = {n}\ny = x\n"})]) for n in range(5)]
    steps += [
        Step([Call("edit", {"filePath": f"f{n}.txt", "oldString": f"line 3 of {n}\n", "newString": "new\nlines\n"})])
        for n in range(5)
    ]
    steps += [
        Step([Call("edit", {"filePath": f"n{n}.py", "oldString": "y = x\n", "newString": "y = x + 1\nz = y\n"})])
        for n in range(5)
    ]
    steps += [
        Step(
            [
                Call(
                    "edit",
                    {"filePath": f"f{n}.txt", "oldString": f"line 9 of {n}\n", "newString": f"line 9 of {n}\nafter\n"},
                )
            ]
        )
        for n in range(5)
    ]
    model.script("bigwork", *steps, Step([Call("bash", {"command": "sleep 60", "description": "sleep"})]))

    with recorder.oc.start(project, "bigwork") as process:
        recorder.wait_for("tool.execute.before", 21)
        process.send_signal(signal.SIGINT)
        exit_code(process, 20)
    recorder.wait_for("tool.execute.after", 20)

    recorder.assert_complete()
    after = recorder.rows(AFTER)
    assert after == [{"n": 20, "calls": 20}]
    records = recorder.rows(
        "SELECT model_id, vcs_type, vcs_revision, tool_version, contributor FROM agent_trace_records"
    )
    assert len(records) == 20
    head = recorder.oc.git(project, "rev-parse", "HEAD").strip()
    assert {tuple(row.values()) for row in records} == {("fake/m1", "git", head, VERSION, "ai")}
    truth = added(recorder, project)
    found = recorder.ranges()
    assert set(found) == set(truth)
    for path, spans in truth.items():
        if path.startswith("f"):
            assert sorted(found[path]) == spans
    for n in range(5):
        assert found[f"n{n}.py"] == [(1, 3), (3, 4)]


def test_every_kind_of_change_is_recorded_as_it_happened(recorder: Recorder, model: FakeModel) -> None:
    """Edit, overwrite, apply_patch with move and delete, bash, a failing call, a subagent, a command, CRLF, umlauts."""
    project = recorder.project("kinds", FILES)
    recorder.oc.add_command(project, "greet", "greetwork for $ARGUMENTS")
    model.script(
        "kindwork",
        Step(
            [
                Call("read", {"filePath": "a.txt"}),
                Call("read", {"filePath": "over.txt"}),
                Call("read", {"filePath": "crlf.txt"}),
            ]
        ),
        Step([Call("edit", {"filePath": "a.txt", "oldString": "two\n", "newString": "zwei\nüber 2\n"})]),
        Step([Call("write", {"filePath": "over.txt", "content": "1\n2\ndrei\n4\n"})]),
        Step([Call("edit", {"filePath": "crlf.txt", "oldString": "beta", "newString": "BETA\nbeta 2"})]),
        Step([Call("edit", {"filePath": "a.txt", "oldString": "not there", "newString": "x"})]),
        Step([Call("bash", {"command": "echo made > made.txt", "description": "make"})]),
        Step([Call("task", {"description": "sub", "prompt": "subwork please", "subagent_type": "general"})]),
    )
    model.script("subwork", Step([Call("write", {"filePath": "sub.txt", "content": "from below\n"})]))
    model.script("greetwork", Step(text="Hello Bob."))

    assert recorder.oc.run(project, "kindwork").code == 0
    assert recorder.oc.run(project, "", "--command", "greet", "Bob").code == 0
    recorder.wait_for("bye", 2)

    recorder.assert_complete()
    assert recorder.rows(TOOLS) == [
        {"tool": tool, "status": status, "n": n}
        for tool, status, n in [
            ("bash", "completed", 1),
            ("edit", "completed", 2),
            ("edit", "error", 1),
            ("read", "completed", 3),
            ("task", "completed", 1),
            ("write", "completed", 2),
        ]
    ]
    found = recorder.ranges()
    assert {path: found[path] for path in ("a.txt", "crlf.txt", "sub.txt")} == {
        "a.txt": [(2, 3)],
        "crlf.txt": [(2, 3)],
        "sub.txt": [(1, 1)],
    }
    assert recorder.rows(HASHES, "crlf.txt") == [{"content_hash": content_hash("BETA\r\nbeta 2\r\n")}]
    assert recorder.rows(HASHES, "a.txt") == [{"content_hash": content_hash("zwei\nüber 2\n")}]
    parents = recorder.rows(PARENTS)
    child = recorder.rows("SELECT DISTINCT session_id FROM agent_trace_ranges WHERE path = 'sub.txt'")[0]["session_id"]
    assert any(row["id"] == child and row["parent"] for row in parents)
    names = {row["event_name"] for row in recorder.rows("SELECT DISTINCT event_name FROM agent_trace_events")}
    assert names >= PREDECESSOR_HOOKS - {"session.error"} | {"hello", "bye", "chat.message", "command.execute.before"}


def test_a_patch_of_several_files_is_one_record_with_its_moves_and_deletions(
    recorder: Recorder, model: FakeModel
) -> None:
    """With the model that OpenCode gives apply_patch."""
    project = recorder.project("patched", FILES)
    model.script("patchwork", Step([Call("apply_patch", {"patchText": PATCH})]))

    assert recorder.oc.run(project, "patchwork", "--model", "openai/gpt-5-x").code == 0
    recorder.wait_for("bye")

    recorder.assert_complete()
    assert recorder.ranges() == {"a.txt": [(2, 3)], "lib/moved.txt": [(2, 2)], "lib/neu.txt": [(1, 2)]}
    (row,) = recorder.rows("SELECT model_id, record::text AS record FROM agent_trace_records")
    assert row["model_id"] == "openai/gpt-5-x"
    kinds = {file["path"]: file["kind"] for file in json.loads(row["record"])["metadata"]["io.opencode.files"]}
    assert kinds == {"a.txt": "update", "lib/neu.txt": "add", "old.txt": "delete", "lib/moved.txt": "move"}


def test_the_terminal_shows_nothing_of_ours_and_exits(recorder: Recorder, model: FakeModel) -> None:
    """In the TUI the plugin runs in a worker, and the screen is our stdout."""
    project = recorder.project("screen", {"a.txt": "one\n"})
    model.script("editwork", Step([Call("edit", {"filePath": "a.txt", "oldString": "one", "newString": "eins"})]))
    with recorder.oc.tui(project) as tui:
        eventually(lambda: "Ask anything" in tui.text, 30, "the prompt is on the screen")
        tui.type("do the editwork")
        eventually(lambda: "editwork" in tui.text, 10, "the typed text is on the screen")
        tui.type("\r")
        recorder.wait_for("session.idle")
        tui.type("/exit")
        eventually(lambda: "/exit" in tui.text, 10, "the command is on the screen")
        tui.type("\r")
        eventually(lambda: tui.process.poll() is not None, 10, "the interface has ended")
        screen = tui.text
    recorder.wait_for("bye")
    assert not re.search("agent.?trace|sidecar|traceback|EAGAIN|EPIPE", screen, re.IGNORECASE)
    assert recorder.ranges() == {"a.txt": [(1, 1)]}
