"""OpenCode 2: the shim in a context built after the published types, and the same session in both dialects."""

import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_trace_sidecar.opencode import dialects
from agent_trace_sidecar.opencode.events import (
    CallDone,
    CallFailed,
    CallOpened,
    RevertKept,
    SessionSeen,
    StepBegan,
    StepEnded,
    Undone,
)
from agent_trace_sidecar.postgres.copy import copy_items
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.rows import Built, Item, RangeRow
from tests.support.dialects import TOOLS, as_opencode2
from tests.support.envelopes import RECORDINGS, SESSION, Shim, envelope, recorded_lines
from tests.support.postgres import connected
from tests.support.waiting import patient

SUPPORT = Path(__file__).parents[2] / "support"
SHIM = Path(__file__).parents[3] / "opencode-shim" / "index.js"


def play(folder: Path, script: dict[str, Any], **env: str) -> tuple[list[bytes], dict[str, Any]]:
    """Play a script to the shim in node; the lines it wrote, and what the player says at the end."""
    (folder / "script.json").write_text(json.dumps(script))
    logs = folder / "logs"
    done = subprocess.run(
        ["node", SUPPORT / "opencode2.mjs", SHIM, folder / "script.json"],
        env={**os.environ, "AGENT_TRACE_LOG_DIR": str(logs), **env},
        capture_output=True,
        text=True,
        check=True,
        timeout=patient(60),
    )
    assert done.stderr == ""
    lines = [line for file in sorted(logs.glob("*.jsonl")) for line in file.read_bytes().splitlines()]
    return lines, json.loads(done.stdout or "null")


def build(lines: Sequence[bytes]) -> list[Built]:
    """The rows of these lines."""
    builder = Builder(BuildSettings())
    return [builder.feed(envelope(line)) for line in lines]


def records(built: list[Built]) -> list[dict[str, Any]]:
    """The records without what belongs to the line that they came with, and without what OpenCode 2 does not have."""
    found = [json.loads(row.record) for each in built for row in each.records]
    for record in found:
        metadata = record["metadata"]
        del record["id"], record["timestamp"]
        metadata.pop("io.opencode.part_id", None)
        metadata["io.opencode.tool"] = TOOLS.get(metadata["io.opencode.tool"], metadata["io.opencode.tool"])
    return found


def ranges(built: list[Built]) -> list[dict[str, Any]]:
    """The ranges, likewise, under the tool's name in OpenCode 2."""
    rows: list[RangeRow] = [row for each in built for row in each.ranges]
    return [
        {
            **row._asdict(),
            "source_id": None,
            "record_id": None,
            "recorded_at": None,
            "tool": TOOLS.get(str(row.tool), row.tool),
        }
        for row in rows
    ]


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_same_session_makes_the_same_records_in_both_dialects(tmp_path: Path, name: str) -> None:
    """Model, agent, message, call, files, ranges, methods, hashes: all but ids of parts and names of tools."""
    recorded = recorded_lines(name)
    lines, said = play(tmp_path, as_opencode2(recorded))
    assert said == {"registered": 0, "asked": [], "timers": 0}  # a timer would keep OpenCode from ending
    before, after = build(recorded), build(lines)
    assert records(after) == records(before)
    assert ranges(after) == ranges(before)
    assert {envelope(line).api for line in lines} == {2}


UNDOING: dict[str, list[Any]] = {
    "undone": [0],
    "undone and redone": [0, None],
    "undone further": [1, 0],
    "undone, redone in part": [0, 1, None],
    "undone and said something else": [0, "gone"],
    "undone, gone, undone further, redone": [1, "gone", 0, None],
}


