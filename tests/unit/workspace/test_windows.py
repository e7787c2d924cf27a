"""Who wrote at which time: before a permission, before a command began, and where no snapshot sees it."""

import time
from pathlib import Path

import pytest

from agent_trace_sidecar.opencode.wire import Observed
from agent_trace_sidecar.workspace.typed import SLACK_MS
from tests.support.envelopes import SESSION
from tests.support.snapshots import Work, git
from tests.support.waiting import eventually

FILES = {"a.txt": "one\ntwo\nthree\n", "ignored.txt": "tracked\n", "sub/ignored.txt": "tracked\n", ".gitignore": "x\n"}
COMMAND = {"command": "sh run.sh"}


@pytest.fixture(name="work")
def _work(tmp_path: Path) -> Work:
    """A project with two tracked files that git ignores."""
    work = Work(tmp_path, FILES)
    work.files({".gitignore": "ignored.txt\n"})
    return work


def permitted(work: Work, at: float) -> None:
    """A person permits the call."""
    asked = {"id": "per_1", "sessionID": SESSION, "tool": {"messageID": "msg_1", "callID": "c1"}}
    work.observe(work.shim.event("permission.asked", asked, at=work.ms(-5)))
    replied = {"sessionID": SESSION, "requestID": "per_1", "reply": "once"}
    work.observe(work.shim.event("permission.replied", replied, at=work.ms(at)))


def finished(work: Work, at: float) -> Observed:
    """The step ends."""
    part = {"type": "step-finish", "snapshot": work.tree(), "sessionID": SESSION, "messageID": "msg_1"}
    return work.observe(work.shim.event("message.part.updated", {"part": part}, at=work.ms(at)))


def typed_and_permitted(work: Work, path: str, typed: str, appended: str) -> Observed:
    """A person types into a file, then permits a command, which appends to it; what the end of the step shows."""
    work.files({path: typed})
    typed_s = (work.root / path).stat().st_ctime - work.began
    permitted(work, typed_s + 0.02)
    eventually(lambda: time.time() - work.began > typed_s + 0.05, 5, "the call is at work")
    work.files({path: typed + appended})
    work.after("c1", "bash", COMMAND, {}, typed_s + 60)
    return finished(work, typed_s + 61)


@pytest.mark.parametrize(
    ("after_s", "claimed", "doubted"), [(0.006, [], ["a.txt"]), (0.5, [], []), (-0.006, [], ["a.txt"])]
)
def test_what_was_written_right_before_a_permission_is_nobodys(
    work: Work, after_s: float, claimed: list[str], doubted: list[str]
) -> None:
    """The file's time may be a few milliseconds late or early: in between it tells nothing.

    Nor does one right after the permission: what the file held then was read too late.
    """
    work.start()
    work.before("c1", "bash", COMMAND, -6)
    work.files({"a.txt": "one\ntwo\nthree\nfour\n"})
    written_s = (work.root / "a.txt").stat().st_ctime - work.began
    permitted(work, written_s + after_s)
    work.after("c1", "bash", COMMAND, {}, written_s + 60)
    seen = finished(work, written_s + 61)
    assert [file.path for call in seen.calls for file in call.files] == claimed
    # The ignored files of the repository were made a moment ago: they may be doubted, too.
    assert [one.path for one in seen.uncovered if one.path == "a.txt"] == doubted


@pytest.mark.parametrize("ends", ["never", "fails", "completes"])
def test_a_command_that_waits_for_a_permission_does_nothing(work: Work, ends: str) -> None:
    """Its turn is aborted after a person has typed into its file; if it does its work, the reply has been lost."""
    work.start()
    work.before("c1", "bash", COMMAND, 0)
    asked = {"id": "per_1", "sessionID": SESSION, "tool": {"messageID": "msg_1", "callID": "c1"}}
    work.observe(work.shim.event("permission.asked", asked, at=work.ms(1)))
    work.files({"a.txt": "one\ntwo\nthree\ntyped\n"})
    ended_s = (work.root / "a.txt").stat().st_ctime - work.began + 1
    if ends == "completes":
        work.after("c1", "bash", COMMAND, {}, ended_s)
    if ends == "fails":
        state = {"status": "error", "input": COMMAND, "error": "Tool execution aborted"}
        part = {"type": "tool", "tool": "bash", "callID": "c1", "state": state}
        part |= {"id": "prt_1", "sessionID": SESSION, "messageID": "msg_1"}
        work.observe(work.shim.event("message.part.updated", {"part": part}, at=work.ms(ended_s)))
    seen = finished(work, ended_s + 1)
    assert [file.path for call in seen.calls for file in call.files] == (["a.txt"] if ends == "completes" else [])
    assert [one.path for one in seen.uncovered if one.path == "a.txt"] == []


def test_a_new_file_that_git_brings_and_tracks_is_not_doubted(work: Work) -> None:
    """The snapshot after the step shows it, though the one before it does not."""
    git(work.root, "add", "-A")
    git(work.root, "commit", "-qm", "First")
    git(work.root, "checkout", "-qb", "feature")
    work.files({"new.txt": "brought\n"})
    git(work.root, "add", "-A")
    git(work.root, "commit", "-qm", "Feature")
    git(work.root, "checkout", "-q", "-")
    work.start()
    merge = {"command": "git merge feature"}
    work.before("c1", "bash", merge, time.time() - work.began)
    git(work.root, "merge", "-q", "--no-edit", "feature")
    work.after("c1", "bash", merge, {}, 10)
    seen = finished(work, 11)
    assert [one for one in seen.uncovered if one.path == "new.txt"] == []


