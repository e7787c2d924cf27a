"""Whether new lines are old ones partly rewritten or wrapped anew, by their tokens; pure.

See `fingerprints.line_tokens`: one byte for each word or operator, without the punctuation that formatters change.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Container, Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

_ALIKE: Final = 0.5
"""Twice the weight in common by the weight of both: from here on a line is another one rewritten."""
_PART: Final = 0.66
"""The part of a new line's weight that an old, longer line must have had for the same."""
_PART_WEIGHT: Final = 5
_FIRST_WORD: Final = 128
_MAX_CELLS: Final = 250_000
_MAX_LONG: Final = 50_000
"""Tokens, where there are too many for a table of all pairs."""
_RUN: Final = 6


class Kind(Enum):
    """What a new line is to the old ones at its place."""

    SAME = auto()
    PARTLY = auto()
    OTHER = auto()


class Found(NamedTuple):
    """`old` is the position of the old line that the new one comes from."""

    kind: Kind
    old: int = -1


_OTHER: Final = Found(Kind.OTHER)


def compare(old: Sequence[bytes], new: Sequence[bytes]) -> list[Found]:
    """What each new line is to the old ones, all given as their tokens, in order."""
    owners = [at for at, tokens in enumerate(old) for _ in tokens]
    pairs = _common(b"".join(old), b"".join(new))
    per_line: list[Counter[int]] = []
    covered: Counter[int] = Counter()
    start = 0
    for tokens in new:
        mine: Counter[int] = Counter()
        for offset, token in enumerate(tokens):
            if start + offset in pairs:
                mine[owners[pairs[start + offset]]] += _weight(token)
        per_line.append(mine)
        covered.update(mine)
        start += len(tokens)
    whole = {at for at, weight in covered.items() if weight == _sum(old[at])}
    found = [_judge(old, tokens, mine, whole) for tokens, mine in zip(new, per_line, strict=True)]
    return _with_empty(new, found)


def _weight(token: int) -> int:
    """Words count twice as much as operators."""
    return 2 if token >= _FIRST_WORD else 1


def _sum(tokens: bytes) -> int:
    return sum(map(_weight, tokens))


def _judge(old: Sequence[bytes], tokens: bytes, mine: Counter[int], whole: Container[int]) -> Found:
    if not mine:
        return _OTHER
    best, weight = max(mine.items(), key=lambda one: (one[1], -len(old[one[0]])))
    if mine.total() == _sum(tokens) and all(at in whole for at in mine):
        return Found(Kind.SAME, best)
    alike = 2 * weight >= _ALIKE * (_sum(tokens) + _sum(old[best]))
    part = weight >= _PART_WEIGHT and weight >= _PART * _sum(tokens)
    return Found(Kind.PARTLY, best) if alike or part else _OTHER


def _with_empty(new: Sequence[bytes], found: list[Found]) -> list[Found]:
    """A line of nothing but punctuation belongs to the same old line as those before and after it."""
    telling = [at for at, tokens in enumerate(new) if tokens]
    for at, tokens in enumerate(new):
        if tokens:
            continue
        place = bisect_left(telling, at)
        around = telling[max(0, place - 1) : place + 1]
        if around and all(found[one].kind is Kind.SAME for one in around):
            found[at] = found[around[0]]
    return found


def _common(old: bytes, new: bytes) -> dict[int, int]:
    """A common subsequence of tokens: positions in `new` to positions in `old`; the heaviest, but for very long lines.

    Equal beginnings and ends are taken as they are. What lies between them is compared as a whole where that is
    affordable, else by its longest equal runs.
    """
    head = next(
        (at for at, (one, two) in enumerate(zip(old, new, strict=False)) if one != two), min(len(old), len(new))
    )
    most = min(len(old), len(new)) - head
    ends = zip(reversed(old), reversed(new), strict=False)
    tail = next((at for at, (one, two) in enumerate(ends) if one != two or at == most), most)
    pairs = {at: at for at in range(head)}
    pairs.update({len(new) - at: len(old) - at for at in range(1, tail + 1)})
    inner_old, inner_new = old[head : len(old) - tail], new[head : len(new) - tail]
    if len(inner_old) * len(inner_new) <= _MAX_CELLS:
        found = _heaviest(inner_old, inner_new)
    else:
        found = _longest_runs(inner_old, inner_new)
    pairs.update({head + at: head + place for at, place in found.items()})
    return pairs


def _longest_runs(old: bytes, new: bytes) -> dict[int, int]:
    """Runs of `_RUN` tokens and more that occur once on both sides, in order; nothing of what is too long for that."""
    if max(len(old), len(new)) > _MAX_LONG:
        return {}
    seen_old, seen_new = (Counter(text[at : at + _RUN] for at in range(len(text) - _RUN + 1)) for text in (old, new))
    where = {old[at : at + _RUN]: at for at in range(len(old) - _RUN + 1)}
    pairs: dict[int, int] = {}
    reached = at = 0
    while at + _RUN <= len(new):
        run = new[at : at + _RUN]
        place = where.get(run, -1) if seen_new[run] == 1 == seen_old[run] else -1
        if place < reached:
            at += 1
            continue
        while at < len(new) and place < len(old) and new[at] == old[place]:
            pairs[at] = place
            at, place = at + 1, place + 1
        reached = place
    return pairs


def _heaviest(old: bytes, new: bytes) -> dict[int, int]:
    if not old or not new:
        return {}
    rows = [[0] * (len(new) + 1)]
    for one in reversed(old):
        row, below = [0] * (len(new) + 1), rows[-1]
        for at in range(len(new) - 1, -1, -1):
            row[at] = below[at + 1] + _weight(one) if one == new[at] else max(below[at], row[at + 1])
        rows.append(row)
    rows.reverse()
    pairs = {}
    x = y = 0
    while x < len(old) and y < len(new):
        if old[x] == new[y] and rows[x][y] == rows[x + 1][y + 1] + _weight(old[x]):
            pairs[y] = x
            x, y = x + 1, y + 1
        elif rows[x + 1][y] >= rows[x][y + 1]:
            x += 1
        else:
            y += 1
    return pairs
