"""Whose a step's changes are: snapshots of real git repositories, given to calls."""

import os
import time
from pathlib import Path

import pytest

from agent_trace_sidecar.opencode.wire import CallChange, FileChange, Observed, Uncovered
from agent_trace_sidecar.records.content import Content
from agent_trace_sidecar.records.fingerprints import NO_HASH, line_hashes
from agent_trace_sidecar.workspace import snapshot
from agent_trace_sidecar.workspace.places import Place
from agent_trace_sidecar.workspace.revision import Revisions
from agent_trace_sidecar.workspace.rewrites import Rewrites
from agent_trace_sidecar.workspace.step_end import Finisher
from agent_trace_sidecar.workspace.steps import Call, Edited, Named, Step, Steps
from tests.support.envelopes import SESSION
from tests.support.snapshots import Work, git

FILES = {"a.txt": "one\ntwo\nthree\n", "b.txt": "1\n2\n3\n", "old.txt": "a\nb\nc\nd\ne\nf\n"}
Seen = dict[str, CallChange]


@pytest.fixture(name="work")
def _work(tmp_path: Path) -> Work:
    """A project with a step that has begun."""
    work = Work(tmp_path, FILES)
    work.start()
    return work


def spans(seen: Seen) -> dict[str, list[tuple[str, int, int]]]:
    """The lines of each call."""
    return {
        name: [(file.path, span.start, span.end) for file in call.files for span in file.ranges]
        for name, call in seen.items()
    }


def one(seen: Seen, path: str) -> FileChange:
    """The only change of a file."""
    (change,) = [file for call in seen.values() for file in call.files if file.path == path]
    return change


def test_bash_gets_the_lines_that_differ_with_all_that_is_kept_of_them(work: Work) -> None:
    """Byte-exact, and the whole file before and after."""
    work.bash("c1", "sh edit.sh", {"a.txt": "one\nTWO\nthree\nfour\n"})
    seen = work.finish()
    assert spans(seen) == {"c1": [("a.txt", 2, 2), ("a.txt", 4, 4)]}
    change = one(seen, "a.txt")
    assert change.ranges[0].line_hashes == line_hashes([b"TWO"]).hex()
    assert (change.kind, change.deleted, change.ranges[0].method) == ("update", ((2, 2),), "snapshot")
    assert change.before_hashes == line_hashes([b"one", b"two", b"three"]).hex()
    assert change.after_hashes == line_hashes([b"one", b"TWO", b"three", b"four"]).hex()
    assert seen["c1"].vcs is not None
    assert seen["c1"].vcs.revision == git(work.root, "rev-parse", "HEAD")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("one\ntwo", "one\ntwo\nthree\n", [(3, 3)]),
        ("one\r\ntwo\r\n", "one\r\nTWO\r\n", [(2, 2)]),
        ("one\r\ntwo\r\n", "one\ntwo\n", []),
        ("one\ntwo\n", "one\r\nnew\r\ntwo\r\n", [(2, 2)]),
        ("one\n", "one\n\n\n", [(2, 3)]),
        ("", "x\n", [(1, 1)]),
        ("x\n", "", []),
        ("-- a\n++ b\n@@ c\n", "-- a\n++ B\n@@ c\ndiff --git a/x b/x\n", [(2, 2), (4, 4)]),
        ("a\nb\n\\ No newline\n", "a\nB\n\\ No newline\n", [(2, 2)]),
    ],
)
def test_lines_are_counted_as_git_counts_them(
    tmp_path: Path, before: str, after: str, expected: list[tuple[int, int]]
) -> None:
    """A line that only got its line ending is not a new one."""
    work = Work(tmp_path, {"f.txt": before, "z": "z"})
    work.start()
    work.bash("c1", "x", {"f.txt": after})
    change = one(work.finish(), "f.txt")
    assert [(span.start, span.end) for span in change.ranges] == expected


