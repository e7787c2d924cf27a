"""Line numbers from diffs and contents, held against what really happened to the lines."""

from difflib import unified_diff

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_trace_sidecar.opencode.events import FileEdit
from agent_trace_sidecar.opencode.wire import LineRange
from agent_trace_sidecar.records.content import content_hash, text_lines
from agent_trace_sidecar.records.diffs import (
    MAX_EDITS,
    Change,
    added,
    carried,
    compared,
    composed,
    explains,
    located,
    merged,
    parse_diff,
    removed,
    shown,
)
from agent_trace_sidecar.records.ranges import attributed, sound

DIFFS = [
    ("an addition", "@@ -1,2 +1,3 @@\n a\n+b\n c\n", [(2, 2)], []),
    ("a deletion", "@@ -1,3 +1,2 @@\n a\n-b\n c\n", [], [(2, 2)]),
    ("a replacement", "@@ -2,1 +2,2 @@\n-b\n+B\n+BB\n", [(2, 3)], [(2, 2)]),
    ("a new file", "--- a\n+++ a\n@@ -0,0 +1,2 @@\n+a\n+b\n", [(1, 2)], []),
    ("a file gone", "@@ -1,2 +0,0 @@\n-a\n-b\n", [], [(1, 2)]),
    ("an addition without context", "@@ -4,0 +5,2 @@\n+x\n+y\n", [(5, 6)], []),
    ("two runs in a hunk", "@@ -1,3 +1,5 @@\n a\n+x\n b\n+y\n c\n", [(2, 2), (4, 4)], []),
    ("two hunks", "@@ -1 +1,2 @@\n a\n+b\n@@ -9 +10 @@\n-i\n+j\n", [(2, 2), (10, 10)], [(9, 9)]),
    (
        "lines that look like headers",
        "--- a\n+++ a\n@@ -1,2 +1,2 @@\n--- old\n+++ new\n @@ -1 +1 @@\n",
        [(1, 1)],
        [(1, 1)],
    ),
    ("blank context without its space", "@@ -1,3 +1,4 @@\n a\n\n+b\n c\n", [(3, 3)], []),
    ("no newline at the end", "@@ -1 +1,2 @@\n-a\n\\ No newline at end of file\n+a\n+b\n", [(1, 2)], [(1, 1)]),
    ("no hunk at all", "--- a\n+++ a\n", [], []),
    ("fewer lines than the header says", "@@ -1,3 +1,4 @@\n a\n+b\n", None, None),
    ("more added than the header says", "@@ -1,2 +1,1 @@\n+a\n+b\n c\n", None, None),
    ("hunks out of order", "@@ -9 +9 @@\n-a\n+b\n@@ -1 +1 @@\n-a\n+b\n", None, None),
    ("text in a hunk", "@@ -1,2 +1,2 @@\n a\nwhat\n", None, None),
    ("a line no file has", "@@ -1 +999999999,1 @@\n-a\n+b\n", None, None),
]


@pytest.mark.parametrize(("text", "new", "old"), [case[1:] for case in DIFFS], ids=[case[0] for case in DIFFS])
def test_a_diffs_hunks_give(text: str, new: list[tuple[int, int]] | None, old: list[tuple[int, int]] | None) -> None:
    """The added lines without their context, and the removed ones; nothing when it contradicts itself."""
    changes = parse_diff(text)
    assert (None if changes is None else added(changes)) == new
    assert (None if changes is None else removed(changes)) == old


LINES = st.lists(st.sampled_from([b"a", b"b", b"c", b"", b"}"]), max_size=14)


@given(LINES, LINES)
def test_compared_contents_are_explained_by_the_changes(before: list[bytes], after: list[bytes]) -> None:
    """Nothing but the changes lies between the two, and no fewer lines could be kept than a longest subsequence."""
    changes = compared(before, after)
    assert changes is not None
    assert explains(changes, before, after)
    kept = len(after) - sum(end - start + 1 for start, end in added(changes))
    assert kept == len(before) - sum(end - start + 1 for start, end in removed(changes))
    table = [[0] * (len(after) + 1) for _ in range(len(before) + 1)]
    for x, one in enumerate(before):
        for y, two in enumerate(after):
            table[x + 1][y + 1] = table[x][y] + 1 if one == two else max(table[x][y + 1], table[x + 1][y])
    assert kept == table[-1][-1]


@given(LINES, LINES)
def test_a_parsed_diff_explains_what_it_was_made_from(before: list[bytes], after: list[bytes]) -> None:
    """Any unified diff with any context is read as the change that made it."""
    one, two = [line.decode() for line in before], [line.decode() for line in after]
    for context in (0, 3):
        changes = parse_diff("\n".join(unified_diff(one, two, "a", "a", n=context, lineterm="")))
        assert changes is not None
        assert explains(changes, before, after)
        assert shown(changes, after)