def test_what_a_person_typed_before_a_command_that_names_the_file_is_not_the_commands(work: Work) -> None:
    """The file is read when the call begins to work: what is new since the step began is not all its work."""
    work.start()
    work.files({"a.txt": "one\ntwo\nthree\ntyped\n"})
    began_s = (work.root / "a.txt").stat().st_ctime - work.began + (SLACK_MS + 1) / 1000
    command = {"command": "echo ai >> a.txt"}
    work.before("c1", "bash", command, began_s)
    work.files({"a.txt": "one\ntwo\nthree\ntyped\nai\n"})
    work.after("c1", "bash", command, {}, began_s + 60)
    (call,) = finished(work, began_s + 61).calls
    assert [(one.path, one.ranges[0].start, one.ranges[0].end) for one in call.files] == [("a.txt", 5, 5)]


def test_a_tracked_file_that_git_ignores_is_doubted_when_it_is_written_during_a_command(work: Work) -> None:
    """By a script that does not name it; one that is not written, or not tracked, is not."""
    (work.root / "other").mkdir()
    work.start()
    work.before("c1", "bash", COMMAND, time.time() - work.began)
    work.files({"sub/ignored.txt": "tracked\nmore\n", "other/ignored.txt": "not tracked\n"})
    work.after("c1", "bash", COMMAND, {}, 10)
    assert [(one.call_id, one.path) for one in finished(work, 11).uncovered] == [("c1", "sub/ignored.txt")]


def test_a_tracked_file_that_git_ignores_is_a_persons_when_no_command_runs(work: Work) -> None:
    """Its time says when it was written."""
    work.start()
    work.files({"ignored.txt": "tracked\nmine\n"})
    began_s = (work.root / "ignored.txt").stat().st_ctime - work.began + 0.5
    work.before("c1", "bash", COMMAND, began_s)
    work.after("c1", "bash", COMMAND, {}, began_s + 1)
    assert finished(work, began_s + 2).uncovered == ()


def test_a_new_index_is_read_again(work: Work) -> None:
    """A file that is tracked only since the last step."""
    work.files({"later.txt": "x\n", ".gitignore": "ignored.txt\nlater.txt\n"})
    for number in (1, 2):
        work.start()
        work.before("c1", "bash", COMMAND, time.time() - work.began)
        work.files({"later.txt": f"{number}\n"})
        work.after("c1", "bash", COMMAND, {}, 10)
        seen = finished(work, 11)
        assert [one.path for one in seen.uncovered] == (["later.txt"] if number == 2 else [])
        git(work.root, "add", "-f", "later.txt")


def test_what_the_text_of_a_command_holds_is_its_work_though_the_file_was_read_too_late(work: Work) -> None:
    """Nothing else is: a person may have typed it while the permission was awaited."""
    work.start()
    command = {"command": "cat >> a.txt <<'END'\nmade_by = the(command)\nEND"}
    work.before("c1", "bash", command, 0)
    work.files({"a.txt": "one\ntwo\nthree\ntyped_by = a(person)\nmade_by = the(command)\n"})
    written_s = (work.root / "a.txt").stat().st_ctime - work.began
    permitted(work, written_s - 0.006)
    work.after("c1", "bash", command, {}, written_s + 60)
    seen = finished(work, written_s + 61)
    ((file,),) = (call.files for call in seen.calls)
    assert [(one.start, one.end) for one in file.ranges] == [(5, 5)]
    assert file.before_hashes is None
    assert [(one.path, one.is_over) for one in seen.uncovered if one.path == "a.txt"] == [("a.txt", True)]


def test_what_a_person_typed_into_a_new_file_while_a_command_waits_is_not_the_commands(work: Work) -> None:
    """A script appends to it that does not name it."""
    work.start()
    work.before("c1", "bash", COMMAND, -1)
    ((file,),) = (call.files for call in typed_and_permitted(work, "new.txt", "typed\n", "ai\n").calls)
    assert [(one.start, one.end) for one in file.ranges] == [(2, 2)]


def test_what_a_person_typed_between_two_commands_is_no_work_of_the_second(work: Work) -> None:
    """The first may have written any file before; what it wrote there is in doubt."""
    work.start()
    work.before("c0", "bash", {"command": "sh first.sh"}, -60)
    work.after("c0", "bash", {"command": "sh first.sh"}, {}, -50)
    work.before("c1", "bash", COMMAND, -40)
    seen = typed_and_permitted(work, "a.txt", "one\ntwo\nthree\ntyped\n", "ai\n")
    found = [(call.call_id, one.path, one.ranges[0].start) for call in seen.calls for one in call.files]
    assert found == [("c1", "a.txt", 5)]
    assert [(one.call_id, one.path) for one in seen.uncovered if one.path == "a.txt"] == [("c0", "a.txt")]
