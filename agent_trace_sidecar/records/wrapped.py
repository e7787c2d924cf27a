"""Which lines of a change are old ones wrapped anew: the same text over more or fewer lines; pure.

A formatter that wraps a line does not write it. Two blocks of lines are the same text if their characters are, but for
white space and for what formatters put at the ends of lines: a comma, a semicolon or a backslash that ends one, and
parentheses around the whole (`return (`, a line, `)`). Quotes of one kind may have become those of the other one, if no
backslash and no quote of the other kind stands beside them. One line that stays one line is not wrapped.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, takewhile
from typing import Final, NamedTuple

from agent_trace_sidecar.opencode.wire import Wrapped
from agent_trace_sidecar.records.diffs import MAX_LINE, Change, compared
from agent_trace_sidecar.records.fingerprints import without_space

MAX_WRAPPED: Final = 2000
"""Blocks of one file; of more the last ones are the formatter's."""
_MAX_STEPS: Final = 300_000
"""Characters of one file that are compared; what lies beyond counts as new."""
_QUOTES: Final = b"'\""
_AT_END: Final = b",;\\("
"""What may end a line of one side alone; `)` may begin one."""


class _Room:
    """How many characters may still be compared."""

    def __init__(self, left: int) -> None:
        self.left = left


def wrapped(before: Sequence[bytes], after: Sequence[bytes], changes: Iterable[Change]) -> tuple[Wrapped, ...]:
    """The blocks of changed lines that hold the text of the lines they replace, in order.

    Args:
        before: the lines of the old file.
        after: the lines of the new one.
        changes: what lies between the two.
    """
    found: list[Wrapped] = []
    room = _Room(_MAX_STEPS)
    for change in changes:
        if _has_blocks(change):
            found.extend(_in_change(before, after, change, room))
    return tuple(found[:MAX_WRAPPED])


def sound(blocks: Iterable[Wrapped]) -> tuple[Wrapped, ...]:
    """Those of some blocks that are ranges of lines: a log may come from anywhere."""
    known = (one for one in blocks if 1 <= one.start_line <= one.end_line <= MAX_LINE)
    return tuple(one for one in known if 1 <= one.old_start_line <= one.old_end_line <= MAX_LINE)[:MAX_WRAPPED]


def _in_change(before: Sequence[bytes], after: Sequence[bytes], change: Change, room: _Room) -> Iterator[Wrapped]:
    first, start = change.old_start - 1, change.new_start - 1
    old = [without_space(line) for line in before[first : first + change.old_count]]
    new = [without_space(line) for line in after[start : start + change.new_count]]
    between = compared(old, new)  # lines of which only the indentation changed are no part of a block
    for one in between or ():
        if _has_blocks(one):
            there, here = one.old_start - 1, one.new_start - 1
            for block in _blocks(old[there : there + one.old_count], new[here : here + one.new_count], room):
                yield Wrapped(
                    start + here + block.new + 1,
                    start + here + block.new_end,
                    first + there + block.old + 1,
                    first + there + block.old_end,
                )


def _has_blocks(change: Change) -> bool:
    return min(change.old_count, change.new_count) > 0 and max(change.old_count, change.new_count) > 1


class _Block(NamedTuple):
    """Lines of both sides, counted from 0; ends are exclusive."""

    old: int
    old_end: int
    new: int
    new_end: int


class _Text:
    """Lines without white space as one text."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self.lines = lines
        self.text = b"".join(lines)
        self.starts = [0, *accumulate(map(len, lines))]
        self.edges = frozenset(self.starts)
        self.optional: set[int] = set()
        """The places of what a formatter may have put there."""
        for start, line in zip(self.starts, lines, strict=False):
            ends, begins = len(line) - len(line.rstrip(_AT_END)), len(line) - len(line.lstrip(b")"))
            self.optional.update(range(start + len(line) - ends, start + len(line)))
            self.optional.update(range(start, start + begins))


def _blocks(old_lines: Sequence[bytes], new_lines: Sequence[bytes], room: _Room) -> Iterator[_Block]:
    """The blocks of a change, each the first one that fits after the one before it."""
    old, new = _Text(old_lines), _Text(new_lines)
    where: dict[int, list[int]] = defaultdict(list)
    for at, line in enumerate(old_lines):
        if line:
            where[_key(line)].append(at)
    there = here = 0
    while here < len(new_lines) and room.left:
        places = where.get(_key(new_lines[here]), ()) if new_lines[here] else ()
        tries = (_block(_Side(old, at), _Side(new, here), room) for at in places[bisect_left(places, there) :])
        block = next((one for one in takewhile(lambda _: room.left, tries) if one), None)
        if block:
            yield block
        there, here = (block.old_end, block.new_end) if block else (there, here + 1)


def _key(line: bytes) -> int:
    return _QUOTES[0] if line[0] in _QUOTES else line[0]


class _Side:
    """How far one side of a block has been compared."""

    def __init__(self, text: _Text, line: int) -> None:
        self.text = text
        self.first = line
        self.place = text.starts[line]
        self.opened = 0
        """Parentheses that only this side has, and that are to be closed."""

    @property
    def char(self) -> bytes:
        """What comes next; empty at the end."""
        return self.text.text[self.place : self.place + 1]

    @property
    def is_at_edge(self) -> bool:
        """Whether whole lines have been compared."""
        return self.place in self.text.edges and self.place > self.text.starts[self.first]

    @property
    def closes(self) -> bool:
        """Whether a parenthesis comes next that closes one of this side only."""
        return bool(self.opened) and self.place in self.text.optional and self.char == b")"

    def skip(self) -> bool:
        """Go past what a formatter may have put here; False if that is not so."""
        change = {b"(": 1, b")": -1}.get(self.char, 0)
        if self.place not in self.text.optional or self.opened + change < 0:
            return False
        self.opened += change
        self.place += 1
        return True

    def end(self) -> int:
        """The line after the last one that was compared."""
        return bisect_left(self.text.starts, self.place)

    def compared(self) -> bytes:
        """What was compared."""
        return self.text.text[self.text.starts[self.first] : self.place]


def _block(left: _Side, right: _Side, room: _Room) -> _Block | None:
    """The smallest block that begins at these two lines; None where their texts differ, or if it is one line each."""
    quotes = False
    while not (left.is_at_edge and right.is_at_edge and not left.opened and not right.opened):
        one, two = left.char, right.char
        if not room.left:
            return None
        room.left -= 1
        if (left.closes and right.is_at_edge and left.skip()) or (right.closes and left.is_at_edge and right.skip()):
            continue
        if one and two and (one == two or (one in _QUOTES and two in _QUOTES)):
            quotes = quotes or one != two
            left.place, right.place = left.place + 1, right.place + 1
        elif not (left.skip() or right.skip()):
            return None
    found = _Block(left.first, left.end(), right.first, right.end())
    if found.old_end - found.old == found.new_end - found.new == 1:
        return None
    return None if quotes and not _have_other_quotes(left.compared(), right.compared()) else found


def _have_other_quotes(one: bytes, two: bytes) -> bool:
    """Whether each of two texts has quotes of one kind, and no backslash: then they enclose the same."""
    return all(b"\\" not in text and (b"'" in text) != (b'"' in text) for text in (one, two))