@pytest.mark.parametrize(
    "name", ["with space.txt", "quo\"te'.txt", "tab\there.txt", "größe 日本.txt", "-rf", "a/b/c.txt"]
)
def test_any_name_of_a_file_is_a_name(work: Work, name: str) -> None:
    """Git would quote some of them."""
    work.bash("c1", "x", {name: "x\n"})
    assert spans(work.finish()) == {"c1": [(name, 1, 1)]}


def test_moves_and_deletions_are_data(work: Work) -> None:
    """A move keeps its lines; with a change only that is the AI's."""
    work.files({"same.txt": "p\nq\nr\n"})
    work.start()
    work.bash(
        "c1",
        "mv",
        {"old.txt": None, "new.txt": "a\nb\nX\nd\ne\nf\n", "same.txt": None, "moved.txt": "p\nq\nr\n", "b.txt": None},
    )
    seen = work.finish()
    assert spans(seen) == {"c1": [("new.txt", 3, 3)]}
    assert [(c.kind, c.old_path) for c in (one(seen, "new.txt"), one(seen, "moved.txt"))] == [
        ("move", "old.txt"),
        ("move", "same.txt"),
    ]
    moved, gone = one(seen, "moved.txt"), one(seen, "b.txt")
    assert moved.before_hashes == moved.after_hashes == line_hashes([b"p", b"q", b"r"]).hex()
    assert (gone.kind, gone.deleted, gone.before_hashes, gone.after_hashes) == (
        "delete",
        ((1, 3),),
        line_hashes([b"1", b"2", b"3"]).hex(),
        "",
    )


def test_a_file_that_an_edit_made_is_no_move_though_it_is_like_one_that_went(work: Work) -> None:
    """The write says what it wrote: all of it."""
    work.write("c1", "new.txt", "a\nb\nc\nd\ne\nF\n")
    work.bash("c2", "rm old.txt", {"old.txt": None})
    seen = work.finish()
    assert [(name, [(f.path, f.kind) for f in call.files]) for name, call in seen.items()] == [
        ("c2", [("old.txt", "delete")])
    ]


