"""Files as lines that know who wrote them: the hidden truth of the simulator, and what may be said of a line.

A line has one true author, and a set of answers that are not wrong. The set has more than one member where nobody who
sees the contents alone could tell: an order-preserving alignment of identical lines that keeps at least as many lines
as truly stayed is as good as the truth. So of `x` after an inserted `y, x` either `x` may be called the new one.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

AI: Final = "ai"
HUMAN: Final = "human"
MIXED: Final = "mixed"

MAX_CELLS: Final = 400_000
"""Bigger stretches between two certain lines are judged by the truth alone: strictly."""


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One line without its ending. Two lines of the same text are two objects: that is the hidden identity."""

    text: str
    author: str
    accepted: frozenset[str]
    model: str | None = None
    also: frozenset[str] = frozenset()
    """Other models that it may be said to be of."""
    source: str = "start"
    """What wrote it last: `edit`, `bash`, ..., `person`, `start`."""


@dataclass(frozen=True, slots=True)
class Doc:
    """A file."""

    lines: tuple[Line, ...]
    eol: str = "\n"

    @property
    def texts(self) -> list[str]:
        """The lines' texts."""
        return [line.text for line in self.lines]

    def encoded(self) -> bytes:
        """The file's bytes; every line has an ending."""
        return "".join(line.text + self.eol for line in self.lines).encode()

    def plain(self) -> str:
        """The content with LF, whatever the file has."""
        return "".join(line.text + "\n" for line in self.lines)


EMPTY: Final = Doc(())


@dataclass(frozen=True)
class Change:
    """One file before and after an operation; `added`: positions in `after` that the operation wrote."""

    before: Sequence[str]
    after: Sequence[str]
    added: frozenset[int]
    optional: frozenset[int] = field(default_factory=frozenset)
    """Positions that some alignment as good as the truth calls added, and another one does not."""

    @property
    def kept(self) -> int:
        """How many lines truly stayed."""
        return len(self.after) - len(self.added)


def settled(before: Doc, after: Doc, author: str) -> tuple[Doc, Change]:
    """Widen the answers that are right for the lines of `after`, and say what the operation of `author` did.

    A line of `after` that is an object of `before` stayed or was moved, any other was written by the operation.
    """
    places = {id(line): at for at, line in enumerate(before.lines)}
    pairs = _rising([(places[id(line)], at) for at, line in enumerate(after.lines) if id(line) in places])
    answers = [set(line.accepted) for line in after.lines]
    models: list[set[str]] = [set(line.also) for line in after.lines]
    writers = {line.model for line in after.lines if id(line) not in places and line.model}
    optional: set[int] = set()
    for old, new in _open_stretches(before, after, pairs):
        stayed = sum(1 for i, j in pairs if old[0] <= i < old[1] and new[0] <= j < new[1])
        for at, origins, addable in _alternatives(before.lines[slice(*old)], after.lines[slice(*new)], stayed):
            answers[new[0] + at].update(*(other.accepted for other in origins))
            models[new[0] + at].update(other.model for other in origins if other.model)
            models[new[0] + at].update(*(other.also for other in origins))
            if origins and addable:
                optional.add(new[0] + at)
                answers[new[0] + at].add(author)
                models[new[0] + at] |= writers
    lines = tuple(
        line
        if answers[at] == line.accepted and models[at] == line.also
        else replace(line, accepted=frozenset(answers[at]), also=frozenset(models[at]))
        for at, line in enumerate(after.lines)
    )
    added = frozenset(at for at, line in enumerate(after.lines) if id(line) not in places)
    return Doc(lines, after.eol), Change(before.texts, after.texts, added, frozenset(optional))


