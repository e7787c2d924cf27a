"""What OpenCode 1.x's hooks and events are read as."""

import json
import re

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent_trace_sidecar.opencode import dialects
from agent_trace_sidecar.opencode.events import (
    CallDone,
    CallFailed,
    CallOpened,
    CallTimes,
    FileEdit,
    Hello,
    MessageRemoved,
    MessageSeen,
    Seen,
    SessionSeen,
    Undone,
    UserCommand,
)
from agent_trace_sidecar.opencode.v1_tools import FILE_TOOLS, SILENT_TOOLS, UNSEEN_TOOLS
from agent_trace_sidecar.opencode.wire import EMPTY
from tests.support.envelopes import CALL, MESSAGE, RECORDINGS, SESSION, Shim, envelope, recorded

SHIM = Shim()
INFO = {"id": MESSAGE, "sessionID": SESSION, "role": "assistant", "providerID": "p", "modelID": "m", "mode": "plan"}

LINES = [
    ("hello", SHIM.line("hello", {"opencode": "1.18.33", "api": "v1"}), Seen("hello", event=Hello("1.18.33"))),
    (
        "session.created",
        SHIM.event("session.created", {"info": {"id": "ses_2", "parentID": SESSION, "version": "1.18.33"}}),
        Seen("session.created", "ses_2", event=SessionSeen("ses_2", SESSION, "1.18.33")),
    ),
    (
        "assistant message",
        SHIM.event("message.updated", {"info": {**INFO, "parentID": "msg_0"}}),
        Seen("message.updated", SESSION, MESSAGE, event=MessageSeen(MESSAGE, "assistant", "p", "m", "plan", "msg_0")),
    ),
    (
        "message removed",
        SHIM.event("message.removed", {"sessionID": SESSION, "messageID": MESSAGE}),
        Seen("message.removed", SESSION, MESSAGE, event=MessageRemoved(SESSION, MESSAGE)),
    ),
    (
        "pending part",
        SHIM.pending("edit"),
        Seen("message.part.updated", SESSION, MESSAGE, CALL, "edit", CallOpened(SESSION, MESSAGE, CALL)),
    ),
    (
        "failed part",
        SHIM.part("edit", {"status": "error", "input": {}, "error": "no"}),
        Seen(
            "message.part.updated", SESSION, MESSAGE, CALL, "edit", CallFailed("edit", msgspec.Raw(b"{}"), CallTimes())
        ),
    ),
    (
        "user's command",
        SHIM.event(
            "message.part.updated",
            {
                "part": {
                    "type": "text",
                    "synthetic": True,
                    "text": "The following tool was executed by the user",
                    "messageID": MESSAGE,
                    "sessionID": SESSION,
                }
            },
        ),
        Seen("message.part.updated", SESSION, MESSAGE, event=UserCommand(MESSAGE)),
    ),
    ("before", SHIM.before("bash", {"command": "ls"}), Seen("tool.execute.before", SESSION, None, CALL, "bash")),
    (
        "chat.message",
        SHIM.line("chat.message", {"sessionID": SESSION}, {"message": {"id": MESSAGE}, "parts": []}),
        Seen("chat.message", SESSION, MESSAGE),
    ),
    (
        "command",
        SHIM.line("command.execute.before", {"command": "x", "sessionID": SESSION, "arguments": ""}),
        Seen("command.execute.before", SESSION),
    ),
    ("todo", SHIM.event("todo.updated", {"sessionID": SESSION, "todos": []}), Seen("todo.updated", SESSION)),
    ("error without session", SHIM.event("session.error", {"error": {"name": "X"}}), Seen("session.error")),
    ("bye", SHIM.line("bye", {}), Seen("bye")),
    (
        "a hook of tomorrow",
        SHIM.line("tool.execute.during", {"sessionID": SESSION}),
        Seen("tool.execute.during", SESSION),
    ),
    ("no input", SHIM.line("tool.execute.before"), Seen("tool.execute.before")),
]


@pytest.mark.parametrize(("line", "expected"), [case[1:] for case in LINES], ids=[case[0] for case in LINES])
def test_a_line_is_read_as(line: bytes, expected: Seen) -> None:
    """The columns, and what it means."""
    assert dialects.read(envelope(line)) == expected