@pytest.mark.parametrize("kind", ["binary", "big", "link", "mode", "many"])
def test_what_has_no_lines_has_no_ranges(work: Work, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a step that changed more than can be looked at is left alone."""
    files: dict[str, str | None] = {
        "x": "a\0b\n" if kind == "binary" else "x\n" * 2_000_000 if kind == "big" else "x\n"
    }
    if kind == "many":
        monkeypatch.setattr(snapshot, "MAX_FILES", 3)
        files = {f"f{at}": "x\n" for at in range(4)}
    if kind == "mode":
        (work.root / "a.txt").chmod(0o755)
        files = {}
    if kind == "link":
        (work.root / "x").symlink_to("a.txt")
        files = {}
    work.bash("c1", "x", files)
    assert not any(spans(work.finish()).values())


def test_secrets_have_no_hash_and_their_files_no_name(tmp_path: Path) -> None:
    """As everywhere."""
    work = Work(tmp_path, FILES, lambda text: "hunter2" in text)
    work.start()
    work.bash("c1", "x", {"s.txt": "a\npw hunter2\n", "hunter2.txt": "x\n"})
    change = one(work.finish(), "s.txt")
    assert change.after_hashes == line_hashes([b"a"]).hex() + NO_HASH.hex()
    assert change.ranges[0].content_hash is None


def test_a_file_whose_name_is_a_secret_is_in_no_call(tmp_path: Path) -> None:
    """Neither by its new name nor by its old one; the files beside it are."""
    work = Work(tmp_path, {**FILES, "hunter2.old": "p\nq\nr\n"}, lambda text: "hunter2" in text)
    work.start()
    work.bash("c1", "x", {"s.txt": "a\n", "hunter2.txt": "x\n", "hunter2.old": None, "moved.txt": "p\nq\nr\n"})
    seen = work.finish()
    assert "hunter2" not in str(seen)
    assert {file.path for call in seen.values() for file in call.files} >= {"s.txt"}


def test_the_same_call_id_in_a_later_turn_is_another_call(work: Work) -> None:
    """Each has what its own step changed."""
    for message, path in (("msg_1", "x.txt"), ("msg_2", "y.txt")):
        work.start(message=message)
        work.bash("c1", "x", {path: "x\n"})
        assert spans(work.finish(message=message)) == {"c1": [(path, 1, 1)]}


def test_of_several_commands_the_one_at_work_when_the_file_was_changed_has_it(work: Work) -> None:
    """The file's last change lies in the time of one of them."""
    work.before("c1", "bash", {"command": "first"}, -5)
    work.after("c1", "bash", {"command": "first"}, {}, -4)
    work.bash("c2", "second", {"x.txt": "x\n"})
    work.before("c3", "bash", {"command": "third"}, 10)
    work.after("c3", "bash", {"command": "third"}, {}, 11)
    assert spans(work.finish(12)) == {"c2": [("x.txt", 1, 1)]}


def test_of_commands_side_by_side_the_one_that_names_the_file_has_it(work: Work) -> None:
    """Else the last to begin."""
    work.before("c1", "bash", {"command": "tee x.txt"}, -2)
    work.bash("c2", "make", {"x.txt": "x\n", "y.txt": "y\n"})
    work.after("c1", "bash", {"command": "tee x.txt"}, {}, 60)
    assert spans(work.finish(61)) == {"c1": [("x.txt", 1, 1)], "c2": [("y.txt", 1, 1)]}


def test_what_changes_beside_a_command_that_reads_or_writes_elsewhere_is_not_its_work(work: Work) -> None:
    """A person's, as far as the step's calls go."""
    work.bash("c1", "grep -rn x .", {"mine.txt": "mine\n"})
    work.bash("c2", "echo x > x.txt", {"x.txt": "x\n", "mine2.txt": "mine\n"})
    assert spans(work.finish()) == {"c2": [("x.txt", 1, 1)]}


def test_what_another_sessions_command_wrote_into_the_same_file_is_its_own(work: Work) -> None:
    """Of the rest of the file's new lines the command has what it names."""
    other = "other = one(2, 'x')\n"
    work.before("c1", "bash", {"command": "sh run.sh a.txt"}, -2)
    work.files({"a.txt": "one\ntwo\nthree\nmine = two(1, 'x')\n"})
    work.start(-1, "ses_2", "msg_2")
    text = f"one\ntwo\nthree\nmine = two(1, 'x')\n{other}"
    work.bash("c2", "sh other.sh a.txt", {"a.txt": text}, session="ses_2")
    assert spans(work.finish(10, "ses_2", "msg_2")) == {"c2": [("a.txt", 5, 5)]}
    work.after("c1", "bash", {"command": "sh run.sh a.txt"}, {}, 11)
    assert spans(work.finish(12)) == {"c1": [("a.txt", 4, 4)]}


def test_a_command_that_failed_has_written_all_the_same(work: Work) -> None:
    """Its outcome is a part in error; no hook tells of it."""
    work.before("c1", "bash", {"command": "x"}, -1)
    work.files({"x.txt": "x\n"})
    state = {"status": "error", "input": {"command": "x"}, "error": "no"}
    part = {"type": "tool", "tool": "bash", "state": state, "callID": "c1", "messageID": "msg_1", "sessionID": "ses_1"}
    work.observe(work.shim.event("message.part.updated", {"part": part}, at=work.ms(60)))
    assert spans(work.finish(61)) == {"c1": [("x.txt", 1, 1)]}


@pytest.mark.parametrize(("own", "expected"), [("", []), ("written = by(the, model)\n", [(1, 1)])])
def test_lines_that_a_command_orders_anew_are_brought(
    tmp_path: Path, own: str, expected: list[tuple[int, int]]
) -> None:
    """`sort` of a file that the command names; a line of its own beside them is its work."""
    lines = [f"value_{at} = compute({at}, offset)\n" for at in range(3)]
    work = Work(tmp_path, {"values.txt": "".join(lines)})
    work.start()
    work.bash("c1", "sort -r values.txt > sorted.txt", {"sorted.txt": own + "".join(reversed(lines))}, window=(0, 10))
    found = spans(work.finish()).get("c1", [])
    assert [(start, end) for _, start, end in found] == expected


@pytest.mark.parametrize(
    ("command", "text", "expected"),
    [
        ("head -c 30 own.txt > n.txt", "first_line = of_a_person(1, 2)", []),
        ("cut -d= -f2 own.txt > n.txt", " of_a_person(1, 2)\n of_a_person(3, 4)\n of_a_person(5, 6)\n", []),
        ("sed 's/^/    /' own.txt > n.txt", "    first_line = of_a_person(1, 2)  # one\n", []),
        ("sh torn.sh own.txt > n.txt", "f_a_person(1, 2)  # one\nmade = by(the, model)\n", [(2, 2)]),
        ("grep x own.txt; echo 'of_a_person(3, 4)' > n.txt", "of_a_person(3, 4)\n", [(1, 1)]),
    ],
)
def test_pieces_of_a_persons_lines_are_brought(
    tmp_path: Path, command: str, text: str, expected: list[tuple[int, int]]
) -> None:
    """Of a file that the command names; also what remains of a line where two commands write to one file at once."""
    own = "first_line = of_a_person(1, 2)  # one\nsecond_line = of_a_person(3, 4)\nthird = of_a_person(5, 6)\n"
    work = Work(tmp_path, {"own.txt": own})
    work.start()
    work.bash("c1", command, {"n.txt": text}, window=(0, 10))
    assert [(start, end) for _, start, end in spans(work.finish()).get("c1", [])] == expected


@pytest.mark.parametrize(
    "command", ["cp -r {} lib", "cat {}/* > lib/own.txt", "D={}; cat $D/own.txt > lib/own.txt", "make"]
)
def test_what_a_command_takes_from_a_folder_that_it_names_is_brought(tmp_path: Path, command: str) -> None:
    """No word of it names the file, and no snapshot holds it; of a command that does not name the folder nothing is."""
    text = "first_line = of_a_person(1, 2)\nsecond_line = of_a_person(3, 4)\n"
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "own.txt").write_text(text)
    work = Work(tmp_path, FILES)
    work.start()
    work.bash("c1", command.format(tmp_path / "kept"), {"lib/own.txt": text}, window=(0, 10))
    expected = [("lib/own.txt", 1, 2)] if command == "make" else []
    assert spans(work.finish()).get("c1", []) == expected