def _rising(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest part of the pairs that rises in both: what a move passed by."""
    best: list[int] = []
    previous: list[int] = []
    for at, (old, _) in enumerate(pairs):
        low, high = 0, len(best)
        while low < high:
            middle = (low + high) // 2
            if pairs[best[middle]][0] < old:
                low = middle + 1
            else:
                high = middle
        previous.append(best[low - 1] if low else -1)
        best[low : low + 1] = [at]
    result = []
    at = best[-1] if best else -1
    while at >= 0:
        result.append(pairs[at])
        at = previous[at]
    return result[::-1]


def _open_stretches(
    before: Doc, after: Doc, pairs: Sequence[tuple[int, int]]
) -> Iterable[tuple[tuple[int, int], tuple[int, int]]]:
    """The stretches between lines that certainly stayed (their text occurs once) in which something changed."""
    once_before = {text for text, count in Counter(before.texts).items() if count == 1}
    once_after = {text for text, count in Counter(after.texts).items() if count == 1}
    certain = [(-1, -1)]
    certain += [pair for pair in pairs if after.lines[pair[1]].text in once_before & once_after]
    certain.append((len(before.lines), len(after.lines)))
    stayed = set(pairs)
    for (old, new), (next_old, next_new) in pairwise(certain):
        if next_old - old == next_new - new and all((old + n, new + n) in stayed for n in range(1, next_old - old)):
            continue
        if (next_old - old) * (next_new - new) <= MAX_CELLS:
            yield (old + 1, next_old), (new + 1, next_new)


def _alternatives(a: Sequence[Line], b: Sequence[Line], stayed: int) -> Iterable[tuple[int, list[Line], bool]]:
    """For each of the lines `b`: its place, which of `a` it may be, and whether it may be new.

    It may, if some order-preserving alignment of identical lines says so that pairs at least `stayed` lines.
    """
    ahead = _common([line.text for line in a], [line.text for line in b])
    behind = _common([line.text for line in reversed(a)], [line.text for line in reversed(b)])
    for j, line in enumerate(b):
        left = len(b) - j - 1
        origins = [
            other
            for i, other in enumerate(a)
            if other.text == line.text and ahead[i][j] + 1 + behind[len(a) - i - 1][left] >= stayed
        ]
        yield j, origins, any(ahead[i][j] + behind[len(a) - i][left] >= stayed for i in range(len(a) + 1))


def _common(a: Sequence[str], b: Sequence[str]) -> list[list[int]]:
    """Lengths of longest common subsequences of all prefixes."""
    table = [[0] * (len(b) + 1)]
    for one in a:
        above = table[-1]
        row = [0]
        for j, two in enumerate(b):
            row.append(above[j] + 1 if one == two else max(above[j + 1], row[j]))
        table.append(row)
    return table


def explained(change: Change, claimed: frozenset[int]) -> bool:
    """Whether the lines not claimed are an order-preserving part of the old file, and as many as truly stayed."""
    stayed = [text for at, text in enumerate(change.after) if at not in claimed]
    if len(stayed) < change.kept:
        return False
    rest = iter(change.before)
    return all(text in rest for text in stayed)


@dataclass
class Tally:
    """Counts of lines."""

    right: int = 0
    wrong: int = 0
    missed: int = 0
    unknown: int = 0
    """Of the missed lines, those of which nothing was said; the others were said to be something else."""

    def add(self, other: "Tally") -> None:
        """Add the counts of another."""
        self.right += other.right
        self.wrong += other.wrong
        self.missed += other.missed
        self.unknown += other.unknown

    @property
    def precision(self) -> float | None:
        """Of the lines that were claimed, the share that was right."""
        claimed = self.right + self.wrong
        return self.right / claimed if claimed else None

    @property
    def unknown_share(self) -> float | None:
        """Of the lines that were there to be claimed, the share of which nothing was said."""
        there = self.right + self.missed
        return self.unknown / there if there else None

    @property
    def recall(self) -> float | None:
        """Of the lines that were there to be claimed, the share that was."""
        there = self.right + self.missed
        return self.right / there if there else None


def judged(change: Change, claimed: frozenset[int]) -> Tally:
    """Score the lines that a call claims in a file against what it wrote.

    All is right if an alignment as good as the truth explains the claim. Else lines with one right answer count by
    it, and among identical lines with several as many may be claimed as were truly written, whichever they are.
    """
    if explained(change, claimed):
        return Tally(right=len(claimed))
    sure = change.added - change.optional
    missed = len(sure - claimed)
    result = Tally(len(claimed & sure), len(claimed - change.added - change.optional), missed, missed)
    due = Counter(change.after[at] for at in change.optional & change.added)
    got = Counter(change.after[at] for at in change.optional & claimed)
    for text in due.keys() | got.keys():
        missed = max(due[text] - got[text], 0)
        result.add(Tally(min(due[text], got[text]), max(got[text] - due[text], 0), missed, missed))
    return result