def test_files_that_differ_too_much_are_not_compared_and_new_files_are() -> None:
    """The search is bounded; lines that stand on one side only cost nothing."""
    size = MAX_EDITS * 3
    one, two = [b"%d" % at for at in range(size)], [b"n%d" % at for at in range(size)]
    assert compared(one, two) == (Change(1, size, 1, ("",) * size),)
    assert compared(one, one[::-1]) is None


@given(LINES, LINES, LINES)
def test_several_diffs_compose_to_what_came_of_the_lines(
    first: list[bytes], second: list[bytes], last: list[bytes]
) -> None:
    """Each line of the last file is either the first file's own or added by one of the diffs."""
    steps = [compared(first, second), compared(second, last)]
    known = [step for step in steps if step is not None]
    grown, gone = composed(known)
    marked: list[tuple[int, bytes]] = list(enumerate(first, 1))
    for step, target in zip(known, (second, last), strict=True):
        for change in reversed(step):
            at = change.old_start - 1
            new = [(0, line) for line in target[change.new_start - 1 : change.new_start - 1 + change.new_count]]
            marked[at : at + change.old_count] = new
    assert merged((at, at) for at, (origin, _) in enumerate(marked, 1) if not origin) == grown
    kept = {origin for origin, _ in marked}
    assert merged((at, at) for at in range(1, len(first) + 1) if at not in kept) == gone


def test_spans_are_carried_around_later_changes() -> None:
    """They move with the lines above them, and are cut where their own lines go."""
    changes = parse_diff("@@ -2,0 +3,2 @@\n+x\n+y\n@@ -5,2 +8,0 @@\n-e\n-f\n")
    assert changes is not None
    assert carried([(1, 2), (3, 5), (6, 6), (8, 9)], changes) == [(1, 2), (5, 6), (8, 9)]


@pytest.mark.parametrize(
    ("block", "expected"),
    [(["  b", "c"], 1), (["}"], None), (["a", "}"], 0), (["", ""], None), (["zz"], None), (["}", "}"], None)],
)
def test_a_block_is_located_only_where_it_stands_once(block: list[str], expected: int | None) -> None:
    """But for indentation and CR."""
    lines = [b"a", b"}"] if block == ["a", "}"] else [b"a", b"    b\r", b"c", b"}", b"", b"}"]
    assert located([line.encode() for line in block], lines) == expected


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (FileEdit("p", "add", content="a\nb"), [(1, 2, "content")]),
        (FileEdit("p", "add", content=""), []),
        (FileEdit("p", "add", content="\n"), [(1, 1, "content")]),
        (FileEdit("p", "update", content="a\r\nb\r\n"), [(1, 2, "fallback")]),
        (FileEdit("p", "update", diffs=("@@ -1 +1 @@\n-a\n+b\n",), replaced=(("a", "b"),)), [(1, 1, "diff")]),
        (FileEdit("p", "update", diffs=("@@ -1,9 +1 @@\n-a",), replaced=(("a", "b\nc"),)), [(1, 2, "fallback")]),
        (FileEdit("p", "update", replaced=(("a", "b\nc\n"), ("x", "y"))), [(1, 2, "fallback")]),
        (FileEdit("p", "update", replaced=(("a", ""),)), []),
        (FileEdit("p", "move", "o"), []),
        (FileEdit("p", "delete", diffs=("@@ -1 +0,0 @@\n-a\n",)), []),
    ],
)
def test_without_the_file_a_tools_words_have_to_do(edit: FileEdit, expected: list[tuple[int, int, str]]) -> None:
    """The method says how far they can be trusted."""
    change = attributed(edit, "p", None, exact_text=True)
    assert [(span.start, span.end, span.method) for span in change.ranges] == expected


def test_several_edits_of_one_file_are_one_set_of_ranges() -> None:
    """A later edit moves what an earlier one added."""
    diffs = ("@@ -3,0 +4,1 @@\n+late\n", "@@ -0,0 +1,2 @@\n+x\n+y\n", "@@ -4,1 +3,0 @@\n-b\n")
    change = attributed(FileEdit("p", "update", diffs=diffs), "p", None, exact_text=True)
    assert [(span.start, span.end) for span in change.ranges] == [(1, 2), (5, 5)]
    assert change.deleted == ((2, 2),)


def test_a_content_hash_is_of_the_files_own_bytes() -> None:
    """CR belongs to its line, the last LF does not."""
    content = b"a\r\nb\r\n"
    assert content_hash(text_lines(content)) == content_hash([content[:-1]])
    assert content_hash([b"a"]) == "blake2s:4a0d129873403037c2cd9b9048203687f6233fb6738956e0349bd4320fec3e90"


@given(st.lists(st.tuples(st.integers(-2, 20), st.integers(-2, 20)), max_size=8))
def test_ranges_are_made_sorted_and_disjoint(spans: list[tuple[int, int]]) -> None:
    """And cover the same lines as the good ones among them."""
    result = sound(LineRange(start, end, "diff") for start, end in spans)
    lines = [line for span in result for line in range(span.start, span.end + 1)]
    assert lines == sorted({line for start, end in spans if 1 <= start <= end for line in range(start, end + 1)})