def test_what_a_command_has_written_is_no_source_of_another_ones(work: Work) -> None:
    """Though it stands in a folder that the other one names, and stood there before that one was permitted."""
    text = "made = by(the, model)\n"
    work.bash("c1", "sh run.sh", {"own.txt": text}, window=(-1, 60))
    work.bash("c2", f"cat {work.root}/* > ignored", {}, window=(61, 65))
    assert spans(work.finish(66))["c1"] == [("own.txt", 1, 1)]


@pytest.mark.parametrize(("age_s", "expected"), [(3600, []), (1, [("own.txt", 1, 1)])])
def test_a_file_that_was_written_long_before_the_step_was_not_written_in_it(
    work: Work, age_s: float, expected: list[tuple[str, int, int]]
) -> None:
    """It was moved, unpacked, or copied with its times: only its last change is of the step."""
    work.before("c1", "bash", {"command": "tar xzf files.tgz"}, -1)
    work.files({"own.txt": "first_line = of_a_person(1, 2)\n"})
    os.utime(work.root / "own.txt", (0, time.time() - age_s))
    work.after("c1", "bash", {"command": "tar xzf files.tgz"}, {}, 60)
    assert spans(work.finish(61)).get("c1", []) == expected


@pytest.mark.parametrize("late", ["neither", "the first", "the second"])
def test_a_draft_that_a_call_wrote_outside_is_the_models_where_a_command_moves_it(
    work: Work, tmp_path: Path, late: str
) -> None:
    """Nothing else knows its lines in this repository; also where a hook comes after its command."""
    draft, text = tmp_path / "draft.txt", "made = by(the, model)\n"
    if late == "the first":
        draft.write_text(text)
    work.bash("c1", f"cat > {draft} <<'END'\n{text}END", {str(draft): text}, window=(-1, 4))
    work.finish(5)
    os.utime(draft, (1, 1))
    work.start(0, message="msg_2")
    if late == "the second":
        draft.rename(work.root / "own.txt")
        draft.touch()
    work.bash("c2", f"mv {draft} own.txt", {str(draft): None, "own.txt": text}, window=(0, 10))
    assert ("own.txt", 1, 1) in spans(work.finish(message="msg_2"))["c2"]


