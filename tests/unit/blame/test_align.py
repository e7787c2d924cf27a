"""Which line of an old file is which of a new one."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from agent_trace_sidecar.blame.align import Block, align, gaps
from agent_trace_sidecar.blame.weight import Weights
from agent_trace_sidecar.records.fingerprints import hashes_of, line_hashes

TEXTS = st.lists(st.sampled_from([b"}", b"", b"a = 1", b"  a = 1", b"call(b)", b"return c", b"else:"]), max_size=60)


def aligned(old: list[bytes], new: list[bytes]) -> list[Block]:
    """The blocks of two files."""
    return align(line_hashes(old), line_hashes(new), Weights().is_weak)


def pairs(old: list[bytes], new: list[bytes]) -> list[tuple[int, int]]:
    """The lines that are the same, by their numbers from 0."""
    return [(one.old + at, one.new + at) for one in aligned(old, new) for at in range(one.size)]


@given(TEXTS, TEXTS)
def test_blocks_grow_and_hold_equal_lines(old: list[bytes], new: list[bytes]) -> None:
    """Equal but for white space; with the gaps between them they are all of both files."""
    found = pairs(old, new)
    assert all(one < two for (one, _), (two, _) in itertools.pairwise(found))
    assert all(one < two for (_, one), (_, two) in itertools.pairwise(found))
    assert all(b"".join(old[a].split()) == b"".join(new[b].split()) for a, b in found)
    between = gaps(aligned(old, new), len(old), len(new))
    assert len(found) + sum(gap.old_end - gap.old_start for gap in between) == len(old)
    assert len(found) + sum(gap.new_end - gap.new_start for gap in between) == len(new)


@given(TEXTS)
def test_a_file_is_itself(lines: list[bytes]) -> None:
    """As one block."""
    assert pairs(lines, lines) == [(at, at) for at in range(len(lines))]
    assert len(aligned(lines, lines)) <= 1


@given(st.data())
def test_what_only_grew_or_shrank_keeps_every_line(data: st.DataObject) -> None:
    """Also in files of thousands of lines, where only windows are looked at."""
    count = data.draw(st.integers(1, 3000))
    old = [b"line %d" % at for at in range(count)]
    new = list(old)
    for at in data.draw(st.lists(st.integers(0, count - 1), max_size=8)):
        new[at:at] = [b"new %d %d" % (at, n) for n in range(data.draw(st.sampled_from([1, 3, 70, 300])))]
    assert [a for a, _ in pairs(old, new)] == list(range(count))
    assert [b for _, b in pairs(new, old)] == list(range(count))


@given(st.data())
def test_what_was_rewritten_is_new_and_every_other_line_stays(data: st.DataObject) -> None:
    """Blocks replaced by as many, more or fewer lines, of files whose lines differ: also across windows and ends."""
    count = data.draw(st.integers(1, 3000))
    old, new, stayed = [b"line %d" % at for at in range(count)], list[bytes](), list[tuple[int, int]]()
    cuts = sorted(data.draw(st.sets(st.integers(0, count), max_size=12)))
    for start, end in itertools.pairwise([0, *cuts, count]):
        if data.draw(st.booleans()) or end - start > 200:
            stayed += [(at, len(new) + at - start) for at in range(start, end)]
            new += old[start:end]
        else:
            new += [b"new %d %d" % (start, at) for at in range(data.draw(st.sampled_from([0, 1, end - start, 70])))]
    assert pairs(old, new) == stayed


def test_an_inserted_copy_is_new_and_the_old_lines_stay() -> None:
    """What repeats is settled by the lines around it."""
    old = [b"int f() {", b"  one;", b"}", b"", b"int h() {", b"  three;", b"}"]
    new = [*old[:4], b"int g() {", b"  two;", b"}", b"", *old[4:]]
    assert [b for _, b in pairs(old, new)] == [0, 1, 2, 3, 8, 9, 10]


def test_a_brace_in_a_rewritten_block_is_no_old_line() -> None:
    """Any block has one."""
    old = [b"start", b"gone one", b"gone two", b"}", b"gone three", b"end"]
    new = [b"start", b"new", b"}", b"other", b"more", b"end"]
    assert pairs(old, new) == [(0, 0), (5, 5)]


def test_a_brace_between_lines_that_were_changed_one_by_one_stays() -> None:
    """Line stands against line there."""
    old = [b"start", b"gone one", b"}", b"gone two", b"end"]
    new = [b"start", b"new one", b"}", b"new two", b"end"]
    assert (2, 2) in pairs(old, new)


def test_white_space_does_not_hide_a_line() -> None:
    """Indented anew, aligned, or with another line ending."""
    assert pairs([b"if a:", b"    b = 1"], [b"if c:", b"if a:\r", b"\tb  =  1\r"]) == [(0, 1), (1, 2)]


def test_lines_without_a_hash_are_matched_in_order() -> None:
    """All that is known of them is how many there are."""
    old = line_hashes([b"a"]) + bytes(16) + line_hashes([b"b"])
    assert align(old, old, Weights().is_weak) == [Block(0, 0, 4)]
    assert hashes_of(old)[1:3] == [0, 0]
