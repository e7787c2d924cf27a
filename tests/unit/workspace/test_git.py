"""Running git to read: whatever it does, the caller goes on in time."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_trace_sidecar.workspace import git
from tests.support.snapshots import Work
from tests.support.waiting import Deadline, patient

Fake = Callable[[str], None]


@pytest.fixture(name="fake")
def _fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Puts a program called git on PATH that does what it is told."""

    def make(script: str) -> None:
        program = tmp_path / "bin" / "git"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return make


@pytest.mark.parametrize(
    "script",
    ["exec sleep 60", "exec yes", "echo no; exit 1", "exec 1>&-; exec sleep 60", "kill -9 $$"],
    ids=["too slow", "too much", "failed", "silent but there", "killed"],
)
def test_a_git_that_misbehaves_says_nothing_and_is_gone_in_time(tmp_path: Path, fake: Fake, script: str) -> None:
    """Neither its time nor its output is without bound."""
    fake(f"echo $$ > '{tmp_path}/pid'\n{script}")
    deadline = Deadline(5)
    assert git.run(tmp_path, "x", given=b"y" * 500_000, timeout_s=0.5, max_bytes=1_000_000) is None
    assert not deadline.passed()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_git_is_asked_with_nobodys_settings_and_through_both_pipes_at_once(tmp_path: Path, fake: Fake) -> None:
    """More is written and read than a pipe holds."""
    fake('echo "$GIT_CONFIG_GLOBAL $GIT_CONFIG_NOSYSTEM $HOME$XDG_CONFIG_HOME"; exec cat')
    given = b"z" * 3_000_000
    output = git.run(tmp_path, "x", given=given, timeout_s=patient(20), max_bytes=4_000_000)
    assert output == b"/dev/null 1 \n" + given


def test_without_git_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative folder of PATH does not count: it could be the user's project."""
    monkeypatch.setenv("PATH", "bin")
    assert git.run(tmp_path, "version", timeout_s=1, max_bytes=99) is None


def test_git_is_asked_about_a_step_only_where_its_calls_leave_something_open(tmp_path: Path, fake: Fake) -> None:
    """Edits that were seen whole say it all; a command says nothing of files."""
    real, asked = shutil.which("git"), tmp_path / "asked"
    fake(f"case $* in *diff-tree*) echo >> '{asked}';; esac\nexec {real} " + '"$@"')
    work = Work(tmp_path, {"a.txt": "one\n"})
    work.start()
    work.write("c1", "a.txt", "two\n")
    work.write("c2", "n.txt", "n\n")
    assert work.finish() == {}
    assert not asked.exists()
    work.start()
    work.bash("c3", "date > b.txt", {"b.txt": "b\n"})
    assert list(work.finish()) == ["c3"]
    assert asked.exists()
