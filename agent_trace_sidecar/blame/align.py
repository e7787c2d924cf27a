"""Which line of an old file is which line of a new one, by the lines' hashes; pure.

Lines that both files have exactly once hold the rest in place (patience), the few between them are matched by a
longest common subsequence, first as they are, then without their white space. What repeats (`}`, blank lines) is
thereby settled by position. A repeating line alone, between lines that are gone, is no match: it is what any
rewritten block has.

Files of thousands of lines that differ in a few are the usual case, hundreds of them in a row. So equal stretches are
compared as bytes, and only a window after each difference is compared line by line.
"""

import struct
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, Literal, NamedTuple

from agent_trace_sidecar.records.fingerprints import HASH_BYTES

_NONE: Final = -1
_MAX_CELLS: Final = 400_000
"""Of the table of a longest common subsequence: what is larger, and has no unique line, is left unmatched."""
_MAX_DEPTH: Final = 64
"""How often a region is divided at its unique lines: each time may make one more line unique, in files made for it."""
_WINDOW: Final = 64
"""Lines of both files that are compared after a difference; four times as many each time that is too few."""
_SYNC: Final = 8
"""So many equal lines in a row end a difference."""


class Block(NamedTuple):
    """Lines that are the same in both files."""

    old: int
    new: int
    size: int


