"""The builder on lines a shim may send: one call, one record, and only of what is known."""

import json
from datetime import UTC, datetime

import pytest

from agent_trace_sidecar.opencode.wire import FileChange, LineRange, Observed, Uncovered, VcsObserved
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.fingerprints import line_hashes, line_keys, packed_tokens
from agent_trace_sidecar.records.rows import FileStateRow
from tests.support.envelopes import CALL, INSTANCE, MESSAGE, SESSION, Shim, envelope
from tests.support.records import checked, feed_all

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


def test_a_record_that_was_made_before_its_message_came_says_so() -> None:
    """The line with the model comes later, from the spool of a dead sidecar."""
    shim = Shim()
    message, pending, _, after = shim.call("write", WRITE, NEW)
    late, in_time = feed_all([pending, after, message]), feed_all([message, pending, after])
    assert late[1].records[0].model_id is None
    assert "arrive later" in json.loads(late[1].event.payload)["notes"][0]
    assert "notes" not in json.loads(in_time[2].event.payload)


def test_a_record_brings_what_its_files_looked_like() -> None:
    """A row for each file of the record, also for one that only lost lines; the project is OpenCode's."""
    shim = Shim()
    hello = shim.line("hello", {"opencode": "1.2.3", "project": {"id": "p1"}})
    line = shim.after("write", WRITE, NEW)
    one, hashes = envelope(line), line_hashes([b"x", b"y"]).hex()
    one.observed = Observed(
        None,
        (
            FileChange(
                "a.py",
                "add",
                ranges=(LineRange(1, 2, "content", None, hashes, packed_tokens([b"x", b"y"]).hex()),),
                before_hashes="",
                after_hashes=hashes,
            ),
            FileChange("b.py", "update", deleted=((3, 4),)),
        ),
    )
    builder = Builder(BuildSettings())
    builder.feed(envelope(hello))
    built = builder.feed(one)
    assert [(s.project, s.worktree, s.path, s.kind) for s in built.states] == [
        ("p1", "/w", "a.py", "add"),
        ("p1", "/w", "b.py", "update"),
    ]
    assert (built.states[0].before_hashes, built.states[0].after_hashes) == (b"", line_hashes([b"x", b"y"]))
    assert (built.states[1].before_hashes, built.states[1].after_hashes) == (None, None)
    span = built.ranges[0]
    assert (span.project, span.tool, span.call_id) == ("p1", "write", CALL)
    assert span.line_hashes == line_hashes([b"x", b"y"])
    assert (span.record_id, span.recorded_at) == (built.states[0].record_id, built.states[0].recorded_at)


def test_a_file_that_only_lost_lines_has_no_conversation() -> None:
    """There is nothing to attribute in it; the file beside it is named."""
    shim = Shim()
    one = envelope(shim.after("write", WRITE, NEW))
    one.observed = Observed(
        None,
        (
            FileChange("b.py", "update", deleted=((3, 4),)),
            FileChange("a.py", "add", ranges=(LineRange(1, 2, "content"),)),
        ),
    )
    (row,) = Builder(BuildSettings()).feed(one).records
    record = json.loads(row.record)
    assert [(file["path"], len(file["conversations"])) for file in record["files"]] == [("a.py", 1)]
    assert [one["path"] for one in record["metadata"]["io.opencode.deleted"]] == ["b.py"]


def test_a_session_that_is_created_says_what_the_files_belong_to() -> None:
    """Where no `hello` has said it."""
    shim = Shim()
    created = shim.event("session.created", {"info": {"id": SESSION, "projectID": "p7"}})
    assert feed_all([created, shim.after("write", WRITE, NEW)])[1].states[0].project == "p7"


def test_only_a_record_without_its_model_says_that_events_are_missing() -> None:
    """Not each event while a number is missing, nor a record whose model is known."""
    shim = Shim()
    shim.line("bye")  # a number that never comes
    lines = [shim.assistant(), shim.pending("write"), shim.after("write", WRITE, NEW), shim.line("chat.message")]
    lines.append(shim.after("write", {**WRITE, "filePath": "/w/b.py"}, NEW, "call_9"))
    notes = [json.loads(built.event.payload).get("notes", []) for built in feed_all(lines)]
    assert notes[:4] == [[], [], [], []]
    assert "earlier events are missing" in notes[4][0]


@pytest.mark.parametrize("project", [None, "", "global"])
def test_files_of_no_repository_belong_to_their_folder(project: str | None) -> None:
    """`global` is OpenCode's word for no repository."""
    shim = Shim()
    lines = [shim.line("hello", {"project": {"id": project}}), shim.after("write", WRITE, NEW)]
    assert feed_all(lines)[1].states[0].project == "/w"


