"""The page of a session of a real OpenCode 2."""

import subprocess
import sys

import pytest

from tests.support.chromium import Browser
from tests.support.fake_model import Call, Step, fake_model
from tests.support.opencode2 import opencode2
from tests.support.pages import is_quiet
from tests.support.recorder import Recorder
from tests.support.waiting import eventually

pytestmark = pytest.mark.needs("OpenCode 2")


def test_a_session_shows_changes_and_outputs_instead_of_json(browser: Browser, migrated_url: str) -> None:
    """A new file, an edit, and what a command printed; each with what it is about."""
    with fake_model() as model, opencode2(model) as oc:
        model.script(
            "editwork",
            Step([Call("write", {"path": "new.txt", "content": "x\ny\n"})]),
            Step([Call("edit", {"path": "a.txt", "oldString": "one", "newString": "eins"})]),
            Step([Call("shell", {"command": "echo printed"})]),
        )
        recorder = Recorder(oc, migrated_url)
        project = recorder.project("shop", {"a.txt": "one\ntwo\n"})
        done = oc.run(project, "do the editwork")
        assert done.code == 0, done.stderr
        recorder.wait_for("bye")
        page_file = oc.folder / "page.html"
        words = [
            sys.executable,
            "-m",
            "agent_trace_sidecar",
            "report",
            "--session",
            "latest",
            "--output",
            str(page_file),
        ]
        subprocess.run(words, env=oc.environment(), check=True, capture_output=True)
        with browser.open(page_file) as page:
            page.click("#open-all")
            inside = "[...e.querySelectorAll('{}')].map(e => e.textContent)"
            calls = f"[...document.querySelectorAll('.item.call')].map(e => {inside})"
            heads = page.evaluate(calls.format(".head strong, .head .about"))
            assert heads[0] == ["write", "new.txt"]
            assert heads[1] == ["edit", "a.txt"]
            assert heads[2] == ["shell", "echo printed"]
            labels = [["Change", "Arguments", "Output"]] * 2 + [["Arguments", "Output"]]
            eventually(lambda: page.evaluate(calls.format("h3")) == labels)
            assert page.evaluate(calls.format(".diff .added")) == [
                ["+x\n", "+y\n"],
                ["+eins\n"],
                [],
            ]
            assert "printed" in page.evaluate(calls.format("pre:last-of-type"))[2][-1]
            assert is_quiet(page)
