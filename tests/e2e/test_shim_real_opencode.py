"""The shim inside a real OpenCode: what reaches the sidecar, and that nobody notices it."""

import json
import os
import re
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_model import Call, FakeModel, Step, fake_model
from tests.support.opencode import SHIM, VERSION, OpenCode, opencode
from tests.support.waiting import eventually, output

RECORDER = Path(__file__).parents[1] / "support" / "recording_sidecar.py"

EDITS = (
    Step([Call("write", {"filePath": "new.txt", "content": "ä\nb\n"})], text="I will write."),
    Step([Call("edit", {"filePath": "a.txt", "oldString": "one", "newString": "eins"})]),
    Step([Call("edit", {"filePath": "a.txt", "oldString": "not there", "newString": "x"})]),
    Step([Call("bash", {"command": "echo made > made.txt", "description": "make"})]),
    Step([Call("task", {"description": "sub", "prompt": "subwork please", "subagent_type": "general"})]),
)
OURS = re.compile("agent.?trace|sidecar|recording|shim|sendto|EAGAIN|EPIPE", re.IGNORECASE)


@pytest.fixture
def model() -> Iterator[FakeModel]:
    """A scripted model."""
    with fake_model() as served:
        served.script("editwork", *EDITS)
        served.script("subwork", Step([Call("write", {"filePath": "sub.txt", "content": "sub\n"})]))
        served.script("slowwork", Step([Call("bash", {"command": "sleep 60", "description": "sleep"})]))
        served.script("napwork", Step([Call("bash", {"command": "sleep 1", "description": "nap"})]))
        served.script("greetwork", Step(text="Hello Bob."))
        yield served


class Recorded:
    """An OpenCode whose sidecar writes down what it gets."""

    def __init__(self, oc: OpenCode) -> None:
        """Give it the recording sidecar."""
        self.oc = oc
        self.log = oc.folder / "recorded.jsonl"
        oc.env["AGENT_TRACE_SIDECAR"] = f"'{sys.executable}' -I '{RECORDER}' '{self.log}'"

    def project(self, name: str, *, plugin: bool = True) -> Path:
        """Make a project of one file, with the shim in it."""
        project = self.oc.project(name, {"a.txt": "one\ntwo\n"})
        if plugin:
            self.oc.add_plugin(project, SHIM)
        return project

    def whole(self) -> list[dict[str, Any]]:
        """Return what has arrived when the last of it has; at its end OpenCode waits for 2 s only."""
        eventually(lambda: names(self.lines())[-1:] == ["bye"], 20, "the end arrives")
        return self.lines()

    def lines(self) -> list[dict[str, Any]]:
        """Return what has arrived so far, checked to have no gap."""
        text = self.log.read_bytes() if self.log.exists() else b""
        complete = text[: text.rfind(b"\n") + 1]
        lines = list({line["id"]: line for line in map(json.loads, complete.splitlines())}.values())  # sent again: once
        instances = {line["instance"] for line in lines}
        for instance in instances:
            numbers = [line["seq"] for line in lines if line["instance"] == instance]
            assert numbers == list(range(1, len(numbers) + 1))
        assert all("lost" not in line for line in lines)
        return lines


@pytest.fixture
def recorded(model: FakeModel) -> Iterator[Recorded]:
    """Give an OpenCode with a recording sidecar."""
    with opencode(model) as oc:
        yield Recorded(oc)


def names(lines: list[dict[str, Any]]) -> list[str]:
    """Return the hook of each line, of an event its type, of a part its kind too."""
    out = []
    for line in lines:
        event = line["input"]["event"] if line["hook"] == "event" else {}
        part = event.get("properties", {}).get("part", {})
        status = part.get("state", {}).get("status", "")
        out.append(" ".join(filter(None, [event.get("type", line["hook"]), part.get("type", ""), status])))
    return out


def tools(lines: list[dict[str, Any]], hook: str) -> list[str]:
    """Return the tools of a hook's lines."""
    return [line["input"]["tool"] for line in lines if line["hook"] == hook]


