"""Which line of an old file is which line of a new one, by the lines' hashes; pure.

Lines that both files have exactly once hold the rest in place (patience), the few between them are matched by a
longest common subsequence, first as they are, then without their white space. What repeats (`}`, blank lines) is
thereby settled by position. A repeating line alone, between lines that are gone, is no match: it is what any
rewritten block has.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

NONE: Final = -1
"""In a matching: this line is new."""

_MAX_CELLS: Final = 400_000
"""Of the table of a longest common subsequence: what is larger, and has no unique line, is left unmatched."""


class Gap(NamedTuple):
    """New lines and the old lines that stood in their place; both ends are exclusive."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int


def align(old: Sequence[int], new: Sequence[int], is_weak: Callable[[int], bool]) -> list[int]:
    """For each new line the position of the same old line, or NONE; positions only grow.

    Args:
        old: hashes of the old file's lines, see `fingerprints.hashes_of`.
        new: hashes of the new file's lines.
        is_weak: whether a hash is that of a line which stands in every file.
    """
    match = [NONE] * len(new)
    _fill(old, new, match, (0, len(old), 0, len(new)))
    loose_old: list[int] | None = None
    for gap in gaps(match, len(old)):
        if gap.old_start < gap.old_end:
            if loose_old is None:
                loose_old, loose_new = [one >> 32 for one in old], [one >> 32 for one in new]
            _fill(loose_old, loose_new, match, gap)
    _drop_weak(old, match, is_weak)
    return match


def gaps(match: Sequence[int], old_count: int) -> list[Gap]:
    """The runs of new lines, each with the old lines between its neighbours."""
    found, start, last = [], 0, NONE
    for at, position in enumerate((*match, old_count)):
        if position == NONE:
            continue
        if at > start:
            found.append(Gap(last + 1, position, start, at))
        start, last = at + 1, position
    return found


def _fill(old: Sequence[int], new: Sequence[int], match: list[int], whole: tuple[int, int, int, int]) -> None:
    """Match the lines of one region: equal ends first, then around the lines that are unique in both."""
    regions = [whole]
    while regions:
        low, high, first, last = regions.pop()
        while low < high and first < last and old[low] == new[first]:
            match[first] = low
            low, first = low + 1, first + 1
        while low < high and first < last and old[high - 1] == new[last - 1]:
            high, last = high - 1, last - 1
            match[last] = high
        if low == high or first == last:
            continue
        anchors = _anchors(old, new, (low, high, first, last))
        if not anchors:
            _subsequence(old, new, match, (low, high, first, last))
            continue
        for at_old, at_new in (*anchors, (high, last)):
            if at_new < last:
                match[at_new] = at_old
            regions.append((low, at_old, first, at_new))
            low, first = at_old + 1, at_new + 1


def _anchors(old: Sequence[int], new: Sequence[int], region: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    """Lines that are unique on both sides, as many as stand in the same order."""
    low, high, first, last = region
    seen_old, seen_new = Counter(old[low:high]), Counter(new[first:last])
    where = {one: at for at, one in enumerate(new[first:last], first) if seen_new[one] == 1 and seen_old[one] == 1}
    pairs = [(at, where[old[at]]) for at in range(low, high) if old[at] in where]
    return _growing(pairs)


def _growing(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest choice of pairs, sorted by their first number, whose second numbers grow too."""
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for at, (_, value) in enumerate(pairs):
        place = bisect_left(tails, value)
        before.append(ends[place - 1] if place else NONE)
        if place == len(tails):
            tails.append(value)
            ends.append(at)
        else:
            tails[place], ends[place] = value, at
    chosen = []
    at = ends[-1] if ends else NONE
    while at != NONE:
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


def _drop_weak(old: Sequence[int], match: list[int], is_weak: Callable[[int], bool]) -> None:
    """Unmatch runs of weak lines whose neighbours in the old file are gone, unless as many are new on that side."""
    kept = set(match) - {NONE}
    at, last = 0, NONE
    while at < len(match):
        if match[at] == NONE:
            at += 1
            continue
        start = at
        while at < len(match) and match[at] == match[start] + at - start:
            at += 1
        before, after = match[start] - 1, match[at - 1] + 1
        alone = before not in kept and after not in kept
        if alone and all(is_weak(old[position]) for position in match[start:at]) and not _replaced(match, start, last):
            match[start:at] = [NONE] * (at - start)
        else:
            last = at - 1


def _replaced(match: Sequence[int], start: int, last: int) -> bool:
    """Whether as many lines are new before this one, back to the last one that stayed, as are gone there."""
    return start - last == match[start] - (match[last] if last != NONE else NONE)
