"""Records that a step's end makes or mends, and ranges that are undone: the builder's rows in a real database."""

import json
from collections.abc import Iterable
from typing import Any

import asyncpg
import msgspec
import pytest

from agent_trace_sidecar.opencode.wire import CallChange, FileChange, LineRange, Observed, VcsObserved
from agent_trace_sidecar.postgres.copy import copy_items
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.fingerprints import line_hashes
from agent_trace_sidecar.records.rows import Built, Item
from tests.support.envelopes import CALL, INSTANCE, MESSAGE, SESSION, Shim, envelope

WRITE = {"filePath": "/w/a.py", "content": "x\ny\n"}
BASH = {"command": "echo"}
CHILD = "ses_2"


def with_observed(line: bytes, observed: Observed) -> bytes:
    """A line as the spool has it."""
    return line[:-1] + b',"observed":' + msgspec.json.encode(observed) + b"}"


def change(path: str, start: int, end: int, method: str = "snapshot") -> FileChange:
    """A change of some lines."""
    hashes = line_hashes(b"%d" % at for at in range(start, end + 1)).hex()
    return FileChange(path, "update", None, (LineRange(start, end, method, None, hashes),), before_hashes="")


def step(shim: Shim, kind: str, *calls: CallChange, message: str = MESSAGE, session: str = SESSION) -> bytes:
    """The start or the end of a step."""
    part = {"type": f"step-{kind}", "snapshot": "a" * 40, "sessionID": session, "messageID": message}
    line = shim.event("message.part.updated", {"part": part})
    return with_observed(line, Observed(calls=calls)) if calls else line


def session(
    shim: Shim, revert: str | None = None, part: str | None = None, name: str = SESSION, diff: str | None = None
) -> bytes:
    """A session as it stands now."""
    info: dict[str, Any] = {"id": name, **({"parentID": SESSION} if name != SESSION else {})}
    if revert:
        info["revert"] = {"messageID": revert, "snapshot": "a", **({"partID": part} if part else {})}
        info["revert"] |= {"diff": diff} if diff is not None else {}
    return shim.event("session.updated", {"sessionID": name, "info": info})


def pending(shim: Shim, tool: str, call: str, message: str, session_id: str = SESSION) -> bytes:
    """The announcement of a call, whose part is named like the call."""
    ids = {"id": f"prt_{call}", "sessionID": session_id, "messageID": message, "callID": call}
    return shim.event(
        "message.part.updated", {"part": {"type": "tool", "tool": tool, "state": {"status": "pending"}, **ids}}
    )


def after(shim: Shim, tool: str, args: object, call: str, session_id: str = SESSION) -> bytes:
    """A call's hook."""
    given = {"tool": tool, "sessionID": session_id, "callID": call, "args": args}
    return shim.line("tool.execute.after", given, {"title": "", "output": "", "metadata": {"exists": False}})


def write(shim: Shim, call: str, message: str, session_id: str = SESSION) -> list[bytes]:
    """A call of write to a file named like the call."""
    args = {"filePath": f"/w/{call}", "content": "x\n"}
    return [pending(shim, "write", call, message, session_id), after(shim, "write", args, call, session_id)]


def mended_step(shim: Shim) -> list[bytes]:
    """A step of a write whose lines were a guess, and a bash call that said nothing."""
    guess = Observed(None, (change("a.py", 1, 9, "fallback"), change("b.py", 1, 1, "content")))
    return [
        shim.assistant(),
        step(shim, "start"),
        pending(shim, "write", CALL, MESSAGE),
        with_observed(after(shim, "write", WRITE, CALL), guess),
        pending(shim, "bash", "call_2", MESSAGE),
        after(shim, "bash", BASH, "call_2"),
        step(
            shim,
            "finish",
            CallChange(CALL, (change("a.py", 2, 2), change("b.py", 1, 1, "content")), VcsObserved("git", "b" * 40)),
            CallChange("call_2", (change("c.py", 5, 6),), VcsObserved("git", "c" * 40)),
            CallChange("call_of_another_step", (change("d.py", 1, 1),)),
        ),
    ]


def fed(lines: Iterable[bytes], cut: int | None = None) -> list[Built]:
    """What a builder makes of lines; at the cut another one goes on with its state."""
    builder = Builder(BuildSettings())
    built = []
    for at, line in enumerate(lines):
        if at == cut:
            state = builder.dump(INSTANCE)
            builder = Builder(BuildSettings())
            builder.load(INSTANCE, state)
        built.append(builder.feed(envelope(line)))
    return built


@pytest.mark.parametrize("cut", [None, 5, 6])
def test_a_calls_record_is_made_or_mended_at_the_end_of_its_step(cut: int | None) -> None:
    """It has the id and the time of the call's own event, also after a restart in between."""
    built = fed(mended_step(Shim()), cut)
    first, last = built[3], built[6]
    assert [row.path for row in last.ranges] == ["a.py", "b.py", "c.py"]
    assert last.refined == (first.records[0][:3],)
    mended, made = last.records
    assert mended[:3] == first.records[0][:3]
    assert (made.event_id, made.recorded_at) == (built[5].event.event_id, built[5].event.occurred_at)
    assert (mended.vcs_revision, made.vcs_revision) == ("b" * 40, "c" * 40)
    assert {row.model_id for row in last.records} == {"anthropic/claude-x"}
    assert [(row.tool, row.message_id, row.call_id) for row in last.ranges][1:] == [
        ("write", MESSAGE, CALL),
        ("bash", MESSAGE, "call_2"),
    ]
    metadata = json.loads(made.record)["metadata"]
    assert (metadata["io.opencode.tool"], metadata["io.opencode.part_id"]) == ("bash", "prt_call_2")