class Gap(NamedTuple):
    """New lines and the old lines that stood in their place, either of them possibly none; ends are exclusive."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int


def align(old: bytes, new: bytes, is_weak: Callable[[int], bool]) -> list[Block]:
    """The lines that stayed, in order; no two blocks touch in both files.

    Args:
        old: hashes of the old file's lines, see `fingerprints.line_hashes`.
        new: hashes of the new file's lines.
        is_weak: whether a hash is that of a line which stands in every file.
    """
    counts = len(old) // HASH_BYTES, len(new) // HASH_BYTES
    blocks = _joined(_exact(old, new, *counts))
    loose = [
        block
        for gap in gaps(blocks, *counts)
        if gap.old_start < gap.old_end and gap.new_start < gap.new_end
        for block in loosely(old, new, gap)
    ]
    if loose:
        blocks = _joined(sorted((*blocks, *loose)))
    return _without_weak(old, blocks, counts, is_weak)


def gaps(blocks: Sequence[Block], old_count: int, new_count: int) -> list[Gap]:
    """What lies between the blocks."""
    edges = [Block(0, 0, 0), *blocks, Block(old_count, new_count, 0)]
    found = [Gap(one.old + one.size, two.old, one.new + one.size, two.new) for one, two in pairwise(edges)]
    return [gap for gap in found if gap.old_start < gap.old_end or gap.new_start < gap.new_end]


def hashes(packed: bytes, start: int, end: int) -> tuple[int, ...]:
    """The hashes of some lines as numbers."""
    return struct.unpack_from(f">{end - start}Q", packed, start * HASH_BYTES)


def _exact(old: bytes, new: bytes, old_count: int, new_count: int) -> Iterator[Block]:
    """Blocks of lines that are the same byte for byte."""
    at_old = at_new = 0
    size = _same_start(old, new, at_old, at_new)
    yield Block(0, 0, size)
    at_old = at_new = size
    tail = _same_end(old, new, (old_count, new_count), min(old_count, new_count) - size)
    end_old, end_new = old_count - tail, new_count - tail
    window = _WINDOW
    while at_old < end_old and at_new < end_new:
        to_old, to_new = min(at_old + window, end_old), min(at_new + window, end_new)
        shifted = _matched_window(old, new, (at_old, to_old), (at_new, to_new))
        if to_old == end_old and to_new == end_new:
            yield from shifted
            break
        sync = next((at for at, one in enumerate(shifted) if one.size >= _SYNC), None)
        if sync is None:
            window *= 4
            continue
        yield from shifted[:sync]
        at_old, at_new = shifted[sync].old, shifted[sync].new
        size = min(_same_start(old, new, at_old, at_new), end_old - at_old, end_new - at_new)
        yield Block(at_old, at_new, size)
        at_old, at_new, window = at_old + size, at_new + size, _WINDOW
    yield Block(end_old, end_new, tail)


def _matched_window(old: bytes, new: bytes, there: tuple[int, int], here: tuple[int, int]) -> list[Block]:
    """As `_matched`, of lines of two files of which the first ones differ; usually most at the end are equal."""
    (at_old, to_old), (at_new, to_new) = there, here
    tail = _same_end(old, new, (to_old, to_new), min(to_old - at_old, to_new - at_new))
    end_old, end_new = to_old - tail, to_new - tail
    found = _matched(hashes(old, at_old, end_old), hashes(new, at_new, end_new))
    return _joined(
        [*(Block(one.old + at_old, one.new + at_new, one.size) for one in found), Block(end_old, end_new, tail)]
    )


def _same_start(old: bytes, new: bytes, at_old: int, at_new: int) -> int:
    """How many lines are equal from here on."""
    first, second = at_old * HASH_BYTES, at_new * HASH_BYTES

    def piece(low: int, high: int) -> tuple[bytes, int]:
        return new[second + low * HASH_BYTES : second + high * HASH_BYTES], first + low * HASH_BYTES

    return _equal_lines(old, min(len(old) - first, len(new) - second) // HASH_BYTES, piece, "big")


def _same_end(old: bytes, new: bytes, ends: tuple[int, int], most: int) -> int:
    """How many lines before these are equal, of so many."""
    last, end = ends[0] * HASH_BYTES, ends[1] * HASH_BYTES

    def piece(low: int, high: int) -> tuple[bytes, int]:
        return new[end - high * HASH_BYTES : end - low * HASH_BYTES], last - high * HASH_BYTES

    return _equal_lines(old, most, piece, "little")


def _equal_lines(
    old: bytes, most: int, piece: Callable[[int, int], tuple[bytes, int]], order: Literal["big", "little"]
) -> int:
    """How many of so many lines are equal.

    In steps that grow up to the first piece with a difference, then by halves, and in a small piece by the highest bit
    in which the two differ as numbers; the lines to begin with are the highest bytes in this order.

    Args:
        old: the old file.
        most: how many lines there are to compare.
        piece: lines of the new file, counted from where to begin, and where they would stand in the old one.
        order: the order of bytes in which the first lines to compare are the highest.
    """
    low, step = 0, _WINDOW
    while low < most:
        high = min(low + step, most)
        if not old.startswith(*piece(low, high)):
            break
        low, step = high, step * 2
    else:
        return most
    while high - low > _WINDOW:
        middle = (low + high) // 2
        low, high = (middle, high) if old.startswith(*piece(low, middle)) else (low, middle)
    here, at = piece(low, high)
    there = old[at : at + len(here)]
    differing = (int.from_bytes(here, order) ^ int.from_bytes(there, order)).bit_length()
    return high - -(-differing // (8 * HASH_BYTES))


def loosely(old: bytes, new: bytes, gap: Gap) -> list[Block]:
    """Blocks of lines in a gap that are the same but for white space."""
    left = [one >> 32 for one in hashes(old, gap.old_start, gap.old_end)]
    right = [one >> 32 for one in hashes(new, gap.new_start, gap.new_end)]
    return [Block(one.old + gap.old_start, one.new + gap.new_start, one.size) for one in _matched(left, right)]


def _matched(old: Sequence[int], new: Sequence[int]) -> list[Block]:
    if set(old).isdisjoint(new):
        return []
    gone, added = _missing(old, new), _missing(new, old)
    if gone or added:
        return [Block(gone, added, min(len(old) - gone, len(new) - added))]
    match = [_NONE] * len(new)
    _fill(old, new, match, (0, len(old), 0, len(new)))
    blocks = []
    at = 0
    while at < len(match):
        first, position = at, match[at]
        at += 1
        if position == _NONE:
            continue
        while at < len(match) and match[at] == position + at - first:
            at += 1
        blocks.append(Block(position, first, at - first))
    return blocks


def _missing(one: Sequence[int], other: Sequence[int]) -> int:
    """How many lines at the start of one are missing in the other, where the rest is the same up to the end of either.

    The usual change, which is found without a look at each line. No line may repeat: then nothing else matches as much.
    """
    count = one.index(other[0]) if other[0] in one else 0
    same = min(len(one) - count, len(other))
    if not count or one[count : count + same] != other[:same]:
        return 0
    return count if len({*one, *other}) == len(one) + len(other) - same else 0


def _joined(blocks: Iterable[Block]) -> list[Block]:
    """The same with blocks that touch in both files made one, and without empty ones."""
    result: list[Block] = []
    end_old = end_new = 0
    for one in blocks:
        old, new, size = one
        if result and end_old == old and end_new == new:
            last = result[-1]
            result[-1] = Block(last.old, last.new, last.size + size)
        elif size:
            result.append(one)
        end_old, end_new = old + size, new + size
    return result


def _fill(old: Sequence[int], new: Sequence[int], match: list[int], whole: tuple[int, int, int, int]) -> None:
    """Match the lines of one region: equal ends first, then around the lines that are unique in both."""
    regions = [(whole, 0)]
    while regions:
        (low, high, first, last), depth = regions.pop()
        while low < high and first < last and old[low] == new[first]:
            match[first] = low
            low, first = low + 1, first + 1
        while low < high and first < last and old[high - 1] == new[last - 1]:
            high, last = high - 1, last - 1
            match[last] = high
        if low == high or first == last:
            continue
        anchors = _anchors(old, new, (low, high, first, last)) if depth < _MAX_DEPTH else ()
        if not anchors:
            _subsequence(old, new, match, (low, high, first, last))
            continue
        for at_old, at_new in (*anchors, (high, last)):
            if at_new < last:
                match[at_new] = at_old
            if low < at_old and first < at_new:
                regions.append(((low, at_old, first, at_new), depth + 1))
            low, first = at_old + 1, at_new + 1


def _anchors(old: Sequence[int], new: Sequence[int], region: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    """Lines that are unique on both sides, as many as stand in the same order."""
    low, high, first, last = region
    there = _unique(new[first:last], first)
    return _growing([(at, there[one]) for one, at in _unique(old[low:high], low).items() if one in there])


def _unique(lines: Sequence[int], start: int) -> dict[int, int]:
    """Where those lines stand that occur once, in order."""
    where = dict(zip(lines, range(start, start + len(lines)), strict=True))
    if len(where) == len(lines):
        return where
    counts = Counter(lines)
    return {one: at for one, at in where.items() if counts[one] == 1}


def _growing(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest choice of pairs, sorted by their first number, whose second numbers grow too."""
    values = [value for _, value in pairs]
    if values == sorted(values):
        return list(pairs)
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for at, (_, value) in enumerate(pairs):
        place = bisect_left(tails, value)
        before.append(ends[place - 1] if place else _NONE)
        if place == len(tails):
            tails.append(value)
            ends.append(at)
        else:
            tails[place], ends[place] = value, at
    chosen = []
    at = ends[-1] if ends else _NONE
    while at != _NONE:
        chosen.append(pairs[at])
        at = before[at]
    return chosen[::-1]