def test_a_finished_call_leaves_its_arguments_unopened() -> None:
    """From the hook and from the part alike."""
    args, metadata = {"filePath": "a", "content": "b"}, {"exists": False}
    done = {"status": "completed", "input": args, "metadata": metadata, "title": "t"}
    for line in (SHIM.after("write", args, metadata), SHIM.part("write", done)):
        event = dialects.read(envelope(line)).event
        assert isinstance(event, CallDone)
        assert (event.tool, event.title) == ("write", "t")
        assert (json.loads(bytes(event.args)), json.loads(bytes(event.metadata))) == (args, metadata)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            SHIM.line("tool.execute.after", {"tool": 5, "sessionID": SESSION, "callID": CALL}, {}),
            (None, SESSION, None, CALL),
        ),
        (SHIM.line("tool.execute.after", [1], {}), (None, None, None, None)),
        (
            SHIM.line("tool.execute.after", {"tool": "write", "sessionID": SESSION}, "text"),
            ("write", SESSION, None, None),
        ),
        (SHIM.event("message.updated", {"info": {"id": 7, "sessionID": SESSION}}), (None, SESSION, None, None)),
        (SHIM.line("event", {"event": 3}), (None, None, None, None)),
        (SHIM.event("x", {"sessionID": SESSION, "part": "p", "info": {"callID": CALL}}), (None, SESSION, None, CALL)),
    ],
)
def test_wrong_types_cost_the_meaning_and_not_the_ids(
    line: bytes, expected: tuple[str | None, str | None, str | None, str | None]
) -> None:
    """What is a string where an id belongs is kept, and a note says the rest."""
    seen = dialects.read(envelope(line))
    assert (seen.tool, seen.session_id, seen.message_id, seen.call_id) == expected
    assert seen.event is None
    assert seen.note


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_tool_of_a_recording_is_in_one_table(name: str) -> None:
    """A new tool is either read for the files it changes, or known to be silent about them."""
    tools = {seen.tool for seen in map(dialects.read, recorded(name)) if seen.tool}
    tables = [FILE_TOOLS, SILENT_TOOLS, UNSEEN_TOOLS]
    assert not [tool for tool in tools if sum(tool in table for table in tables) != 1]


DIFF = "--- a.txt\n+++ a.txt\n@@ -1,1 +1,1 @@\n-a\n+b\n"
PATCH = (
    "*** Begin Patch\n*** Update File: a.txt\n@@\n-a\n+b\n*** Add File: n.txt\n+one\n+two\n*** Delete File: gone.txt\n"
    "*** Update File: old.txt\n*** Move to: new.txt\n@@\n-x\n+y\n*** End Patch"
)
NEWER = DIFF.replace("a.txt", "n.txt")

