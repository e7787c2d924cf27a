"""The builder on recordings of real sessions, and on lines no shim would send."""

import json
from datetime import UTC, datetime
from uuid import UUID, uuid5

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_trace_sidecar.build import Builder, BuildSettings
from agent_trace_sidecar.ranges import content_hash
from agent_trace_sidecar.record import RECORD_NAMESPACE
from agent_trace_sidecar.rows import Built
from agent_trace_sidecar.trace import parse_record
from agent_trace_sidecar.wire import EMPTY, Envelope, FileChange, LineRange, Observed, VcsObserved
from tests.support.envelopes import CALL, DATA, INSTANCE, MESSAGE, RECORDINGS, SESSION, Shim, envelope, recorded

SCHEMA = json.loads((DATA / "agent-trace-record-0.1.0.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)

# Read off the arguments and diffs of the recordings by hand: seq of the event, tool, model, kind and old path of each
# file, and its ranges as (first line, last line, method, true text where the log alone tells it).
EXPECTED = {
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


def feed_all(lines: list[bytes]) -> list[Built]:
    """Everything one builder makes of some lines."""
    builder = Builder(BuildSettings())
    return [builder.feed(envelope(line)) for line in lines]


def records_of(lines: list[bytes]) -> list[dict[str, object]]:
    """The records some lines make, checked against the schema and beyond it."""
    return [checked(row.record) for built in feed_all(lines) for row in built.records]


def checked(text: str) -> dict[str, object]:
    """A record as a dict, after everything that holds for every record was checked."""
    record = json.loads(text)
    VALIDATOR.validate(record)
    for file in record["files"]:
        assert not file["path"].startswith("/")
        assert ".." not in file["path"].split("/")
        for conversation in file["conversations"]:
            last = 0
            for span in conversation["ranges"]:
                assert last < span["start_line"] <= span["end_line"]
                last = span["end_line"]
    assert parse_record(text).version == "0.1.0"
    return dict(record)


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
            assert isinstance(metadata, dict)
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
    created = [message for message, name in names if name == "message.created"]
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


WRITE = {"filePath": "/w/a.py", "content": "x\ny\n"}
NEW = {"exists": False}


def test_a_call_whose_hook_was_lost_makes_its_record_from_the_part() -> None:
    """The completed part says the same as the hook."""
    shim = Shim()
    done = {"status": "completed", "input": WRITE, "output": "", "title": "a.py", "metadata": NEW}
    built = feed_all([shim.assistant(), shim.pending("write"), shim.part("write", done)])
    assert [len(one.records) for one in built] == [0, 0, 1]


@pytest.mark.parametrize("announced", [True, False])
def test_hook_and_part_of_one_call_make_one_record(announced: bool) -> None:
    """Also when the announcement was lost, so that the hook could not name the message."""
    shim = Shim()
    done = {"status": "completed", "input": WRITE, "metadata": NEW}
    lines = [shim.assistant(), shim.pending("write"), shim.after("write", WRITE, NEW), shim.part("write", done)]
    if not announced:
        del lines[1]
    assert [len(one.records) for one in feed_all(lines)][-2:] == [1, 0]


def test_the_same_call_id_in_a_later_turn_is_another_call() -> None:
    """Call ids collide between turns and sessions: the message tells them apart."""
    shim = Shim()
    lines = []
    for message in ("msg_1", "msg_2"):
        ids = (SESSION, message, CALL)
        done = {"status": "completed", "input": WRITE, "metadata": NEW}
        lines += [shim.assistant(message, modelID=f"claude-{message}"), shim.pending("write", ids)]
        lines += [shim.after("write", WRITE, NEW), shim.part("write", done, ids)]
    rows = [row for one in feed_all(lines) for row in one.records]
    assert [row.model_id for row in rows] == ["anthropic/claude-msg_1", "anthropic/claude-msg_2"]


def test_a_failed_call_makes_no_record() -> None:
    """It is stored as the failed part it is."""
    shim = Shim()
    failed = {"status": "error", "input": WRITE, "error": "no"}
    built = feed_all([shim.assistant(), shim.pending("write"), shim.part("write", failed)])
    assert not any(one.records for one in built)
    assert json.loads(built[-1].event.payload)["input"]["event"]["properties"]["part"]["state"]["status"] == "error"


def test_a_users_own_command_is_not_the_ais() -> None:
    """`!cmd` shows as an assistant's call after a synthetic message; it makes no record."""
    shim = Shim()
    text = {
        "type": "text",
        "synthetic": True,
        "text": "The following tool was executed by the user",
        "messageID": "msg_u",
        "sessionID": SESSION,
    }
    lines = [
        shim.event("message.updated", {"info": {"id": "msg_u", "sessionID": SESSION, "role": "user"}}),
        shim.event("message.part.updated", {"part": text}),
        shim.assistant(parentID="msg_u"),
        shim.pending("write"),
        shim.after("write", WRITE, NEW),
    ]
    assert not any(one.records for one in feed_all(lines))


@pytest.mark.parametrize(
    "path", ["/elsewhere/a.py", "../a.py", "/w/../a.py", "/w", "/wx/a.py", "sub/../../a.py", ""], ids=str
)
def test_a_file_outside_the_worktree_is_in_no_record(path: str) -> None:
    """It has no path from the repository's root; the event and a note remain."""
    built = feed_all(Shim().call("write", {"filePath": path, "content": "x"}, NEW))
    assert not any(one.records for one in built)
    assert json.loads(built[-1].event.payload)["notes"]


def test_a_masked_or_mended_text_gets_no_hash() -> None:
    """Its bytes are not those of the file."""
    shim = Shim()
    masked = shim.after("write", WRITE, NEW, redacted={"aws": 1})
    mended = shim.after("write", {"filePath": "/w/b.py", "content": "x\0"}, NEW, call="call_2")
    assert [row.content_hash for built in feed_all([masked, mended]) for row in built.ranges] == [None, None]


def test_what_was_observed_wins_over_what_the_tool_says() -> None:
    """The file itself knows better than the call's arguments; bad ranges are put in order."""
    shim = Shim()
    one = envelope(
        shim.after("edit", {"filePath": "/w/a", "oldString": "a", "newString": "b"}, {"diff": "@@ nonsense"})
    )
    spans = (
        LineRange(7, 9, "diff", "blake2s:00"),
        LineRange(3, 4, "diff"),
        LineRange(8, 10, "diff", "blake2s:11"),
        LineRange(0, 2, "diff"),
    )
    one.observed = Observed(VcsObserved("git", "a" * 40), (FileChange("a", "update", ranges=spans),))
    built = Builder(BuildSettings()).feed(one)
    assert [(r.start_line, r.end_line, r.content_hash) for r in built.ranges] == [
        (3, 4, None),
        (7, 9, "blake2s:00"),
        (10, 10, None),
    ]
    record = checked(built.records[0].record)
    assert record["vcs"] == {"type": "git", "revision": "a" * 40}
    assert (built.records[0].vcs_type, built.records[0].vcs_revision) == ("git", "a" * 40)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("1795327168032", datetime(2026, 11, 22, 5, 59, 28, 32000, tzinfo=UTC)),
        ("1795327168032.5", datetime(2026, 11, 22, 5, 59, 28, 32500, tzinfo=UTC)),
        ("-5", datetime(1970, 1, 1, tzinfo=UTC)),
        ("9007199254740993000000", datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)),
        ("1e300", datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)),
        ("-1e300", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_any_number_is_a_time(at: str, expected: datetime) -> None:
    """Milliseconds are kept; what no calendar has is moved to the nearest time and noted."""
    line = Shim(at=0).line("chat.message").replace(b'"at":1,', f'"at":{at},'.encode())
    event = Builder(BuildSettings()).feed(envelope(line)).event
    assert event.occurred_at == expected
    assert ("notes" in json.loads(event.payload)) == (not 0 <= float(at) < 253402300800000)


def test_the_summary_tells_of_gaps_and_losses() -> None:
    """A number that comes late fills its gap; what the shim gave up is its own count."""
    builder = Builder(BuildSettings())
    shim = Shim()
    lines = [shim.line("hello", {"opencode": "1.2.3"}), *(shim.line("chat.message", lost=2) for _ in range(9))]
    for at in (0, 1, 5, 9, 3, 3):
        builder.feed(envelope(lines[at]))
    builder.account(INSTANCE, 8)
    summary = builder.summary(INSTANCE)
    assert summary.gaps == ((3, 3), (5, 5), (7, 7), (9, 9))
    assert (summary.highest_seq, summary.missing, summary.lost) == (10, 4, 2)
    assert (summary.opencode_version, summary.directory) == ("1.2.3", "/w")


def test_the_tools_version_is_opencodes_unless_it_is_set() -> None:
    """`hello` wins over `local`, a setting wins over both."""
    for setting, expected in (("local", "1.2.3"), ("9", "9")):
        shim = Shim()
        builder = Builder(BuildSettings(tool_version=setting))
        lines = [shim.line("hello", {"opencode": "1.2.3"}), *shim.call("write", WRITE, NEW)]
        rows = [row for line in lines for row in builder.feed(envelope(line)).records]
        assert rows[0].tool_version == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                "event type properties part info state status input metadata tool callID messageID sessionID id args filePath "
                "content oldString newString diff filediff patch files patchText movePath edits results exists role".split()
            )
            | st.text(max_size=5),
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


@settings(max_examples=150, deadline=None)
@given(one=nearly_right(), at=st.integers() | st.floats(allow_nan=False))
def test_a_line_that_is_nearly_right_is_stored_all_the_same(one: Envelope, at: float) -> None:
    """Any type in any place: one event row whose payload is JSON, and only sound records."""
    one.at = at
    built = Builder(BuildSettings()).feed(one)
    json.loads(built.event.payload)
    for row in built.records:
        checked(row.record)


@settings(max_examples=150, deadline=None)
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


def test_a_line_of_an_unknown_api_is_stored_and_noted() -> None:
    """A dialect that is not spoken here makes no record."""
    built = feed_all([Shim().after("write", WRITE, NEW, api=7)])[0]
    assert built.event.event_name == "tool.execute.after"
    assert not built.records
    assert "API 7" in built.event.payload


def test_a_record_without_announcement_has_no_model_and_no_message() -> None:
    """Unknown is left out, not guessed."""
    built = feed_all([Shim().after("write", WRITE, NEW)])[0]
    assert built.records[0].model_id is None
    assert MESSAGE not in built.records[0].record
