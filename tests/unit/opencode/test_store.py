"""OpenCode's own store: files that are found, and what is not known is an error."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_trace_sidecar.opencode.history import id_time_ms
from agent_trace_sidecar.opencode.store import ExportedSession, Store, StoreError
from agent_trace_sidecar.opencode.store_files import store_files
from agent_trace_sidecar.opencode.v1_tools import file_edits

SESSION = "CREATE TABLE session (id, parent_id, project_id, directory, title, version, time_created)"
MESSAGE = "CREATE TABLE message (id, session_id, time_created, data)"
PART = "CREATE TABLE part (id, message_id, session_id, time_created, data)"


def database(path: Path, *statements: str) -> Path:
    """Make a database."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return path


def test_every_channel_has_its_file(tmp_path: Path) -> None:
    """OPENCODE_DB names another one, from OpenCode's own folder."""
    folder = tmp_path / "opencode"
    for name in ("opencode.db", "opencode-dev.db", "opencode.db-wal", "other.db"):
        database(folder / name)
    environ = {"XDG_DATA_HOME": str(tmp_path), "HOME": "/nowhere"}
    assert [file.name for file in store_files(environ)] == ["opencode-dev.db", "opencode.db"]
    assert store_files({**environ, "OPENCODE_DB": "x.db"}) == [folder / "x.db"]
    assert store_files({"XDG_DATA_HOME": "/nowhere", "HOME": "/nowhere"}) == []


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        ((), "holds no sessions"),
        (("CREATE TABLE session (id, data)",), "without messages"),
        ((SESSION, MESSAGE, "CREATE TABLE part (id, blob)"), "lacks"),
        (("CREATE TABLE session_v2 (id)",), "without messages"),
        (("CREATE TABLE sessions_v3 (id)",), "holds no sessions"),
    ],
)
def test_a_store_of_an_unknown_version_is_an_error(tmp_path: Path, statements: tuple[str, ...], said: str) -> None:
    """Never zero sessions."""
    with pytest.raises(StoreError, match=said):
        Store(database(tmp_path / "opencode.db", *statements))


def test_what_is_no_database_is_an_error(tmp_path: Path) -> None:
    """Or is not there."""
    (tmp_path / "opencode.db").write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="can't be read"):
        Store(tmp_path / "opencode.db")
    with pytest.raises(StoreError, match="--store"):
        Store(tmp_path / "nothing.db")


def told(source: Store | ExportedSession) -> list[dict[str, Any]]:
    """The events of the only session."""
    (session,) = source.sessions()
    return [json.loads(bytes(one.input))["event"] for one in source.hooks(session)]


def test_messages_and_an_export_of_them_tell_the_same(tmp_path: Path) -> None:
    """For sessions whose events are gone: a prompt, an answer with a call and its step."""
    user: dict[str, Any] = {"role": "user", "time": {"created": 1000}}
    answer: dict[str, Any] = {
        "role": "assistant",
        "modelID": "m",
        "providerID": "p",
        "time": {"created": 2000, "completed": 5000},
    }
    answer |= {"cost": 0.5, "path": {"cwd": "/w", "root": "/w"}}
    call: dict[str, Any] = {
        "type": "tool",
        "tool": "bash",
        "callID": "c",
        "state": {"status": "completed", "time": {"end": 3000}},
    }
    parts: list[tuple[str, str, dict[str, Any]]] = [
        ("prt_1", "msg_1", {"type": "text", "text": "go"}),
        ("prt_2", "msg_2", call),
    ]
    parts.append(("prt_3", "msg_2", {"type": "step-finish", "cost": 0.5}))
    file = database(tmp_path / "opencode" / "opencode.db", SESSION, MESSAGE, PART)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("INSERT INTO session VALUES ('ses_1', NULL, 'pr', '/w', 't', '1.0.0', 900)")
        for name, data in (("msg_1", user), ("msg_2", answer)):
            connection.execute("INSERT INTO message VALUES (?, 'ses_1', 1000, ?)", (name, json.dumps(data)))
        for name, message, data in parts:
            connection.execute("INSERT INTO part VALUES (?, ?, 'ses_1', 1500, ?)", (name, message, json.dumps(data)))
        connection.commit()
    info: dict[str, Any] = {"id": "ses_1", "projectID": "pr", "directory": "/w", "title": "t", "version": "1.0.0"}
    texts: list[tuple[str, dict[str, Any]]] = [("msg_1", user), ("msg_2", answer)]
    messages = [
        {
            "info": data | {"id": name, "sessionID": "ses_1"},
            "parts": [part | {"id": own} for own, message, part in parts if message == name],
        }
        for name, data in texts
    ]
    export = tmp_path / "export.json"
    export.write_text(json.dumps({"info": {**info, "time": {"created": 900, "updated": 900}}, "messages": messages}))
    with Store(file) as store:
        events = told(store)
    assert [event["type"].rpartition(".")[0] for event in events] == [
        "session", "message", "message.part", "message", "message.part", "message.part", "message",
    ]  # fmt: skip
    assert events[3]["properties"]["info"].keys().isdisjoint({"cost"})
    assert [event["properties"] for event in told(ExportedSession(export))][1:] == [
        event["properties"] for event in events
    ][1:]


def test_an_export_that_was_cut_off_is_an_error(tmp_path: Path) -> None:
    """As a pipe leaves it."""
    (tmp_path / "cut.json").write_text('{"info": {"id": "ses_1"}, "messages": [{"in')
    with pytest.raises(StoreError, match="opencode export"):
        ExportedSession(tmp_path / "cut.json")


def test_an_id_holds_its_time() -> None:
    """The last 36 bits of the milliseconds; the rest is that of the session."""
    assert id_time_ms("evt_227a34a1f001h6Df486TA7yWbW", 1_795_961_000_000) == 1_795_961_342_495
    assert id_time_ms("evt_none", 5.0) == 5.0


def test_two_contents_are_compared_where_there_is_no_diff() -> None:
    """As OpenCode 0.15 tells of an edit."""
    args = {"filePath": "/w/a", "oldString": "two", "newString": "TWO"}
    metadata = {"filediff": {"before": "one\ntwo\nthree\n", "after": "one\nTWO\nthree\n"}}
    (edit,) = file_edits("edit", msgspec.Raw(msgspec.json.encode(args)), msgspec.Raw(msgspec.json.encode(metadata)))
    assert "@@ -2 +2 @@\n-two\n+TWO\n" in edit.diffs[0]