def test_a_persons_files_are_not_the_ais(work: Work) -> None:
    """Beside calls that say what they change, and in the time before a command began."""
    work.files({"mine.txt": "mine\n"})
    work.write("c1", "a.txt", "one\n2\nthree\n")
    work.bash("c2", "x", {}, window=(20, 21))
    assert spans(work.finish(22)) == {}


def test_a_clock_that_is_not_ours_tells_nothing(work: Work) -> None:
    """A network folder's: then the only command has what nobody named."""
    work.start(3_000)
    work.bash("c1", "x", {"x.txt": "x\n"}, window=(3_001, 3_002))
    assert spans(work.finish(3_003)) == {"c1": [("x.txt", 1, 1)]}


def test_reading_tools_change_nothing(work: Work) -> None:
    """So what changed beside them is a person's; a tool that is not known may be any."""
    work.bash("c1", "x", {"x.txt": "x\n"}, tool="read")
    assert work.finish() == {}
    work.start()
    work.bash("c2", "x", {"y.txt": "x\n"}, tool="mcp_files_put")
    assert spans(work.finish()) == {"c2": [("y.txt", 1, 1)]}


def test_a_subagents_files_are_counted_once(work: Work) -> None:
    """Also when its command and one of the parent's run at the same time."""
    work.before("t1", "task", {"prompt": "x"}, -2)
    work.before("c1", "bash", {"command": "echo > p.txt"}, -2)
    work.start(-1, "ses_2", "msg_2")
    work.write("w1", "w.txt", "w\n", "ses_2")
    work.bash("c2", "echo > c.txt", {"c.txt": "c\n", "p.txt": "p\n"}, session="ses_2")
    assert spans(work.finish(10, "ses_2", "msg_2")) == {"c2": [("c.txt", 1, 1)]}
    work.after("c1", "bash", {"command": "echo > p.txt"}, {}, 11)
    work.after("t1", "task", {"prompt": "x"}, {}, 11)
    assert spans(work.finish(12)) == {"c1": [("p.txt", 1, 1)]}


def test_a_write_whose_old_file_was_not_seen_is_mended_by_the_snapshot(work: Work) -> None:
    """The file was written so recently that it may have been the call's work: then only the trees tell."""
    args = {"filePath": "a.txt", "content": "one\nTWO\nthree\n"}
    work.before("c1", "write", args, -100)
    work.files({"a.txt": args["content"]})
    told = work.after("c1", "write", args, {"exists": True}, 5)
    assert [(span.start, span.end, span.method) for span in told.files[0].ranges] == [(1, 3, "fallback")]
    seen = work.finish()
    assert [(span.start, span.end, span.method) for span in one(seen, "a.txt").ranges] == [(2, 2, "snapshot")]


def test_a_call_that_told_the_truth_is_not_told_again(work: Work) -> None:
    """Nothing is written twice."""
    work.write("c1", "a.txt", "one\nTWO\nthree\n")
    work.write("c2", "n.txt", "n\n")
    assert work.finish() == {}


def test_what_a_command_did_to_a_file_that_was_edited_before_is_the_commands(work: Work) -> None:
    """Line by line."""
    work.write("c1", "a.txt", "one\nTWO\nthree\n")
    work.bash("c2", "sed -i a.txt", {"a.txt": "zero\none\nTWO\nthree\nend\n"})
    seen = work.finish()
    assert spans(seen) == {"c2": [("a.txt", 1, 1), ("a.txt", 5, 5)]}
    assert one(seen, "a.txt").before_hashes == line_hashes([b"one", b"TWO", b"three"]).hex()