def _subsequence(old: Sequence[int], new: Sequence[int], match: list[int], region: tuple[int, int, int, int]) -> None:
    """Match a longest common subsequence; of several the one whose matches stand together and come first."""
    low, high, first, last = region
    common = set(old[low:high]) & set(new[first:last])
    left = [at for at in range(low, high) if old[at] in common]
    right = [at for at in range(first, last) if new[at] in common]
    if not left or len(left) * len(right) > _MAX_CELLS:
        return
    rows = [[0] * (len(right) + 1)]
    for at in reversed(left):
        row, below = [0] * (len(right) + 1), rows[-1]
        for column in range(len(right) - 1, -1, -1):
            row[column] = (
                below[column + 1] + 1 if old[at] == new[right[column]] else max(below[column], row[column + 1])
            )
        rows.append(row)
    rows.reverse()
    x = y = 0
    while x < len(left) and y < len(right):
        if old[left[x]] == new[right[y]] and rows[x][y] == rows[x + 1][y + 1] + 1:
            match[right[y]] = left[x]
            x, y = x + 1, y + 1
        elif rows[x + 1][y] >= rows[x][y + 1]:
            x += 1
        else:
            y += 1


def _without_weak(
    old: bytes, blocks: Sequence[Block], counts: tuple[int, int], is_weak: Callable[[int], bool]
) -> list[Block]:
    """Leave out blocks of weak lines with old lines gone on both sides, unless as many are new before them."""
    kept: list[Block] = []
    for at, one in enumerate(blocks):
        last = kept[-1] if kept else Block(0, 0, 0)
        following = blocks[at + 1].old if at + 1 < len(blocks) else counts[0]
        gone_before = one.old - last.old - last.size
        alone = gone_before and one.old + one.size < following
        replaced = gone_before == one.new - last.new - last.size
        if alone and not replaced and _is_weak(old, one, is_weak):
            continue
        kept.append(one)
    return kept


def _is_weak(old: bytes, block: Block, is_weak: Callable[[int], bool]) -> bool:
    """Whether all lines of a block are weak; most are told by their first line, so not all are unpacked at once."""
    lines = range(block.old, block.old + block.size)
    return all(is_weak(int.from_bytes(old[at * HASH_BYTES : (at + 1) * HASH_BYTES], "big")) for at in lines)
