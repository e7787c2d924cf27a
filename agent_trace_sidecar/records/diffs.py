"""Differences between two states of a file, as line numbers; pure.

They come from a tool's unified diff (`parse_diff`: its headers are trusted, its text is not, since OpenCode removes
common indentation and CR from it) or from the two contents themselves (`compared`). Lines count from 1, both ends
are included, and a list of spans is always sorted, disjoint and joined where it touches.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

Span: TypeAlias = tuple[int, int]

MAX_LINE: Final = 999_999_999
"""Nine digits: what a line number may have, and less than the columns can hold."""

_HUNK: Final = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")


class Change(NamedTuple):
    """A run of lines replaced by another, either of them possibly empty."""

    old_start: int
    old_count: int
    new_start: int
    new_lines: tuple[str, ...]
    """As the diff shows them: for comparing with the file, not for hashing."""

    @property
    def new_count(self) -> int:
        """How many lines stand where the old ones stood."""
        return len(self.new_lines)


def parse_diff(text: str) -> tuple[Change, ...] | None:
    """The changes of a unified diff of one file, without its context; None when it contradicts its own headers."""
    lines = text.split("\n")
    changes: list[Change] = []
    at = 0
    while at < len(lines):
        header = _HUNK.match(lines[at])
        at += 1
        if header:
            end = _parse_hunk(lines, at, header, changes)
            if end is None:
                return None
            at = end
    ordered = all(
        one.old_start + one.old_count <= two.old_start and one.new_start + one.new_count <= two.new_start
        for one, two in pairwise(changes)
    )
    return (
        tuple(changes)
        if ordered and all(change.new_start + change.new_count <= MAX_LINE for change in changes)
        else None
    )


def _parse_hunk(lines: Sequence[str], at: int, header: re.Match[str], changes: list[Change]) -> int | None:
    """Read one hunk by its counts: a removed line `-- a` would else be read as a file's header."""
    old_left, new_left = int(header[2] or 1), int(header[4] or 1)
    old = int(header[1]) + (old_left == 0)
    new = int(header[3]) + (new_left == 0)
    removed, added = 0, []
    while old_left > 0 or new_left > 0:
        if at >= len(lines):
            return None
        line, at = lines[at], at + 1
        mark = line[:1]
        if mark == "+":
            added.append(line[1:])
            new_left -= 1
        elif mark == "-":
            removed += 1
            old_left -= 1
        elif mark in {" ", ""}:
            _close(changes, old, new, removed, added)
            old, new = old + removed + 1, new + len(added) + 1
            removed, added = 0, []
            old_left, new_left = old_left - 1, new_left - 1
        elif mark != "\\":
            return None
    _close(changes, old, new, removed, added)
    return at if old_left == new_left == 0 else None


def _close(changes: list[Change], old: int, new: int, removed: int, added: list[str]) -> None:
    if removed or added:
        changes.append(Change(old, removed, new, tuple(added)))


def added(changes: Iterable[Change]) -> list[Span]:
    """The spans of the new file that a diff added."""
    return merged((change.new_start, change.new_start + change.new_count - 1) for change in changes if change.new_count)


def removed(changes: Iterable[Change]) -> list[Span]:
    """The spans of the old file that a diff took away."""
    return merged((change.old_start, change.old_start + change.old_count - 1) for change in changes if change.old_count)