TOOLS = [
    ("write", {"filePath": "a", "content": "x"}, {"exists": False}, [FileEdit("a", "add", content="x")]),
    ("write", {"filePath": "a", "content": "x"}, {}, [FileEdit("a", "update", content="x")]),
    (
        "edit",
        {"filePath": "a.txt", "oldString": "a", "newString": "b"},
        {"diff": "other", "filediff": {"patch": DIFF}},
        [FileEdit("a.txt", "update", diffs=(DIFF,), replaced=(("a", "b"),))],
    ),
    (
        "edit",
        {"filePath": "a", "oldString": "", "newString": "b\n"},
        {"diff": "--- a\n+++ a\n@@ -0,0 +1,1 @@\n+b\n"},
        [FileEdit("a", "add", diffs=("--- a\n+++ a\n@@ -0,0 +1,1 @@\n+b\n",), content="b\n", replaced=(("", "b\n"),))],
    ),
    (
        "multiedit",
        {"filePath": "a", "edits": [{"oldString": "a", "newString": "b"}, {"oldString": "b", "newString": "c"}]},
        {"results": [{"diff": DIFF}, {"diff": NEWER}]},
        [FileEdit("a", "update", diffs=(DIFF, NEWER), replaced=(("a", "b"), ("b", "c")))],
    ),
    (
        "patch",
        {"patchText": PATCH},
        {"diff": "Index: x\n" + DIFF + NEWER},
        [
            FileEdit("a.txt", "update", diffs=(DIFF,), replaced=(("", "b"),)),
            FileEdit("n.txt", "add", diffs=(NEWER,), content="one\ntwo\n"),
            FileEdit("gone.txt", "delete"),
            FileEdit("new.txt", "move", "old.txt", replaced=(("", "y"),)),
        ],
    ),
    (
        "apply_patch",
        {"patchText": PATCH},
        {
            "files": [
                {"filePath": "/w/n.txt", "relativePath": "n.txt", "type": "add", "patch": NEWER},
                {"filePath": "/w/old.txt", "relativePath": "new.txt", "type": "move", "movePath": "/w/new.txt"},
            ]
        },
        [
            FileEdit("/w/n.txt", "add", diffs=(NEWER,), content="one\ntwo\n"),
            FileEdit("/w/new.txt", "move", "/w/old.txt"),
        ],
    ),
    ("apply_patch", {}, {"files": [{"filePath": "a", "type": "update"}]}, [FileEdit("a", "update")]),
    (
        "apply_patch",
        {"patchText": "*** Begin Patch\n*** Add File: a\n+*** Add File: b\n"},
        {},
        [FileEdit("a", "add", content="*** Add File: b\n")],
    ),
    ("bash", {"command": "ls"}, {}, []),
    ("a tool of tomorrow", {"filePath": "a"}, {}, []),
]


@pytest.mark.parametrize(("tool", "args", "metadata", "expected"), TOOLS)
def test_a_tool_is_read_for_what_it_did_to_files(
    tool: str, args: object, metadata: object, expected: list[FileEdit]
) -> None:
    """Of the versions of OpenCode that have it."""
    raws = [msgspec.Raw(msgspec.json.encode(value)) for value in (args, metadata)]
    assert list(dialects.file_edits(1, CallDone(tool, raws[0], raws[1], None))) == expected


def edited(before: str | None, after: str | None) -> FileEdit:
    """An edit whose report is the two contents."""
    raws = [
        msgspec.Raw(msgspec.json.encode(value))
        for value in (
            {"filePath": "a", "oldString": "x", "newString": "y"},
            {"filediff": {"before": before, "after": after}},
        )
    ]
    (edit,) = dialects.file_edits(1, CallDone("edit", raws[0], raws[1], None))
    return edit


