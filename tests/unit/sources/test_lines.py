"""Bytes to lines, whatever the pieces they arrive in."""

import os
import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_trace_sidecar.sources import lines as lines_module
from agent_trace_sidecar.sources.lines import Line, LineSplitter, Oversize
from agent_trace_sidecar.sources.stdin import read_lines
from tests.support.waiting import join

LIMIT = 8


def split(pieces: list[bytes]) -> list[Line | Oversize]:
    """Feed pieces and finish."""
    splitter = LineSplitter(LIMIT)
    found = [line for piece in pieces for line in splitter.feed(piece)]
    rest = splitter.finish()
    return [*found, rest] if rest is not None else found


def test_lines_are_cut_at_newlines_and_sizes_add_up() -> None:
    """The last one may lack its newline; sizes count the newline where there is one."""
    assert split([b"a\n\nbc"]) == [Line(b"a", 2), Line(b"", 1), Line(b"bc", 2)]


def test_nuls_before_a_line_are_no_part_of_it() -> None:
    """However many, and whatever the pieces; those within a line stay."""
    assert split([b"\0\0a\n" + bytes(20), bytes(20) + b"b\0c\n", bytes(5)]) == [
        Line(b"a", 4),
        Line(b"b\0c", 44),
        Line(b"", 5),
    ]


def test_a_line_over_the_limit_leaves_its_head_and_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its neighbours are whole."""
    monkeypatch.setattr(lines_module, "HEAD_BYTES", 3)
    assert split([b"ab\n123456789\ncd\n"]) == [Line(b"ab", 3), Oversize(b"123", 10), Line(b"cd", 3)]


@given(
    st.lists(
        st.sampled_from([b"", b"x", b"\n", b"\0", b"\0\0\0", b"12345678", b"123456789", b"\r\n", b"\xff"]),
        max_size=30,
    ),
    st.data(),
)
def test_every_way_to_cut_the_bytes_gives_the_same_lines(parts: list[bytes], data: st.DataObject) -> None:
    """Also in the middle of a line that is too long."""
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[a:b] for a, b in pairwise([0, *cuts, len(whole)])]
    assert split(pieces) == split([whole])
    assert sum(line.size for line in split(pieces)) == len(whole)


@given(st.integers(1, 40))
def test_memory_stays_bounded_whatever_the_line(chunks: int) -> None:
    """An endless line is counted, not kept."""
    splitter = LineSplitter(LIMIT)
    for _ in range(chunks):
        assert splitter.feed(b"x" * 5) == []
        assert sum(map(len, splitter._pieces)) <= max(LIMIT, lines_module.HEAD_BYTES)
    assert splitter.pending == chunks * 5


def test_a_stop_ends_reading_when_nothing_more_can_be_read_at_once() -> None:
    """What is in the pipe already is still taken, a half line is not."""
    (stdin, write), (stop, stop_write) = os.pipe(), os.pipe()
    os.write(write, b"one\ntwo\nhalf")
    os.write(stop_write, b"x")
    found: list[Line | Oversize] = []
    thread = threading.Thread(target=lambda: found.extend(line for group in read_lines(stdin, stop) for line in group))
    thread.start()
    join(thread, 10)
    assert found == [Line(b"one", 4), Line(b"two", 4)]
    for fd in (stdin, write, stop, stop_write):
        os.close(fd)