@pytest.mark.parametrize("states", UNDOING.values(), ids=UNDOING)
async def test_undoing_leaves_the_same_lines_in_both_dialects(
    migrated_url: str, tmp_path: Path, states: list[Any]
) -> None:
    """Numbers are the messages from which on it is undone, None takes it back, and then the undone ones may go."""
    shim = Shim()
    lines = [
        shim.line("hello", {"shim": "0", "opencode": "1.18.33", "api": 1, "project": {"id": "p"}}),
        shim.event(
            "session.created",
            {"sessionID": SESSION, "info": {"id": SESSION, "projectID": "p", "title": "t", "version": "1.18.33"}},
        ),
    ]
    for number in range(2):
        ids = (SESSION, f"msg_{number}", f"call_{number}")
        args = {"filePath": f"/w/{number}.txt", "content": "x\n"}
        lines += [shim.assistant(ids[1]), shim.pending("write", ids)]
        lines.append(shim.after("write", args, {"exists": False, "filepath": args["filePath"]}, ids[2]))
    last = 0
    for state in states:
        if state == "gone":
            lines += [
                shim.event("message.removed", {"sessionID": SESSION, "messageID": f"msg_{number}"})
                for number in range(last, 2)
            ]
            continue
        revert = {} if state is None else {"revert": {"messageID": f"msg_{state}", "snapshot": "a"}}
        last = state or 0
        lines.append(shim.event("session.updated", {"info": {"id": SESSION, **revert}}))
    played, _ = play(tmp_path, as_opencode2(lines))
    told = [
        re.sub(rb'"at":\d+', b'"at":%d' % (1_795_327_000_000 + at), line, count=1) for at, line in enumerate(played)
    ]
    before, after = await void_paths(migrated_url, lines), await void_paths(migrated_url, told)
    assert before == after
    assert bool(before) is (states[-1] is not None or "gone" in states)


async def void_paths(url: str, lines: Sequence[bytes]) -> list[str]:
    """The files whose ranges are void after these lines, which are stored one by one and then taken back."""
    async with connected(url) as connection:
        transaction = connection.transaction()
        await transaction.start()
        for built in build(lines):
            await copy_items(connection, [Item(built, b"", 0)])
        rows = await connection.fetch(
            "SELECT path, voided_at IS NOT NULL AS void FROM agent_trace_ranges ORDER BY path"
        )
        await transaction.rollback()
    assert [row["path"] for row in rows] == ["0.txt", "1.txt"]
    return [row["path"] for row in rows if row["void"]]


def test_a_session_is_told_in_order_and_ends_with_bye(tmp_path: Path) -> None:
    """Greeted with both versions; each line's columns are read."""
    lines, _ = play(tmp_path, as_opencode2(recorded_lines("apply-patch")))
    told = [json.loads(line) for line in lines]
    assert told[0]["hook"] == "hello"
    assert told[0]["input"]["opencode"] == "1.18.33"
    assert told[-1]["hook"] == "bye"
    assert [line["seq"] for line in told] == list(range(1, len(told) + 1))
    rows = [built.event for built in build(lines)]
    assert "session.execution.succeeded" in [row.event_name for row in rows]
    [after] = [row for row in rows if row.event_name == "tool.execute.after"]
    assert (after.tool, after.call_id) == ("patch", "call_1_0")
    assert after.session_id
    assert after.message_id


def test_events_of_other_directories_and_of_other_kinds_are_left_out(tmp_path: Path) -> None:
    """One stream carries those of all directories, deltas and what the hooks tell already."""

    def told(kind: str, directory: str | None, **data: object) -> dict[str, Any]:
        location = {"location": {"directory": directory}} if directory else {}
        return {"event": {"type": kind, "data": {"sessionID": "ses_1", **data}, **location}}

    steps = [
        told("session.created", "/p"),
        told("session.created", "/elsewhere", sessionID="ses_2"),
        told("session.text.delta", "/p", delta="x"),
        told("session.tool.success", "/p", executed=False),
        told("session.tool.success", "/p", executed=True, id="call_9"),
        told("session.usage.updated", "/p"),
        told("session.execution.interrupted", None, reason="user"),
    ]
    script = {"location": {"directory": "/p", "project": {"id": "x", "directory": "/p"}}, "app": {}, "steps": steps}
    lines, _ = play(tmp_path, script)
    kinds = [json.loads(line)["input"]["event"]["type"] for line in lines[1:-1]]
    wanted = ["session.created", "session.tool.success", "session.usage.updated", "session.execution.interrupted"]
    assert kinds == wanted


