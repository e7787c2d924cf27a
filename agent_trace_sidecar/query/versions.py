"""States of files, and finding lines of one state in others that know whose they are; pure."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from agent_trace_sidecar.query.align import NONE, align
from agent_trace_sidecar.query.authors import HUMAN, Author, Carried, Human, Unknown, Wrote, written
from agent_trace_sidecar.query.weight import Weights

_MAX_PLACES: Final = 40
"""How many places of the same line are compared."""


class Version:
    """A state of a file and whose its lines are."""

    __slots__ = ("_loose", "_loose_set", "authors", "hashes", "packed", "path", "worktree")

    def __init__(self, worktree: str, path: str, packed: bytes, hashes: list[int], authors: list[Author]) -> None:
        self.worktree, self.path, self.packed = worktree, path, packed
        self.hashes, self.authors = hashes, authors
        self._loose: list[int] | None = None
        self._loose_set: frozenset[int] | None = None

    @property
    def loose(self) -> list[int]:
        """The hashes without regard to white space."""
        if self._loose is None:
            self._loose = [one >> 32 for one in self.hashes]
        return self._loose

    @property
    def loose_set(self) -> frozenset[int]:
        """The same, for asking whether a line is there; a line without a hash is not."""
        if self._loose_set is None:
            self._loose_set = frozenset(self.loose) - {0}
        return self._loose_set


Places: TypeAlias = dict[int, list[tuple[Version, int]]]
"""Where lines stand, by their hash without white space."""


class Draft:
    """A content whose lines are being assigned."""

    def __init__(self, path: str, hashes: list[int], weights: Weights) -> None:
        self.path, self.hashes, self.weights = path, hashes, weights
        self.loose = [one >> 32 for one in hashes]
        self.authors: list[Author | None] = [None] * len(hashes)
        self._taken: set[int] = set()

    def assign(self, at: int, author: Author) -> None:
        """Settle a line."""
        self.authors[at] = author
        wrote = written(author)
        if wrote is not None:
            self._taken.add(id(wrote))

    def has(self, author: Author) -> bool:
        """Whether this recorded line stands here already."""
        return id(written(author)) in self._taken

    def open_lines(self) -> set[int]:
        """The hashes of lines that are not settled and say something."""
        return {
            self.loose[at]
            for at, author in enumerate(self.authors)
            if author is None and not self.weights.is_weak(self.hashes[at])
        }

    def weight(self, lines: Iterable[int]) -> float:
        """What some lines weigh together."""
        return sum(self.weights.of(self.hashes[at]) for at in lines)


def matched_in_place(draft: Draft, version: Version, least: float, trust: float) -> None:
    """Settle the open lines that stand at their place in another state of the file, in runs of at least a weight."""
    match = align(version.hashes, draft.hashes, draft.weights.is_weak)
    for start, end in _runs(draft, match):
        if draft.weight(range(start, end)) >= least:
            for at in range(start, end):
                draft.assign(at, carried(version.authors[match[at]], trust))


def _runs(draft: Draft, match: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Open lines that follow each other here and there."""
    at = 0
    while at < len(match):
        start = at
        at += 1
        if match[start] == NONE or draft.authors[start] is not None:
            continue
        while at < len(match) and draft.authors[at] is None and match[at] == match[at - 1] + 1:
            at += 1
        yield start, at


class _Block(NamedTuple):
    weight: float
    start: int
    version: Version
    position: int
    size: int


def matched_blocks(draft: Draft, places: Places, needed: Callable[[Author], float], trust: float) -> None:
    """Settle blocks of open lines that stand somewhere else, the heaviest first where several begin at a line.

    Args:
        draft: what is being settled.
        places: where lines may come from.
        needed: the weight that a block must have, asked for its heaviest line.
        trust: how sure such a find is.
    """
    at = 0
    while at < len(draft.hashes):
        at += 1
        if draft.authors[at - 1] is not None or draft.weights.is_weak(draft.hashes[at - 1]):
            continue
        found = [_block(draft, at - 1, version, where) for version, where in _candidates(draft, places, at - 1)]
        good = [one for one in found if one.weight >= needed(one.version.authors[one.position + at - 1 - one.start])]
        if not good:
            continue
        best = max(good, key=lambda one: one.weight)
        for offset in range(best.size):
            draft.assign(best.start + offset, carried(best.version.authors[best.position + offset], trust))
        at = best.start + best.size


def _candidates(draft: Draft, places: Places, at: int) -> Sequence[tuple[Version, int]]:
    return places.get(draft.loose[at], ())[-_MAX_PLACES:]


def _block(draft: Draft, at: int, version: Version, position: int) -> _Block:
    """The longest run of open lines around a line that stands there in the same order."""
    loose, there = draft.loose, version.loose
    start, from_ = at, position
    while start and from_ and draft.authors[start - 1] is None and loose[start - 1] == there[from_ - 1]:
        start, from_ = start - 1, from_ - 1
    end, to = at + 1, position + 1
    while end < len(loose) and to < len(there) and draft.authors[end] is None and loose[end] == there[to]:
        end, to = end + 1, to + 1
    return _Block(draft.weight(range(start, end)), start, version, from_, end - start)


def lost(version: Version, match: Iterable[int]) -> Places:
    """The lines of a state that a matching (see `align`) does not find at their place."""
    places: Places = {}
    still = set(match)
    for at, one in enumerate(version.loose):
        if at not in still and one:
            places.setdefault(one, []).append((version, at))
    return places


def carried(author: Author, trust: float) -> Author:
    """The author of a line that was found elsewhere."""
    match author:
        case Wrote():
            return Carried(author, trust)
        case Carried(wrote, before):
            return Carried(wrote, before * trust)
        case Human():
            return HUMAN
        case Unknown():
            return author