def test_a_session_reaches_the_sidecar_whole_and_in_order(recorded: Recorded) -> None:
    """Tools that work and one that fails, a subagent and a slash command; and nothing of ours is printed."""
    project = recorded.project("shop")
    recorded.oc.add_command(project, "greet", "greetwork $ARGUMENTS")

    done = recorded.oc.run(project, "do the editwork")
    assert done.code == 0, done.stderr
    assert not OURS.search(done.stdout + done.stderr)
    assert (project / "sub.txt").read_text() == "sub\n"
    lines = recorded.whole()
    seen = names(lines)
    assert (seen[0], seen[-1]) == ("hello", "bye")
    assert lines[0]["input"]["opencode"] == VERSION
    assert lines[0]["input"]["project"]["worktree"] == str(project)
    assert {(line["directory"], line["worktree"]) for line in lines} == {(str(project), str(project))}
    assert tools(lines, "tool.execute.before") == ["write", "edit", "edit", "bash", "task", "write"]
    assert tools(lines, "tool.execute.after") == ["write", "edit", "bash", "write", "task"]
    assert seen.count("message.part.updated tool error") == 1
    assert seen.count("session.created") == 2
    assert {"chat.message", "message.updated", "session.updated", "session.idle", "file.edited"} <= set(seen)
    assert {f"message.part.updated {kind}" for kind in ("text", "step-start", "step-finish", "patch")} <= set(seen)
    assert not [
        name for name in seen if "delta" in name or "running" in name or name in ("session.diff", "session.status")
    ]
    whole = [json.dumps(line, ensure_ascii=False) for line in lines]
    assert any("ä\\nb\\n" in text for text in whole)

    recorded.log.unlink()
    assert recorded.oc.run(project, "Bob", "--command", "greet").code == 0
    assert {"command.execute.before", "command.executed"} <= set(names(recorded.whole()))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_came_before_a_signal_in_the_middle_of_a_tool_is_there(recorded: Recorded, how: signal.Signals) -> None:
    """OpenCode calls nothing then; the whole process group gets the signal, as from the keyboard."""
    project = recorded.project("shop")
    with recorded.oc.start(project, "slowwork") as process:
        eventually(lambda: "tool.execute.before" in names(recorded.lines()), 30, "the tool runs")
        os.killpg(process.pid, how)
        output(process, 20)
    lines = recorded.lines()
    assert tools(lines, "tool.execute.before") == ["bash"]
    assert names(lines)[0] == "hello"


def test_a_sidecar_that_is_killed_in_the_middle_of_a_session_is_started_again(recorded: Recorded) -> None:
    """Nothing is missing, and OpenCode works on without a word of it."""
    project = recorded.project("shop")
    pid_file, go_on = recorded.log.with_name(recorded.log.name + ".pid"), recorded.oc.folder / "go-on"
    waits = f"until [ -e {go_on} ]; do sleep 0.05; done"
    recorded.oc.model.script("waitwork", Step([Call("bash", {"command": waits, "description": "wait"})]))
    with recorded.oc.start(project, "waitwork") as process:
        eventually(lambda: "tool.execute.before" in names(recorded.lines()), 30, "the tool runs")
        first = pid_file.read_text()
        os.kill(int(first), signal.SIGKILL)
        eventually(lambda: pid_file.read_text() not in ("", first), 30, "another one is started")
        go_on.touch()
        stdout, stderr = output(process, 60)
    assert (process.returncode, OURS.search(stdout + stderr)) == (0, None)
    seen = names(recorded.whole())
    assert (seen[0], seen.count("tool.execute.after"), seen[-1]) == ("hello", 1, "bye")


def test_with_a_log_folder_there_is_a_finished_private_file_and_no_sidecar(recorded: Recorded) -> None:
    """The way of a container, where another container follows the folder."""
    project = recorded.project("shop")
    logs = recorded.oc.folder / "logs"
    recorded.oc.env["AGENT_TRACE_LOG_DIR"] = str(logs)
    assert recorded.oc.run(project, "napwork").code == 0
    (file,) = logs.iterdir()
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert file.name == f"{lines[0]['instance']}.1.done.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert (names(lines)[0], names(lines)[-1], recorded.log.exists()) == ("hello", "bye", False)