def patched(before: str, diff: str) -> list[str]:
    """The lines that a diff makes of a text; where it does not fit, an error."""
    old, new, at = before.splitlines(), list[str](), 0
    _, *hunks = re.split(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@\n", diff, flags=re.MULTILINE)
    for old_at, old_count, new_at, new_count, body in zip(*[iter(hunks)] * 5, strict=True):
        removed = [line[1:] for line in body.splitlines() if line.startswith("-")]
        added = [line[1:] for line in body.splitlines() if line.startswith("+")]
        assert (len(removed), len(added)) == (int(old_count or 1), int(new_count or 1))
        begin = int(old_at) - bool(removed)
        new += old[at:begin]
        assert len(new) == int(new_at) - bool(added)
        assert old[begin : begin + len(removed)] == removed
        new += added
        at = begin + len(removed)
    return new + old[at:]


TEXT = st.lists(st.sampled_from(["a", "b", "c", "", "+", "@@ -1 +1 @@ x"]), max_size=12).map(
    lambda lines: "".join(f"{line}\n" for line in lines)
)


@given(TEXT, TEXT)
@example("a\nb\nc\n", "a\nX\nc\n")
@example("", "a\n")
@example("a\n", "")
@example("a\nb\n", "a\nX\nY\nb\n")
def test_two_contents_are_read_as_the_diff_between_them(before: str, after: str) -> None:
    """All that OpenCode 0.15 reports of an edit."""
    (diff,) = edited(before, after).diffs
    assert diff.startswith("--- a\n+++ b\n")
    assert patched(before, diff) == after.splitlines()


@pytest.mark.parametrize("known", [None, "a\n"])
def test_one_content_alone_is_no_diff(known: str | None) -> None:
    """Neither is none."""
    assert edited(known, None).diffs == edited(None, known).diffs == ()


@pytest.mark.parametrize(("lines", "is_compared"), [(500, True), (501, False)])
def test_what_differs_in_too_many_lines_is_not_compared(lines: int, *, is_compared: bool) -> None:
    """Between the first and the last line that differ, in the longer one; what both have around it does not count."""
    before = "same\n" * 300 + "old\n" + "same\n" * 300
    after = before.replace("old\n", "".join(f"{at}\n" for at in range(lines)))
    assert bool(edited(before, after).diffs) == bool(edited(after, before).diffs) == is_compared


@pytest.mark.parametrize(("diffs", "is_compared"), [(250, True), (251, False)])
def test_a_patch_of_very_many_files_is_read_without_their_diffs(diffs: int, *, is_compared: bool) -> None:
    """Each of 400 files would be compared with each diff."""
    patch = "*** Begin Patch\n" + "".join(f"*** Update File: {at}.txt\n@@\n-a\n+b\n" for at in range(400))
    diff = "".join(DIFF.replace("a.txt", f"{at}.txt") for at in range(diffs))
    raws = [msgspec.Raw(msgspec.json.encode(value)) for value in ({"patchText": patch}, {"diff": diff})]
    edits = dialects.file_edits(1, CallDone("patch", raws[0], raws[1], None))
    assert [edit.path for edit in edits] == [f"{at}.txt" for at in range(400)]
    assert sum(len(edit.diffs) for edit in edits) == (diffs if is_compared else 0)


@pytest.mark.parametrize(
    ("tool", "args", "expected"),
    [
        ("write", {"filePath": "a"}, ("a",)),
        ("apply_patch", {"patchText": PATCH}, ("a.txt", "n.txt", "gone.txt", "new.txt", "old.txt")),
        ("edit", {}, ()),
        ("bash", {"filePath": "a"}, ()),
    ],
)
def test_a_call_names_the_files_it_is_about_to_change(tool: str, args: object, expected: tuple[str, ...]) -> None:
    """Before it runs, its arguments are all there is."""
    assert dialects.named_paths(1, tool, msgspec.Raw(msgspec.json.encode(args))) == expected


@pytest.mark.parametrize(
    ("tool", "args"),
    [("write", {"filePath": "a"}), ("edit", {"newString": "a"}), ("multiedit", {}), ("write", None)],
)
def test_arguments_that_are_not_the_tools_are_an_error(tool: str, args: object) -> None:
    """The builder notes it and makes no record."""
    raw = EMPTY if args is None else msgspec.Raw(msgspec.json.encode(args))
    with pytest.raises(ValueError, match="without"):
        dialects.file_edits(1, CallDone(tool, raw, EMPTY, None))


@pytest.mark.parametrize(
    ("revert", "expected"),
    [
        ({}, ()),
        ({"snapshot": "a"}, None),
        ({"snapshot": "a", "diff": ""}, ()),
        ({"snapshot": "a", "diff": "diff --git a/x y.py b/x y.py\n-diff --git a/n b/n\n"}, ("x y.py",)),
        ({"snapshot": "a", "diff": "diff --git a/é b/é\n+a\ndiff --git a/b b/b\n-x"}, ("b", "é")),
        ({"snapshot": "a", "diff": "diff --git a/o b/n\nrename from o\nrename to n\n"}, ("n", "o")),
        ({"snapshot": "a", "diff": "diff --git a/o b/n\n"}, None),
        ({"snapshot": "a", "diff": 'diff --git "a/q\\"" "b/q\\""\n'}, None),
        ({"snapshot": "a", "diff": "diff --git a/[REDACTED:x] b/[REDACTED:x]\n"}, None),
    ],
)
def test_a_revert_names_the_files_that_it_changed(revert: dict[str, str], expected: tuple[str, ...] | None) -> None:
    """Without a snapshot it changes none; where a name is not certain, all may have been changed."""
    info = {"id": SESSION, "revert": {"messageID": MESSAGE, **revert}}
    seen = dialects.read(envelope(SHIM.event("session.updated", {"info": info})))
    assert isinstance(seen.event, SessionSeen)
    assert seen.event.undone == Undone(MESSAGE, None, expected)
