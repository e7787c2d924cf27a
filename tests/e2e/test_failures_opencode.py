"""A real OpenCode whose sidecar can't record: the user learns why, and that it works again."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.fake_model import Call, FakeModel, Step, fake_model
from tests.support.opencode import OpenCode, opencode
from tests.support.opencode2 import opencode2
from tests.support.recorder import Recorder
from tests.support.sidecar import folder_contents
from tests.support.waiting import patient

WHY = "AGENT_TRACE_CAPTURE is 'metdata': choose full or metadata. Did you mean metadata?"
LOGGED = "Nothing is recorded: AGENT_TRACE_CAPTURE"


def status(recorder: Recorder, project: Path) -> subprocess.CompletedProcess[str]:
    """Ask for it in the project, as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "agent_trace_sidecar", "status"],
        cwd=project,
        env={**os.environ, **recorder.oc.environment(project), **recorder.oc.env, "AGENT_TRACE_CAPTURE": "full"},
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(60),
    )


def until(tool: str, found: str) -> Step:
    """A call that waits: a run may be over before its sidecar has ended, or has acknowledged a line."""
    command = f"timeout {patient(30):.0f} sh -c 'until {found}; do sleep 0.05; done'"
    return Step([Call(tool, {"command": command, "description": "wait"})])


@pytest.mark.parametrize(
    ("make", "tool", "has_log"),
    [
        pytest.param(opencode, "bash", True, id="1"),
        pytest.param(opencode2, "shell", False, id="2", marks=pytest.mark.needs("OpenCode 2")),
    ],
)
def test_a_wrong_setting_is_reported_until_the_project_is_recorded_again(
    make: Callable[[FakeModel], AbstractContextManager[OpenCode]], tool: str, has_log: bool, migrated_url: str
) -> None:
    """OpenCode 1 shows it in its log; OpenCode 2 gives plugins no place to, so `status` alone does."""
    with fake_model() as model, make(model) as oc:
        logged = [until(tool, f'grep -rqs --include="*.log" "{LOGGED}" {oc.folder}')] if has_log else []
        model.script("greet", *logged, Step(text="Hello."))
        model.script("return", until(tool, f"grep -rqs recovered_at {oc.folder}/state/failures"), Step(text="Hello."))
        recorder = Recorder(oc, migrated_url)
        project = recorder.project("shop", {"a.txt": "one\n"})
        oc.env["AGENT_TRACE_CAPTURE"] = "metdata"
        assert oc.run(project, "greet").code == 0
        failed = status(recorder, project)
        assert failed.returncode == 1, failed.stdout + failed.stderr
        assert WHY in failed.stdout
        assert "NOT recorded" in failed.stdout
        logs = [data for path, data in folder_contents(oc.folder).items() if path.suffix == ".log"]
        assert any(LOGGED.encode() in log for log in logs) == has_log

        oc.env["AGENT_TRACE_CAPTURE"] = "metadata"
        assert oc.run(project, "return").code == 0
        recorder.wait_for("bye")
        works = status(recorder, project)
        assert works.returncode == 0, works.stdout + works.stderr
        assert "sessions 1 recorded of 2 that OpenCode has here" in works.stdout
        assert "recorded again since" in works.stdout