def test_a_session_that_began_before_the_plugin_was_up_is_asked_for_once(tmp_path: Path) -> None:
    """A fresh service creates the first session before its plugins are up, and publishes that no second time."""

    def step(session: str, kind: str = "session.execution.started") -> dict[str, Any]:
        return {"event": {"type": kind, "data": {"sessionID": session}, "location": {"directory": "/p"}}}

    steps = [
        step("ses_missed"),
        step("ses_missed"),
        step("ses_old"),
        step("ses_seen", "session.created"),
        step("ses_seen"),
        {"hook": "execute.before", "payload": {"tool": "shell", "sessionID": "ses_hook", "id": "c", "input": {}}},
    ]
    script = {
        "location": {"directory": "/p", "project": {"id": "x", "directory": "/p"}},
        "app": {},
        "steps": steps,
        "sessions": {
            "ses_missed": {"age_ms": 0, "title": "Missed", "parentID": "ses_old"},
            "ses_old": {"age_ms": 3_600_000, "title": "Of an hour ago"},
            "ses_hook": {"age_ms": 0, "title": "Of a hook"},
        },
    }
    lines, said = play(tmp_path, script)
    assert said["asked"] == ["ses_missed", "ses_old", "ses_hook"], "each once, and none whose beginning was seen"
    events = [line["input"]["event"] for line in map(json.loads, lines) if line["hook"] == "event"]
    told = {
        event["properties"]["sessionID"]: (event["type"], event["properties"]["title"])
        for event in events
        if event.get("asked")
    }
    assert told == {
        "ses_missed": ("session.created", "Missed"),
        "ses_old": ("session.updated", "Of an hour ago"),  # it began in another run, which may have recorded it
        "ses_hook": ("session.created", "Of a hook"),
    }
    created = [row.event.session_id for row in build(lines) if row.event.event_name == "session.created"]
    assert sorted(map(str, created)) == ["ses_hook", "ses_missed", "ses_seen"]


def test_it_is_silent_when_it_is_switched_off(tmp_path: Path) -> None:
    """As in OpenCode 1."""
    script = as_opencode2(recorded_lines("apply-patch"))
    lines, said = play(tmp_path, script, AGENT_TRACE_ENABLED="off")
    assert not lines
    assert not said
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("kind", "data", "event"),
    [
        ("session.step.failed", {"assistantMessageID": "m", "error": {}}, StepEnded("s", "m", None)),
        (
            "session.revert.staged",
            {"revert": {"messageID": "m", "partID": "p"}},
            SessionSeen("s", None, None, None, Undone("m", "p")),
        ),
        (
            "session.revert.staged",
            {"revert": {"messageID": "m", "files": [{"file": "b/y.py", "patch": "..."}, {"file": 'q"x.py'}]}},
            SessionSeen("s", None, None, None, Undone("m", None, ("b/y.py", 'q"x.py'))),
        ),
        (
            "session.revert.staged",
            {"revert": {"messageID": "m", "files": []}},
            SessionSeen("s", None, None, None, Undone("m", None, ())),
        ),
        (
            "session.revert.staged",
            {"revert": {"messageID": "m", "files": [{"file": "[REDACTED:token].py"}]}},
            SessionSeen("s", None, None, None, Undone("m")),
        ),
        ("session.revert.cleared", {}, SessionSeen("s", None, None)),
        ("session.revert.committed", {"to": "m"}, RevertKept("s")),
        ("session.renamed", {"title": "x"}, None),
        ("session.tool.input.started", {"assistantMessageID": "m", "id": "c"}, CallOpened("s", "m", "c")),
        ("session.tool.input.started", {"assistantMessageID": "m", "callID": "c"}, CallOpened("s", "m", "c")),
    ],
)
def test_an_event_means_what_it_says(kind: str, data: dict[str, Any], event: object) -> None:
    """Ends of steps that failed count as ends, and undoing is told by events of its own."""
    seen = dialects.read(envelope(Shim().event(kind, {"sessionID": "s", **data}, api=2)))
    assert (seen.session_id, seen.event, seen.note) == ("s", event, None)


def test_a_step_says_who_begins_it() -> None:
    """There are no messages to be told of before."""
    model = {"id": "claude-x", "providerID": "anthropic"}
    data = {"sessionID": "s", "assistantMessageID": "m", "agent": "build", "model": model, "snapshot": "t"}
    seen = dialects.read(envelope(Shim().event("session.step.started", data, api=2)))
    assert isinstance(seen.event, StepBegan)
    assert seen.event.tree == "t"
    assert seen.event.by is not None
    assert (seen.event.by.provider, seen.event.by.model, seen.event.by.agent) == ("anthropic", "claude-x", "build")


