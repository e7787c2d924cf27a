"""Records in the specification's words, of this and earlier versions."""

import json
from uuid import UUID

import pytest

from agent_trace_sidecar.records.trace import (
    Contributor,
    InvalidRecordError,
    UnknownVersionError,
    encode,
    model_id,
    parse_record,
    read_record,
    relative_path,
    session_url,
)

RECORD = {
    "version": "0.1.0",
    "id": "01a201d6-8e20-4bd0-b47e-c41a0229429e",
    "timestamp": "2026-11-22T05:59:34.385Z",
    "files": [
        {
            "path": "a.py",
            "conversations": [
                {
                    "url": "opencode://session/s",
                    "contributor": {"type": "ai", "model_id": "openai/gpt-5"},
                    "ranges": [{"start_line": 1, "end_line": 2, "content_hash": "blake2s:00"}],
                }
            ],
        }
    ],
    "vcs": {"type": "git", "revision": "abc"},
    "tool": {"name": "opencode"},
    "metadata": {"io.example": [1, {"a": None}]},
}


def test_a_record_is_read_and_written_without_loss() -> None:
    """Also what other tools put into the metadata."""
    record = parse_record(json.dumps(RECORD))
    assert record.id == UUID(str(RECORD["id"]))
    assert record.files[0].conversations[0].contributor == Contributor("ai", "openai/gpt-5")
    assert parse_record(encode(record)) == record
    assert json.loads(encode(record))["metadata"] == RECORD["metadata"]


@pytest.mark.parametrize("version", ["1.0", "1.0.0", "0.0.1", "0.1"])
def test_earlier_versions_are_read_with_what_they_left_open(version: str) -> None:
    """The reference hook writes null for what it does not know, and now and then a range from line 0."""
    span = {"start_line": 4, "end_line": 0, "content_hash": None}
    conversation = {"url": None, "contributor": {"type": "human"}, "ranges": [span]}
    old = {
        **RECORD,
        "version": version,
        "vcs": None,
        "files": [{"path": "a", "conversations": [conversation]}, {"path": "b", "conversations": None}],
    }
    record = parse_record(json.dumps(old).encode())
    assert (record.version, record.vcs) == (version, None)
    assert [(r.start_line, r.end_line) for r in record.files[0].conversations[0].ranges] == [(1, 4)]
    assert record.files[1].conversations == ()


@pytest.mark.parametrize("version", ["3.0.0", "2.1", "", "one"])
def test_an_unknown_version_is_said_to_be_unknown(version: str) -> None:
    """It is not read as if it were this one."""
    with pytest.raises(UnknownVersionError):
        parse_record(json.dumps({**RECORD, "version": version}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 9999,
        json.dumps({"version": "0.1.0"}),
        json.dumps({**RECORD, "id": None}),
        json.dumps({**RECORD, "version": "1.0", "files": [1]}),
        json.dumps(RECORD).replace('"end_line": 2', '"end_line": 0'),
        json.dumps(RECORD).replace('"start_line": 1', '"start_line": 3'),
    ],
)
def test_what_is_no_record_is_said_to_be_none(text: str) -> None:
    """One kind of error, whatever is wrong."""
    with pytest.raises(InvalidRecordError):
        parse_record(text)


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        ("anthropic", "claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
        ("openrouter", "anthropic/claude-3.5", "openrouter/anthropic/claude-3.5"),
        ("openai", "openai/gpt-5", "openai/gpt-5"),
        (None, "claude-opus-4", "anthropic/claude-opus-4"),
        (None, "gpt-5-codex", "openai/gpt-5-codex"),
        (None, "o3-mini", "openai/o3-mini"),
        (None, "o1", "openai/o1"),
        (None, "gemini-2.5-pro", "google/gemini-2.5-pro"),
        (None, "grok-4", "xai/grok-4"),
        (None, "gpt-oss-120b", "gpt-oss-120b"),
        (None, "olmo-2", "olmo-2"),
        (None, "llama-4", "llama-4"),
        (None, "meta/llama-4", "meta/llama-4"),
        ("openai", None, None),
        (None, "", None),
        ("p", "m" * 300, "p/" + "m" * 248),
    ],
)
def test_a_models_provider_is_added_only_where_it_is_certain(
    provider: str | None, model: str | None, expected: str | None
) -> None:
    """In the words of models.dev, and never longer than the specification allows."""
    assert model_id(provider, model) == expected


@pytest.mark.parametrize(
    ("path", "worktree", "directory", "expected"),
    [
        ("/w/a/b.py", "/w", "/w", "a/b.py"),
        ("b.py", "/w", "/w/a", "a/b.py"),
        ("../b.py", "/w", "/w/a", "b.py"),
        ("/w/./a//b.py", "/w/", "/w", "a/b.py"),
        ("/x/b.py", "/w", "/w", None),
        ("/wx/b.py", "/w", "/w", None),
        ("/w", "/w", "/w", None),
        ("/d/b.py", "/", "/d", "b.py"),
        ("/x/b.py", "/", "/d", None),
        ("/d/b.py", None, "/d", "b.py"),
        ("b.py", None, None, None),
        ("", "/w", "/w", None),
        (r"C:\w\a\b.py", r"c:\W", r"c:\W", "a/b.py"),
        (r"a\b.py", r"C:\w", r"C:\w", "a/b.py"),
        (r"D:\w\b.py", r"C:\w", r"C:\w", None),
        ("/w/caf\u00e9 \u6f22.py", "/w", "/w", "caf\u00e9 \u6f22.py"),
    ],
)
def test_a_path_is_relative_to_the_worktree_or_none(
    path: str, worktree: str | None, directory: str | None, expected: str | None
) -> None:
    """On every system; without a repository the directory is the root."""
    assert relative_path(path, worktree, directory) == expected


def test_a_sessions_url_is_a_uri_whatever_the_id() -> None:
    """The specification wants a URI."""
    assert session_url("ses_1", "msg_1") == "opencode://session/ses_1/message/msg_1"
    assert session_url("a b/\u00e9?") == "opencode://session/a%20b%2F%C3%A9%3F"


@pytest.mark.parametrize("version", ["v0.1.0", "0.2.0", "0.9", "1.1", "2.0"])
def test_what_is_not_known_is_kept(version: str) -> None:
    """Fields of later versions and of tools, on every level; the numbers of later versions are noted."""
    said = json.loads(json.dumps(RECORD))
    said |= {"version": version, "sig": "s", "confidence": 0.5}
    said["files"][0]["agent"] = {"name": "x"}
    said["files"][0]["conversations"][0]["ranges"][0]["line_hashes"] = ["a", "b"]
    reading = read_record(json.dumps(said))
    assert reading.document == {**said, "version": version.removeprefix("v")}
    assert bool(reading.notes) is (version != "v0.1.0")
    assert read_record(json.dumps(reading.document)).document == reading.document


def test_an_id_that_is_no_uuid_gives_the_same_one_each_time() -> None:
    """The tool's own one stays in the metadata."""
    one, two, other = (read_record(json.dumps({**RECORD, "id": name})) for name in ("trace-1", "trace-1", "trace-2"))
    assert one.record.id == two.record.id != other.record.id
    assert one.document["metadata"] == {"io.example": [1, {"a": None}], "io.opencode.foreign_id": "trace-1"}