def test_a_repeated_statement_about_a_command_in_the_background_replaces_its_row() -> None:
    """Its key is the same: a second row beside the first would be refused, and the event with it."""
    shim = Shim()
    call = {"tool": "shell", "sessionID": SESSION, "messageID": MESSAGE, "id": CALL}
    going_on = {"output": {"status": "running", "shellID": "sh_1"}}
    done = {**call, "input": {"command": "x &"}, "status": "completed", "result": going_on}
    builder = Builder(BuildSettings())
    builder.feed(envelope(shim.line("tool.execute.after", done, api=2)))
    rows = []
    for message in (MESSAGE, "msg_2"):
        ids = {"sessionID": SESSION, "assistantMessageID": message}
        one = envelope(shim.event("session.step.ended", ids, api=2))
        one.observed = Observed(uncovered=(Uncovered(CALL, "late.txt"), Uncovered(CALL, covered="pkg")))
        built = builder.feed(one)
        rows.append(tuple((row.source_id, row.record_id, row.recorded_at) for row in built.states))
        assert built.refined == rows[-1]
    assert rows[0] == rows[1]
    assert len(set(rows[0])) == 2


def test_what_a_call_leaves_uncovered_is_in_doubt_from_its_beginning_where_another_one_read_the_file_meanwhile() -> (
    None
):
    """At both times, unless a state after it is known; each row has a key of its own."""
    shim = Shim()
    builder = Builder(BuildSettings())
    done = {"tool": "shell", "sessionID": SESSION, "messageID": MESSAGE, "id": CALL}
    ended = {**done, "input": {"command": "sh x"}, "status": "completed", "result": {"output": {}}}
    builder.feed(envelope(shim.line("tool.execute.after", ended, api=2)))
    one = envelope(shim.event("session.step.ended", {"sessionID": SESSION, "assistantMessageID": MESSAGE}, api=2))
    doubted = (Uncovered(CALL, began_ms=1000.0), Uncovered(CALL, "a.txt", began_ms=1000.0, is_over=True))
    one.observed = Observed(uncovered=doubted)
    states = builder.feed(one).states
    assert [(row.path, row.recorded_at.timestamp() == 1.0) for row in states] == [
        ("", True),
        ("", False),
        ("a.txt", True),
    ]
    assert len({row.record_id for row in states}) == 3


@pytest.mark.parametrize("late", ["call", "step"])
@pytest.mark.parametrize("reload", [False, True])
def test_a_step_whose_repository_did_not_answer_may_have_changed_any_file(late: str, reload: bool) -> None:
    """Nobody has seen what its commands wrote: that is not a person's. The next step was observed again."""
    shim = Shim()
    builder = Builder(BuildSettings())
    states: list[FileStateRow] = []
    for message, call in ((MESSAGE, CALL), ("msg_2", "call_2")):
        done = {"tool": "shell", "sessionID": SESSION, "messageID": message, "id": call}
        ended = {**done, "input": {"command": "sh x"}, "status": "completed", "result": {"output": {}}}
        for name, line in (
            ("call", shim.line("tool.execute.after", ended, api=2)),
            ("step", shim.event("session.step.ended", {"sessionID": SESSION, "assistantMessageID": message}, api=2)),
        ):
            one = envelope(line)
            if message == MESSAGE and name == late:
                one.observed = Observed(late=True)
            states += builder.feed(one).states
            if reload:
                state, builder = builder.dump(one.instance), Builder(BuildSettings())
                builder.load(one.instance, state)
    ((kind, path, old_path),) = [(row.kind, row.path, row.old_path) for row in states]
    assert (kind, path, old_path) == ("uncovered", "", None)


def test_lines_that_stood_elsewhere_before_have_no_keys_by_which_they_would_be_found_there() -> None:
    """The call's range has them all the same."""
    lines = [b"alpha = first(1, 2)", b"beta = second(3, 4)"]
    shim = Shim()
    one = envelope(shim.after("write", WRITE, NEW))
    packed = line_hashes(lines).hex()
    ranges = (LineRange(1, 2, "content", None, packed),)
    one.observed = Observed(files=(FileChange("a.txt", "add", ranges=ranges, stood=packed[:8]),))
    (state,) = Builder(BuildSettings()).feed(one).states
    assert state.line_keys == line_keys(state.project, line_hashes(lines[1:]), None)