def merged(spans: Iterable[Span]) -> list[Span]:
    """Sorted and disjoint; spans that touch become one."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if result and start <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def carried(spans: Sequence[Span], changes: Iterable[Change], *, back: bool = False) -> list[Span]:
    """Where the spans' lines stand after a later diff; `back`: where a newer file's lines stood before it.

    Lines that the diff took away (or, going back, had not yet) are left out.
    """
    kept, start, shift = [], 1, 0
    for change in changes:
        kept.append((start, change.old_start - 1, shift))
        start = change.old_start + change.old_count
        shift += change.new_count - change.old_count
    kept.append((start, MAX_LINE, shift))
    if back:
        kept = [(first + by, last + by, -by) for first, last, by in kept]
    result, at = [], 0
    for first, last, by in kept:
        while at < len(spans) and spans[at][0] <= last:
            low, high = max(first, spans[at][0]), min(last, spans[at][1])
            if low <= high:
                result.append((low + by, high + by))
            if spans[at][1] > last:
                break
            at += 1
    return merged(result)


def composed(diffs: Sequence[Sequence[Change]]) -> tuple[list[Span], list[Span]]:
    """Several diffs one after the other as (added in the last file, taken away from the first)."""
    grown: list[Span] = []
    gone: list[Span] = []
    for at, changes in enumerate(diffs):
        grown = merged([*carried(grown, changes), *added(changes)])
        lost = removed(changes)
        for earlier in reversed(diffs[:at]):
            lost = carried(lost, earlier, back=True)
        gone = merged([*gone, *lost])
    return grown, gone


MAX_EDITS: Final = 500
"""Added and removed lines, besides those that stand in one file only, that `compared` follows; its time grows with
the square of this."""


def has_other_endings(before: Sequence[bytes], after: Sequence[bytes]) -> bool:
    """Whether only one of two contents has CRLF."""
    one, two = (any(line.endswith(b"\r") for line in lines) for lines in (before, after))
    return one != two and bool(before) and bool(after)


def compared(before: Sequence[bytes], after: Sequence[bytes]) -> tuple[Change, ...] | None:
    """The changes between two contents; None when they differ too much to be followed.

    Where one has CRLF and the other has not, the lines are compared without: another line ending is no change.

    Lines that only one of the two has are certainly changed, so the search (Myers' greedy algorithm) runs on the
    others alone: a file that was written anew costs little.
    """
    if has_other_endings(before, after):
        before, after = ([line.removesuffix(b"\r") for line in lines] for lines in (before, after))
    head = 0
    while head < len(before) and head < len(after) and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < min(len(before), len(after)) - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    common = set(before[head : len(before) - tail]) & set(after[head : len(after) - tail])
    left = [at for at in range(head, len(before) - tail) if before[at] in common]
    right = [at for at in range(head, len(after) - tail) if after[at] in common]
    pairs = _matched([before[at] for at in left], [after[at] for at in right])
    if pairs is None:
        return None
    kept = [(left[x], right[y]) for x, y in pairs]
    edges = [(head - 1, head - 1), *kept, (len(before) - tail, len(after) - tail)]
    return tuple(
        Change(one[0] + 2, two[0] - one[0] - 1, one[1] + 2, ("",) * (two[1] - one[1] - 1))
        for one, two in pairwise(edges)
        if two != (one[0] + 1, one[1] + 1)
    )


def _matched(a: Sequence[bytes], b: Sequence[bytes]) -> list[tuple[int, int]] | None:
    """A longest common subsequence as pairs of positions, by furthest-reaching paths; None beyond `MAX_EDITS`."""
    reach = {1: 0}
    trace = []
    for edits in range(min(len(a) + len(b), MAX_EDITS) + 1):
        trace.append(dict(reach))
        for diagonal in range(-edits, edits + 1, 2):
            x = _step(reach, diagonal, edits)
            while x < len(a) and x - diagonal < len(b) and a[x] == b[x - diagonal]:
                x += 1
            reach[diagonal] = x
            if x >= len(a) and x - diagonal >= len(b):
                return _backtracked(trace, len(a), len(b))
    return None


def _step(reach: dict[int, int], diagonal: int, edits: int) -> int:
    """The start on a diagonal: down from the one above, or right from the one below, whichever reaches further."""
    down = diagonal == -edits or (diagonal != edits and reach[diagonal - 1] < reach[diagonal + 1])
    return reach[diagonal + 1] if down else reach[diagonal - 1] + 1


def _backtracked(trace: list[dict[int, int]], x: int, y: int) -> list[tuple[int, int]]:
    pairs = []
    for edits in range(len(trace) - 1, -1, -1):
        reach, diagonal = trace[edits], x - y
        down = diagonal == -edits or (diagonal != edits and reach[diagonal - 1] < reach[diagonal + 1])
        previous = diagonal + 1 if down else diagonal - 1
        start = reach[previous] if edits else 0
        entry = start if down or not edits else start + 1
        while x > entry:
            x, y = x - 1, y - 1
            pairs.append((x, y))
        x, y = start, start - previous if edits else 0
    return pairs[::-1]


def explains(changes: Iterable[Change], before: Sequence[bytes], after: Sequence[bytes]) -> bool:
    """Whether nothing but these changes lies between two contents."""
    start, shift = 0, 0
    for change in changes:
        first = change.old_start - 1
        if before[start:first] != after[start + shift : first + shift]:
            return False
        start = first + change.old_count
        shift += change.new_count - change.old_count
    return before[start:] == after[start + shift :]


def shown(changes: Iterable[Change], after: Sequence[bytes]) -> bool:
    """Whether the added lines are where the diff has them, but for indentation and CR."""
    return all(
        [line.strip() for line in after[change.new_start - 1 : change.new_start - 1 + change.new_count]]
        == [line.strip().encode() for line in change.new_lines]
        for change in changes
    )


def located(block: Sequence[bytes], after: Sequence[bytes]) -> int | None:
    """Where a block stands in a file, but for indentation and CR (0 is the first line); None unless exactly once."""
    wanted = [line.strip() for line in block]
    if not any(wanted):
        return None
    lines = [line.strip() for line in after]
    size = len(wanted)
    first = max(range(size), key=lambda at: len(wanted[at]))
    found = [
        at - first
        for at, line in enumerate(lines)
        if line == wanted[first] and at >= first and lines[at - first : at - first + size] == wanted
    ]
    return found[0] if len(found) == 1 else None
