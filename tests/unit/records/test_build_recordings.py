"""The builder on recordings of real sessions: rows, records, cuts and replays."""

import json
from typing import Any
from uuid import UUID, uuid5

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_trace_sidecar.opencode.wire import EMPTY, Envelope
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.content import content_hash
from agent_trace_sidecar.records.record import RECORD_NAMESPACE
from agent_trace_sidecar.records.rows import Built
from tests.support.envelopes import INSTANCE, RECORDINGS, recorded
from tests.support.records import checked

# Read off the arguments and diffs of the recordings by hand: seq of the event, tool, model, kind and old path of each
# file, and its ranges as (first line, last line, method, true text where the log alone tells it).
EXPECTED: dict[str, list[Any]] = {
    "apply-patch": [
        (
            28,
            "apply_patch",
            "openai/gpt-5-codex",
            [
                ("lib/a.txt", "update", None, [(2, 3, "diff", None)]),
                ("lib/new.txt", "add", None, [(1, 3, "content", "n1\nn2\nn3")]),
                ("old.txt", "delete", None, []),
                ("lib/moved.txt", "move", "mv.txt", [(2, 2, "diff", None)]),
            ],
            [("lib/a.txt", 2, 2), ("old.txt", 1, 1), ("mv.txt", 2, 2)],
        )
    ],
    "basic-edit-write-bash": [
        (
            23,
            "write",
            "mock/gpt-4o",
            [
                (
                    "src/app.py",
                    "add",
                    None,
                    [
                        (
                            1,
                            6,
                            "content",
                            "def add(a, b):\n    return a + b\n\n\ndef sub(a, b):\n    return a - b",
                        )
                    ],
                )
            ],
            [],
        ),
        (
            56,
            "edit",
            "mock/gpt-4o",
            [("src/app.py", "update", None, [(6, 6, "diff", None), (8, 11, "diff", None)])],
            [],
        ),
        (109, "write", "mock/gpt-4o", [("notes.txt", "add", None, [(1, 2, "content", "one\ntwo")])], []),
    ],
    "killed-mid-tool": [],
    "slash-command": [],
    "subagent-overwrite-crlf-unicode-commit": [
        (
            39,
            "write",
            "anthropic/claude-sonnet-4-5",
            [("sub.txt", "add", None, [(1, 2, "content", "from subagent\nsecond")])],
            [],
        ),
        (
            103,
            "write",
            "anthropic/claude-sonnet-4-5",
            [
                (
                    "existing.txt",
                    "update",
                    None,
                    [(1, 4, "fallback", "line1\nline2 changed\nline3\nline4 \u00e9 \u6f22\u5b57 \U0001f600")],
                )
            ],
            [],
        ),
        (
            108,
            "edit",
            "anthropic/claude-sonnet-4-5",
            [("crlf.txt", "update", None, [(2, 3, "diff", None)])],
            [("crlf.txt", 2, 2)],
        ),
    ],
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_line_of_a_recording_becomes_one_event_row(name: str) -> None:
    """Ids, order and number are the log's, and every payload is the line's own JSON."""
    envelopes = recorded(name)
    builder = Builder(BuildSettings())
    rows = [builder.feed(one).event for one in envelopes]
    assert [(row.event_id, row.seq, row.source_id) for row in rows] == [(e.id, e.seq, e.instance) for e in envelopes]
    for one, row in zip(envelopes, rows, strict=True):
        payload = json.loads(row.payload)
        assert payload["directory"] == one.directory
        assert payload.get("input") == (json.loads(bytes(one.input)) if len(one.input) else None)
        assert payload.get("output") == (json.loads(bytes(one.output)) if len(one.output) else None)


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_records_of_a_recording_are_the_ones_read_off_by_hand(name: str) -> None:
    """Files, kinds, ranges, methods, hashes and deletions of each call that changed files; nothing for the others."""
    found = []
    builder = Builder(BuildSettings())
    for one in recorded(name):
        built = builder.feed(one)
        for row in built.records:
            record = checked(row.record)
            assert row.record_id == uuid5(RECORD_NAMESPACE, str(one.id)) == UUID(str(record["id"]))
            assert record["tool"] == {"name": "opencode", "version": "1.18.33"}
            metadata = record["metadata"]
            hashes = {(r.path, r.start_line, r.end_line): r.content_hash for r in built.ranges}
            files = [
                (
                    file["path"],
                    file["kind"],
                    file.get("old_path"),
                    [
                        (
                            r["start_line"],
                            r["end_line"],
                            r["method"],
                            hashes[file["path"], r["start_line"], r["end_line"]],
                        )
                        for r in file["ranges"]
                    ],
                )
                for file in metadata["io.opencode.files"]
            ]
            gone = [(d["path"], d["start_line"], d["end_line"]) for d in metadata.get("io.opencode.deleted", [])]
            found.append((one.seq, metadata["io.opencode.tool"], row.model_id, files, gone))
    expected = [
        (
            seq,
            tool,
            model,
            [
                (
                    path,
                    kind,
                    old,
                    [(a, b, how, content_hash([text.encode()]) if text else None) for a, b, how, text in spans],
                )
                for path, kind, old, spans in files
            ],
            gone,
        )
        for seq, tool, model, files, gone in EXPECTED[name]
    ]
    assert found == expected


def test_a_subagents_record_names_its_parent_and_its_own_message() -> None:
    """The child session made the call; the link leads to the session that started it."""
    builder = Builder(BuildSettings())
    rows = [row for one in recorded("subagent-overwrite-crlf-unicode-commit") for row in builder.feed(one).records]
    metadata = json.loads(rows[0].record)["metadata"]
    assert metadata["io.opencode.session_id"] == "ses_dfe28b392ffeZQhkgrcZT8Ow8o"
    assert metadata["io.opencode.parent_session_id"] == "ses_dfe28bfd2ffe0zFr5mI1LfPtej"
    assert metadata["io.opencode.message_id"] == "msg_201d74ca9001AsSXSwVMCAJTUi"
    assert metadata["io.opencode.agent"] == "general"


def test_the_first_sight_of_a_message_is_message_created() -> None:
    """OpenCode no longer says so; each message id is created once."""
    builder = Builder(BuildSettings())
    names = [(row.message_id, row.event_name) for row in (builder.feed(e).event for e in recorded("apply-patch"))]
    created = [str(message) for message, name in names if name == "message.created"]
    assert created == sorted(set(created))
    assert len(created) == 3
    assert sum(name == "message.updated" for _, name in names) == 6


def rows_after_cuts(envelopes: list[Envelope], cuts: set[int]) -> list[Built]:
    """The rows when the builder is thrown away at the cuts and another goes on with its dump."""
    builder = Builder(BuildSettings())
    rows = []
    for at, one in enumerate(envelopes):
        if at in cuts:
            state = builder.dump(one.instance)
            builder = Builder(BuildSettings())
            builder.load(one.instance, state)
        rows.append(builder.feed(one))
    return rows


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_log_cut_anywhere_and_continued_gives_the_same_rows(name: str) -> None:
    """Between any two lines, and between all of them."""
    envelopes = recorded(name)
    whole = rows_after_cuts(envelopes, set())
    assert rows_after_cuts(envelopes, set(range(len(envelopes)))) == whole
    for cut in range(1, len(envelopes)):
        builder = Builder(BuildSettings())
        for one in envelopes[:cut]:
            builder.feed(one)
        other = Builder(BuildSettings())
        other.load(envelopes[0].instance, builder.dump(envelopes[0].instance))
        assert [other.feed(one) for one in envelopes[cut : cut + 12]] == whole[cut : cut + 12]


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_log_replayed_twice_gives_the_same_rows(name: str) -> None:
    """Nothing of a row comes from the clock or from chance."""
    assert rows_after_cuts(recorded(name), set()) == rows_after_cuts(recorded(name), set())


FIELDS = [
    *("event", "type", "properties", "part", "info", "state", "status", "input", "metadata", "tool", "role"),
    *("callID", "messageID", "sessionID", "id", "args", "filePath", "content", "oldString", "newString", "diff"),
    *("filediff", "patch", "files", "patchText", "movePath", "edits", "results", "exists"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(FIELDS) | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)


@st.composite
def nearly_right(draw: st.DrawFn) -> Envelope:
    """A line of a real session with a piece of it replaced by anything."""
    name = draw(st.sampled_from([n for n in RECORDINGS if EXPECTED[n]]))
    one = draw(st.sampled_from(recorded(name)))
    side = draw(st.sampled_from(["input", "output"]))
    raw = getattr(one, side)
    value = json.loads(bytes(raw)) if len(raw) else {}
    at = value
    while isinstance(at, dict) and at:
        key = draw(st.sampled_from(sorted(at)))
        if not isinstance(at[key], dict) or draw(st.booleans()):
            at[key] = draw(JSON)
            break
        at = at[key]
    setattr(one, side, msgspec.Raw(msgspec.json.encode(value)))
    return one


@settings(max_examples=150)
@given(one=nearly_right(), at=st.integers() | st.floats(allow_nan=False))
def test_a_line_that_is_nearly_right_is_stored_all_the_same(one: Envelope, at: float) -> None:
    """Any type in any place: one event row whose payload is JSON, and only sound records."""
    one.at = at
    built = Builder(BuildSettings()).feed(one)
    json.loads(built.event.payload)
    for row in built.records:
        checked(row.record)


@settings(max_examples=150)
@given(
    hook=st.sampled_from(["event", "hello", "tool.execute.after", "chat.message"]) | st.text(),
    sides=st.tuples(JSON, JSON),
)
def test_any_json_in_any_hook_is_stored(hook: str, sides: tuple[object, object]) -> None:
    """Also a hook no one has heard of, with neither input nor output."""
    raws = [msgspec.Raw(msgspec.json.encode(side)) if side is not None else EMPTY for side in sides]
    one = Envelope(v=1, id=INSTANCE, seq=1, at=0, instance=INSTANCE, hook=hook, input=raws[0], output=raws[1])
    built = Builder(BuildSettings()).feed(one)
    assert json.loads(built.event.payload).get("input") == sides[0]
    assert len(built.event.event_name) <= 500