@pytest.mark.parametrize("late", [False, True])
def test_what_a_command_did_after_an_edit_is_the_commands_though_the_file_was_read_too_late(
    work: Work, late: bool
) -> None:
    """What the edit left is known all the same: the file's last change is of the command's time, not of its own."""
    os.utime(work.root / "a.txt", (1, 1))
    args = {"filePath": "a.txt", "oldString": "two", "newString": "TWO"}
    if not late:
        work.before("c1", "edit", args, 0)
    work.files({"a.txt": "one\nTWO\nthree\n"})
    if late:
        work.before("c1", "edit", args, -5)
    diff = "--- a.txt\n+++ a.txt\n@@ -2 +2 @@\n-two\n+TWO\n"
    seen = work.after("c1", "edit", args, {"diff": diff}, -4 if late else 0.01)
    assert ([(span.start, span.end) for span in seen.files[0].ranges], seen.files[0].before_hashes is None) == (
        [(2, 2)],
        late,
    )
    work.bash("c2", "sed -i s/one/ONE/ a.txt", {"a.txt": "ONE\nTWO\nthree\n"})
    assert spans(work.finish(12)) == {"c2": [("a.txt", 1, 1)]}


def test_two_edits_of_one_file_side_by_side_have_each_their_own_lines(work: Work) -> None:
    """Both were seen to begin with the same old file; the second one's old file is what the first one left."""
    os.utime(work.root / "b.txt", (1, 1))
    told = []
    calls = [("c1", "1", "I"), ("c2", "3", "III")]
    for call, old, new in calls:
        work.before(call, "edit", {"filePath": "b.txt", "oldString": old, "newString": new}, 0)
    for (call, old, new), text, line in zip(calls, ("I\n2\n3\n", "I\n2\nIII\n"), (1, 3), strict=True):
        work.files({"b.txt": text})
        diff = f"--- b.txt\n+++ b.txt\n@@ -{line} +{line} @@\n-{old}\n+{new}\n"
        args = {"filePath": "b.txt", "oldString": old, "newString": new}
        told.append(work.after(call, "edit", args, {"diff": diff}, 3 + line))
    assert [[(span.start, span.end) for span in seen.files[0].ranges] for seen in told] == [[(1, 1)], [(3, 3)]]
    assert [seen.files[0].ranges[0].content_hash is not None for seen in told] == [True, True]
    assert told[1].files[0].before_hashes == told[0].files[0].after_hashes
    assert work.finish() == {}


@pytest.mark.parametrize("command", ["make b.txt", "sed -i a.txt"])
def test_a_command_beside_an_overwrite_changes_its_lines_only_if_it_names_the_file(work: Work, command: str) -> None:
    """The formatter's lines are then the write's; else what lies between the two contents may be either's."""
    os.utime(work.root / "a.txt", (1, 1))
    args = {"filePath": "a.txt", "content": "one\ntwo\nTHREE\n"}
    work.before("c1", "write", args, 0)
    work.before("c2", "bash", {"command": command}, 0)
    work.files({"a.txt": "# formatted\none\ntwo\nTHREE\n"})
    told = work.after("c1", "write", args, {"exists": True}, 60)
    work.after("c2", "bash", {"command": command}, {}, 61)
    expected = [(1, 4, "fallback")] if "a.txt" in command else [(1, 1, "diff"), (4, 4, "diff")]
    assert [(span.start, span.end, span.method) for span in told.files[0].ranges] == expected
    mended = spans(work.finish(62))
    assert mended == ({"c1": [("a.txt", 1, 1), ("a.txt", 4, 4)]} if "a.txt" in command else {})


@pytest.mark.parametrize("missing", ["start", "tree", "private"])
def test_without_both_snapshots_nothing_is_said(tmp_path: Path, missing: str) -> None:
    """A sidecar that started in the middle of a step, a project without git, data that is elsewhere."""
    work = Work(tmp_path, FILES)
    if missing != "start":
        work.start()
    work.bash("c1", "x", {"x.txt": "x\n"})
    if missing == "private":
        work.private.rename(tmp_path / "elsewhere")
        tree = {"type": "step-finish", "snapshot": "a" * 40, "sessionID": "ses_1", "messageID": "msg_1"}
    else:
        tree = {"type": "step-finish", "sessionID": "ses_1", "messageID": "msg_1"}
    assert work.observe(work.shim.event("message.part.updated", {"part": tree})).calls == ()