def test_a_step_that_ends_again_makes_no_second_record() -> None:
    """Its calls are forgotten with its end."""
    shim = Shim()
    lines = [*mended_step(shim), step(shim, "finish", CallChange(CALL, (change("a.py", 2, 2),)))]
    assert fed(lines)[-1].records == ()


def test_a_users_own_command_is_no_call_of_a_step() -> None:
    """Whatever the snapshot says."""
    shim = Shim()
    text = {"type": "text", "synthetic": True, "text": "The following tool was executed by the user"}
    done = step(shim, "finish", CallChange("call_2", (change("c.py", 1, 1),)))
    lines = [
        shim.event("message.part.updated", {"part": {**text, "messageID": "msg_u", "sessionID": SESSION}}),
        shim.assistant(parentID="msg_u"),
        pending(shim, "bash", "call_2", MESSAGE),
        after(shim, "bash", BASH, "call_2"),
        done,
    ]
    assert not any(one.records for one in fed(lines))


async def stored(url: str, lines: Iterable[bytes], size: int) -> list[tuple[object, ...]]:
    """The ranges in the database after batches of a size: path, lines, and whether they are void."""
    items = [Item(one, b"", at) for at, one in enumerate(fed(lines))]
    connection = await asyncpg.connect(url)
    try:
        for at in range(0, len(items), size):
            async with connection.transaction():
                await copy_items(connection, items[at : at + size])
        rows = await connection.fetch(
            "SELECT path, start_line, end_line, voided_at IS NOT NULL AS void FROM agent_trace_ranges ORDER BY path"
        )
        assert await connection.fetchval("SELECT count(*) = count(DISTINCT record_id) FROM agent_trace_records")
        states = await connection.fetch("SELECT path FROM agent_trace_file_states ORDER BY path")
        assert [row["path"] for row in states] == sorted({row["path"] for row in rows})
    finally:
        await connection.close()
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("size", [1, 4, 100])
async def test_a_mended_record_takes_the_place_of_the_first_one(migrated_url: str, size: int) -> None:
    """Whether both are in one batch or not."""
    assert await stored(migrated_url, mended_step(Shim()), size) == [
        ("a.py", 2, 2, False),
        ("b.py", 1, 1, False),
        ("c.py", 5, 6, False),
    ]


def undoing(shim: Shim, *states: bytes) -> list[bytes]:
    """Two messages with a call each, a subagent that the second one started, and what the session says then."""
    return [
        shim.assistant("msg_1"),
        *write(shim, "a", "msg_1"),
        shim.assistant("msg_2"),
        *write(shim, "b", "msg_2"),
        *write(shim, "c", "msg_2"),
        pending(shim, "task", "t", "msg_2"),
        session(shim, name=CHILD),
        shim.assistant("msg_3", CHILD),
        *write(shim, "d", "msg_3", CHILD),
        *states,
    ]


def removed(shim: Shim, message: str, part: str | None = None) -> bytes:
    """A message, or a part of one, is gone."""
    kind = "message.part.removed" if part else "message.removed"
    return shim.event(kind, {"sessionID": SESSION, "messageID": message, **({"partID": part} if part else {})})


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize(
    ("states", "void"),
    [
        ([], ""),
        ([("msg_2",)], "bcd"),
        ([("msg_2",), ("msg_2",)], "bcd"),
        ([("msg_2",), ()], ""),
        ([("msg_1",), ("msg_2",)], "bcd"),
        ([("msg_2",), ("msg_1",), ()], ""),
        ([("msg_2", "prt_c")], "cd"),
        ([("msg_3",)], ""),
        ([("msg_2",), "msg_2", ()], "bcd"),
        ([("msg_2",), "msg_2", (), ("msg_1",), ()], "bcd"),
        (["msg_1"], "a"),
        ([{"revert": "msg_1", "diff": "diff --git a/b b/b\n-x\ndiff --git a/d b/d\n-x\n"}], "bd"),
        ([{"revert": "msg_1", "diff": "diff --git a/b b/b\n-x\ndiff --git a/d b/d\n-x\n"}, ()], ""),
        ([{"revert": "msg_2", "diff": "diff --git a/d b/d\n-x\n"}, "msg_2", ()], "d"),
        ([{"revert": "msg_1", "diff": ""}], ""),
        ([("msg_2", "prt_c"), ("", "prt_c"), ()], "cd"),
    ],
    ids=str,
)
async def test_undone_messages_ranges_are_void(migrated_url: str, states: list[Any], void: str, size: int) -> None:
    """Those of the message on, with its subagent's; redo gives back what the undo took, never what is gone for good."""
    shim = Shim()
    lines = undoing(shim)
    for state in states:
        if isinstance(state, str):
            lines.append(removed(shim, state))
        elif isinstance(state, dict):
            lines.append(session(shim, **state))
        elif state and not state[0]:
            lines.append(removed(shim, "msg_2", state[1]))
        else:
            lines.append(session(shim, *state))
    lines += [shim.assistant("msg_4"), *write(shim, "e", "msg_4")]
    rows = await stored(migrated_url, lines, size)
    assert [row[0] for row in rows] == list("abcde")
    assert "".join(str(row[0]) for row in rows if row[3]) == void