def test_a_failed_call_wrote_nothing() -> None:
    """Its arguments are kept for the snapshot to be read against."""
    given = {"tool": "write", "sessionID": "s", "messageID": "m", "id": "c", "input": {"path": "a"}, "status": "error"}
    seen = dialects.read(envelope(Shim().line("tool.execute.after", given, api=2)))
    assert isinstance(seen.event, CallFailed)
    assert (seen.tool, seen.call_id) == ("write", "c")


@pytest.mark.parametrize(
    "odd", [None, 1, "x", [], {}, {"event": 1}, {"event": {"type": "x", "properties": 1}}, {"tool": 1}]
)
@pytest.mark.parametrize("hook", ["event", "hello", "tool.execute.before", "tool.execute.after", "something.new"])
def test_odd_lines_keep_their_place(hook: str, odd: object) -> None:
    """They are stored, with a note where they should have meant something."""
    for built in build([Shim().line(hook, odd, api=2)]):
        assert built.records == ()


def test_tools_are_known_by_their_names_there() -> None:
    """Whether they change files, and whether they may do so unseen."""
    assert [tool for tool in ("edit", "write", "patch", "apply_patch") if dialects.changes_files(2, tool)] == [
        "edit",
        "write",
        "patch",
    ]
    unseen = [
        tool for tool in ("shell", "some_mcp_tool", "read", "subagent", "edit") if dialects.may_change_unseen(2, tool)
    ]
    assert unseen == ["shell", "some_mcp_tool"]
    done = CallDone(
        "patch", msgspec.Raw(b'{"patchText":"*** Begin Patch\\n*** Delete File: x\\n*** End Patch"}'), msgspec.Raw(), ""
    )
    [edit] = dialects.file_edits(2, done)
    assert (edit.path, edit.kind) == ("x", "delete")
    assert dialects.named_paths(2, "patch", done.args) == ("x",)
    assert dialects.named_paths(2, "write", msgspec.Raw(b'{"path":"y","content":""}')) == ("y",)
    for tool in ("edit", "write", "patch"):
        with pytest.raises(ValueError, match=f"{tool} without"):
            dialects.file_edits(2, CallDone(tool, msgspec.Raw(b"{}"), msgspec.Raw(b"{}"), None))


WRITTEN = {"output": {"existed": False}, "metadata": {"files": [{"file": "a", "patch": "@@ -0,0 +1 @@\n+x\n"}]}}
ENDED = {"tool": "write", "sessionID": "s", "messageID": "m", "id": "c", "input": {"path": "/w/a", "content": "x\n"}}


@pytest.mark.parametrize(
    ("hook", "given", "names"),
    [
        ("tool.execute.before", ENDED, ("tool", "sessionID", "messageID", "id", "input")),
        ("tool.execute.after", {**ENDED, "status": "completed", "result": WRITTEN}, (*ENDED, "status", "result")),
    ],
)
def test_what_a_hook_leaves_out_is_not_known(hook: str, given: dict[str, Any], names: tuple[str, ...]) -> None:
    """Each field in turn: the line is stored with the others, and a record only says what is left."""
    for missing in (None, *names):
        (built,) = build([Shim().line(hook, {k: v for k, v in given.items() if k != missing}, api=2)])
        event = built.event
        assert event.event_name == hook
        assert (event.tool, event.session_id, event.message_id, event.call_id) == tuple(
            None if missing == name else given[name] for name in ("tool", "sessionID", "messageID", "id")
        ), missing
        recorded = hook == "tool.execute.after" and missing not in {"tool", "input", "status"}
        assert [row.path for row in built.states] == ["a"] * recorded, missing


@pytest.mark.parametrize(
    "result", [None, {}, {"metadata": {}}, {"metadata": {"files": []}}, {"metadata": {"files": [1]}}]
)
def test_an_edit_without_a_diff_of_its_file_is_known_by_its_words(result: object) -> None:
    """The lines are a guess then, and no other file is named."""
    args = {"path": "/w/a", "oldString": "x", "newString": "y\nz"}
    given = {**ENDED, "tool": "edit", "input": args, "status": "completed", "result": result}
    (built,) = build([Shim().line("tool.execute.after", given, api=2)])
    assert [row.path for row in built.states] == ["a"]
    assert {row.method for row in built.ranges} <= {"fallback", "localised"}