def test_a_file_of_another_repository_that_was_written_before_the_hook_came_is_uncovered(work: Work) -> None:
    """Nobody knows what it held before the command: the new line is not a person's."""
    inner = work.root / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    git(inner, "commit", "-qm", "inner", "--allow-empty")
    work.files({"inner/i.py": "hu\nai\n"})
    command = {"command": "echo ai >> inner/i.py"}
    work.before("c1", "bash", command, -1)
    work.after("c1", "bash", command, {}, 5)
    part = {"type": "step-finish", "snapshot": work.tree(), "sessionID": SESSION, "messageID": "msg_1"}
    seen = work.observe(work.shim.event("message.part.updated", {"part": part}, at=work.ms(10)))
    assert [(one.call_id, one.path) for one in seen.uncovered] == [("c1", "i.py")]


def test_what_a_command_in_the_background_leaves_uncovered_is_said_once(work: Work) -> None:
    """It is a call of several steps."""
    call = Call("c1", "shell", silent=True, began_ms=0, lingers=True)
    call.named = {Place(work.root, "late.txt"): Named(b"")}
    finisher = finisher_of(work)
    tree = work.tree()
    said = []
    for message in ("msg_1", "msg_2"):
        step = Step(SESSION, message, str(work.root), tree, 0.0, calls={"c1": call})
        said.append(finisher.finish(Steps(), step, tree, 1.0))
    assert said == [Observed(uncovered=(Uncovered("c1", "late.txt"),)), None]


def finisher_of(work: Work) -> Finisher:
    """What reads a step's end."""
    return Finisher(
        work.private.parents[3],
        Rewrites(Revisions()),
        lambda _, lines, __: Content.judged(lines, lambda _: False),
        lambda _: False,
        clock=lambda: 0.0,
        repository=lambda _: None,
    )


@pytest.mark.parametrize("is_exit_first", [False, True])
@pytest.mark.parametrize(
    ("late_ms", "command", "expected"),
    [
        (0.0, "make all > late.txt", ["late.txt"]),
        (-1000.0, "make all > late.txt", []),
        (0.0, "python late.txt", []),
        (0.0, "npm run dev", []),
    ],
)
def test_a_command_that_ends_between_a_steps_snapshot_and_its_event_keeps_its_lines(
    work: Work, late_ms: float, command: str, expected: list[str], *, is_exit_first: bool
) -> None:
    """OpenCode was stopped meanwhile; also where it reports the end before the beginning. Later files are another's.

    So are files that it does not send its output to: a person works on while a server runs.
    """
    before = work.tree()
    began_ms = time.time() * 1000 - 10_000
    (work.root / "late.txt").write_text("late\n")
    ended_ms = (work.root / "late.txt").stat().st_ctime_ns / 1e6 + 100 + late_ms
    steps, call = Steps(), Call("c1", "shell", silent=True, began_ms=began_ms, command=command)
    if is_exit_first:
        steps.end_background("sh_1", ended_ms)
    steps.keep_background(SESSION, call, "sh_1")
    if not is_exit_first:
        steps.end_background("sh_1", ended_ms)
    step = Step(SESSION, "msg_2", str(work.root), before, ended_ms + 1)
    steps.open(step)
    assert (step.calls, step.earlier) == ({}, [call])
    found = finisher_of(work).finish(steps, step, work.tree(), ended_ms + 2000)
    assert [file.path for one in (found.calls if found else ()) for file in one.files] == expected
    steps.close(SESSION)
    after = Step(SESSION, "msg_3", str(work.root), "", ended_ms + 3000)
    steps.open(after)
    assert (after.calls, after.earlier) == ({}, [])


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (". ./.env; npm start &", "DB_PASSWORD=moun.tain72\n"),
        ("sh run.sh &", "export DB_PASSWORD=moun.tain72\n"),
        ("sh run.sh &", "#!/usr/bin/python3\nDB_PASSWORD='moun.tain72'\n"),
        ("DB_PASSWORD=moun.tain72 npm start &", ""),
        ("nohup env DB_PASSWORD='moun.tain 72' npm start", ""),
    ],
)
def test_a_word_of_a_command_or_script_that_shows_a_secret_is_no_name_of_a_file(
    tmp_path: Path, command: str, file: str
) -> None:
    """What a command in the background may write to is stored by its name, which nothing masks any more."""
    files = {**FILES, ".env": file, "run.sh": file, "known.txt": "hu\n"}
    work = Work(tmp_path, files, lambda text: "PASSWORD=" in text)
    work.start()
    work.bash("c1", f"{command}; cat >> known.txt", {})
    part = {"type": "step-finish", "snapshot": work.tree(), "sessionID": SESSION, "messageID": "msg_1"}
    seen = work.observe(work.shim.event("message.part.updated", {"part": part}, at=work.ms(10)))
    assert "moun" not in str(seen)
    assert "known.txt" in {one.path for one in seen.uncovered}


