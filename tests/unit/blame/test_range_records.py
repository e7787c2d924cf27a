"""Authors of lines as records, and back: at the same commit, at another, and out of records that others made."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from agent_trace_sidecar.blame.range_records import Lines, authors_in, costs_in, record_of
from agent_trace_sidecar.blame.range_share import LineAuthor, SessionCost
from agent_trace_sidecar.records.trace import Reading, TraceError, encode, read_record

AT = datetime(2026, 1, 31, tzinfo=UTC)
TEXT = [b"import sys", b"", b"def total(prices):", b"    return sum(prices)\r", b"", b"}"]
AI, MIXED = LineAuthor("ai", "a/x", "ses_1"), LineAuthor("mixed", None, None)
HUMAN, UNKNOWN = LineAuthor("human"), LineAuthor("unknown")


def reading(authors: Sequence[LineAuthor] = (HUMAN, UNKNOWN, AI, AI, MIXED, AI), path: str = "a.py") -> Reading:
    """The record of a file at commit `c1`."""
    files = {path: Lines(TEXT, dict(enumerate(authors, 1)))}
    return read_record(encode(record_of("c1", AT, files, {"ses_1": SessionCost("ses_1", "Title", 0.5)}, "1.0")))


def letters(found: dict[int, LineAuthor], count: int = len(TEXT)) -> str:
    """A letter for each line."""
    return "".join(found.get(at, UNKNOWN).contributor[0] for at in range(1, count + 1))


def test_a_record_gives_back_what_it_was_made_of() -> None:
    """Model and session too; what is unknown is not in it, nor the session's title."""
    found = authors_in([reading()], "a.py", "c1", TEXT)
    assert found == {1: HUMAN, 3: AI, 4: AI, 5: MIXED, 6: AI}
    assert costs_in([reading()]) == {"ses_1": SessionCost("ses_1", None, 0.5)}
    assert "Title" not in json.dumps(reading().document)
    assert authors_in([reading()], "b.py", "c1", TEXT) == {}
    assert reading().record.id == reading().record.id != reading([AI]).record.id


def test_a_path_that_is_not_utf8_is_found_again() -> None:
    """Records are JSON: the bytes are replaced on both sides."""
    found = authors_in([reading(path="\udcff.py")], "\udcff.py", "c1", TEXT)
    assert letters(found) == "huaama"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (TEXT, "uuaauu"),
        ([b"# new", *TEXT], "uuuaauu"),
        ([*TEXT[:3], b"    return 0", *TEXT[4:]], "uuuuuu"),
        ([*TEXT, *TEXT], "u" * 12),
        ([*TEXT[2:4], b"x", *TEXT[2:4]], "uuuuu"),
        ([], ""),
    ],
    ids=["same", "moved", "changed", "copied", "twice", "gone"],
)
def test_at_another_commit_only_what_is_found_for_sure_counts(text: list[bytes], wanted: str) -> None:
    """Never what stands everywhere: an import, a blank line, a brace."""
    assert letters(authors_in([reading()], "a.py", "c2", text), len(text)) == wanted


def test_records_that_contradict_each_other_are_unknown() -> None:
    """And those that agree are not."""
    other = reading([HUMAN, UNKNOWN, AI, HUMAN])
    assert letters(authors_in([reading(), other], "a.py", "c1", TEXT)) == "huauma"


def foreign(**fields: object) -> Reading:
    """A record of another tool at `c1`, without hashes."""
    conversation = {"contributor": {"type": "ai"}, "ranges": [{"start_line": 1, "end_line": 2}]}
    document = {
        "version": "0.1.0",
        "id": "7f1e6b0e-6f1c-4c3c-9d5a-111111111111",
        "timestamp": "2026-01-31T12:00:00Z",
        "vcs": {"type": "git", "revision": "c1"},
        "files": [{"path": "a.py", "conversations": [conversation | fields]}],
    }
    return read_record(json.dumps(document))


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, "aauuuu"),
        ({"ranges": [{"start_line": 5, "end_line": 9}]}, "uuuuuu"),
        ({"ranges": [{"start_line": 4, "end_line": 2}]}, "uuuuuu"),
        ({"ranges": [{"start_line": 1, "end_line": 2**62}]}, "uuuuuu"),
        ({"ranges": [{"start_line": 1, "end_line": 1, "content_hash": "sha256:" + "0" * 64}]}, "uuuuuu"),
        ({"ranges": [{"start_line": 1, "end_line": 1, "content_hash": "other:1"}]}, "auuuuu"),
        ({"ranges": [{"start_line": 1, "end_line": 1, "contributor": {"type": "human"}}]}, "huuuuu"),
        ({"contributor": {"type": "unknown"}}, "uuuuuu"),
        ({"contributor": None}, "uuuuuu"),
    ],
)
def test_records_of_other_tools_count_at_their_own_commit(fields: dict[str, object], wanted: str) -> None:
    """Without a hash nothing is claimed elsewhere; what does not fit the file is not claimed at all."""
    try:
        made = foreign(**fields)
    except TraceError:
        assert set(wanted) == {"u"}
        return
    assert letters(authors_in([made], "a.py", "c1", TEXT)) == wanted
    assert set(letters(authors_in([made], "a.py", "c2", TEXT))) == {"u"}


def test_a_record_that_names_many_ranges_is_read_in_time() -> None:
    """Each length of a range is searched for once, and the search is bounded for each file."""
    text = [b"value[%d] = compute(%d)" % (at, at) for at in range(20_000)]
    files = {"a.py": Lines(text, {at: AI for at in range(1, 20_001) if at % 3})}
    record = read_record(encode(record_of("c1", AT, files, {}, "1.0")))
    assert len(authors_in([record], "a.py", "c2", [b"new", *text])) == 13_334
    long = {number: AI for start in range(1, 19_000, 400) for number in range(start, start + start // 100)}
    record = read_record(encode(record_of("c1", AT, {"a.py": Lines(text, long)}, {}, "1.0")))
    assert 0 < len(authors_in([record], "a.py", "c2", [b"new", *text])) < len(long)


@pytest.mark.parametrize("costs", [None, [], "x", {"ses_1": "1"}, {"ses_1": -1}, {"ses_1": None}, {"ses_1": [1]}])
def test_costs_that_are_no_costs_are_left_out(costs: object) -> None:
    """Whoever wrote them."""
    document = foreign().document | {"metadata": {"io.opencode.session_costs": costs}}
    assert costs_in([read_record(json.dumps(document))]) == {}