def test_of_a_command_in_the_background_only_its_scripts_name_files(tmp_path: Path) -> None:
    """By words that are written like a file's name, outside of comments. What it only runs, it does not write."""
    files = {
        **FILES,
        "run.py": "# see 'doc.md'\nimport os.path\nopen('out.json', 'w')\nopen('known.txt', 'a').write(_curses.KEY)\n",
        "notes.md": "known.txt and doc.md, i.e. other.txt or new.txt: both\n",
        "known.txt": "hu\n",
        "doc.md": "hu\n",
        "other.txt": "hu\n",
    }
    work = Work(tmp_path, files)
    work.start()
    work.bash("c1", "python run.py & tail -f notes.md &", {})
    part = {"type": "step-finish", "snapshot": work.tree(), "sessionID": SESSION, "messageID": "msg_1"}
    seen = work.observe(work.shim.event("message.part.updated", {"part": part}, at=work.ms(10)))
    assert sorted(one.path for one in seen.uncovered if one.path) == ["known.txt", "notes.md", "out.json"]


def test_what_a_command_left_uncovered_is_in_doubt_from_its_beginning_if_an_edit_ended_meanwhile() -> None:
    """The edit's state of a file may hold what the command had written by then."""
    steps, step = Steps(), Step(SESSION, "msg_1", "/w", "", 0.0)
    steps.open(step)
    command = Call("c1", "bash", silent=True, began_ms=100.0, ended_ms=500.0)
    edited = Call(
        "c2", "edit", silent=False, began_ms=100.0, ended_ms=300.0, edited=[Edited(FileChange("a", "update"))]
    )
    step.calls = {"c1": command, "c2": edited}
    assert steps.is_read_beside(step, command)
    edited.ended_ms = 700.0
    assert not steps.is_read_beside(step, command)


@pytest.mark.parametrize(("written_by_a_call", "paths"), [(False, []), (True, ["a.txt"])])
def test_lines_of_a_patch_are_a_persons_unless_a_call_has_written_it(
    tmp_path: Path, written_by_a_call: bool, paths: list[str]
) -> None:
    """A command that applies it only brings them."""
    patch = "--- a/a.txt\n+++ b/a.txt\n@@ -1 +1,4 @@\n one\n+alpha = first(1)\n+beta = second(2)\n+gamma = third(3)\n"
    work = Work(tmp_path, {"a.txt": "one\n", "fix.diff": patch})
    if written_by_a_call:
        args = {"filePath": str(work.root / "fix.diff"), "content": patch}
        work.start(-30, message="msg_0")
        work.before("c0", "write", args, -29)
        work.after("c0", "write", args, {"exists": True}, -28)
        work.finish(-27, message="msg_0")
    work.start()
    command = {"command": "git apply fix.diff"}
    work.before("c1", "bash", command, 0)
    git(work.root, "apply", "fix.diff")
    work.after("c1", "bash", command, {}, 10)
    changes = work.finish()
    assert [file.path for call in changes.values() for file in call.files if file.ranges] == paths
