"""States of files, and finding lines of one state in others that know whose they are; pure."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import chain
from typing import Final, NamedTuple, TypeAlias

from agent_trace_sidecar.blame.align import Gap, align, hashes
from agent_trace_sidecar.blame.authors import HUMAN, Author, Carried, Human, Unknown, Wrote, written
from agent_trace_sidecar.blame.weight import Weights
from agent_trace_sidecar.records.fingerprints import HASH_BYTES, hashes_of

_MAX_PLACES: Final = 40
"""How many places of the same line are compared."""
_COMPLETE: Final = 3
"""Lines that a complete block must have, see `Need.complete`."""


class Version:
    """A state of a file and whose its lines are."""

    def __init__(
        self, worktree: str, path: str, packed: bytes, authors: Sequence[Author], *, is_whole: bool = True
    ) -> None:
        self.worktree, self.path = worktree, path
        self.is_whole = is_whole
        """All of the file is here; else only the lines of a record of which the file is not known."""
        self.packed = packed
        """See `fingerprints.line_hashes`."""
        self.authors = authors

    @cached_property
    def hashes(self) -> list[int]:
        """Of all lines."""
        return hashes_of(self.packed)

    @cached_property
    def loose(self) -> list[int]:
        """The same without regard to white space."""
        return [one >> 32 for one in self.hashes]

    @cached_property
    def loose_set(self) -> frozenset[int]:
        """The same for asking whether a line is there; a line without a hash is not."""
        return frozenset(self.loose) - {0}


Places: TypeAlias = dict[int, list[tuple[Version, int]]]
"""Where lines stand, by their hash without regard to white space."""


def spliced(authors: Sequence[Author], changed: Sequence[Gap]) -> list[Author | None]:
    """The authors of lines after a change: those that stayed keep theirs, those in gaps have none."""
    found: list[Author | None] = list(authors)
    for gap in reversed(changed):
        found[gap.old_start : gap.old_end] = [None] * (gap.new_end - gap.new_start)
    return found


class Draft:
    """A content whose lines are being given to their authors; what is None is open."""

    def __init__(
        self,
        path: str,
        packed: bytes,
        weights: Weights,
        authors: list[Author | None] | None = None,
        gaps: list[Gap] | None = None,
    ) -> None:
        """Make one, of which all lines are open and in one gap unless given."""
        self.path, self.packed, self.weights = path, packed, weights
        count = len(packed) // HASH_BYTES
        self.authors: list[Author | None] = authors if authors is not None else [None] * count
        self.gaps = gaps if gaps is not None else [Gap(0, 0, 0, count)]

    def credit(self, lines: Iterable[int], author: Author | None) -> None:
        """Give lines to an author, or open them again."""
        for at in lines:
            self.authors[at] = author

    def settled(self, others: Iterable[int] = ()) -> list[Author]:
        """All authors: what is still open, in gaps and among some other lines, is a person's."""
        for at in chain(others, *(range(gap.new_start, gap.new_end) for gap in self.gaps)):
            if self.authors[at] is None:
                self.authors[at] = HUMAN
        return self.authors  # type: ignore[return-value] # none of them is None now

    def hash_of(self, at: int) -> int:
        """A line's hash; of a large file few are needed."""
        return int.from_bytes(self.packed[at * HASH_BYTES : (at + 1) * HASH_BYTES], "big")

    def loose(self, at: int) -> int:
        """The same without regard to white space."""
        return self.hash_of(at) >> 32

    def telling(self) -> list[int]:
        """The open lines that are evidence."""
        return [
            at
            for gap in self.gaps
            for at in range(gap.new_start, gap.new_end)
            if self.authors[at] is None and not self.weights.is_weak(self.hash_of(at))
        ]

    def taken(self) -> set[int]:
        """The recorded lines that stand here already, by their objects' ids."""
        recorded = (written(author) for author in self.authors if author is not None)
        return {id(wrote) for wrote in recorded if wrote is not None}

    def weight(self, lines: Iterable[int]) -> float:
        """What some lines weigh together."""
        return sum(self.weights.of(self.hash_of(at)) for at in lines)

    def evidence(self, lines: Iterable[int]) -> float:
        """What some lines weigh together where they are to come from another file."""
        return sum(self.weights.as_evidence(self.hash_of(at)) for at in lines)


def matched_in_place(draft: Draft, version: Version, least: float, trust: float) -> None:
    """Settle the open lines that stand at their place in another state of the file, in runs of at least a weight."""
    for old, new, size in align(version.packed, draft.packed, draft.weights.is_weak):
        start = new
        while start < new + size:
            end = start
            while end < new + size and draft.authors[end] is None:
                end += 1
            if end > start and draft.weight(range(start, end)) >= least:
                for at in range(start, end):
                    draft.authors[at] = carried(version.authors[old + at - new], trust)
            start = end + 1


class _Found(NamedTuple):
    weight: float
    """As evidence."""
    whole: float
    """With boilerplate."""
    start: int
    size: int
    version: Version
    position: int


class Need(NamedTuple):
    """What a block must weigh to be taken for the same lines."""

    weight: float
    share: float = 0.0
    """The part of the block that must be evidence: a frame that everybody types holds some lines that few do."""
    complete: float | None = None
    """What it must weigh if it is all that a place has, and has three lines or more; None for as much as any other."""

    def has(self, found: _Found) -> bool:
        """Whether a block weighs enough."""
        is_complete = found.size == len(found.version.authors) >= _COMPLETE
        least = self.complete if self.complete is not None and is_complete else self.weight
        return bool(found.size) and found.weight >= max(least, self.share * found.whole)


def matched_blocks(
    draft: Draft,
    places: Places,
    needed: Callable[[Author], Need],
    trust: float,
    refused: Callable[[Author], bool] = lambda _: False,
) -> None:
    """Settle blocks of open lines that stand somewhere else, the heaviest first where several begin at a line.

    Args:
        draft: what is being settled.
        places: where lines may come from.
        needed: what a block must weigh, by the line that it was found by.
        trust: how sure such a find is.
        refused: whether a line can't have come from where it stands in another file.
    """
    for at in draft.telling():
        if draft.authors[at] is not None:
            continue
        good = []
        for version, where in places.get(draft.loose(at), ())[-_MAX_PLACES:]:
            one, need = _block(draft, at, version, where, lambda _: False), needed(version.authors[where])
            if need.has(one) and version.path != draft.path:
                one = _block(draft, at, version, where, refused)  # asking costs more than looking
            if need.has(one):
                good.append(one)
        if not good:
            continue
        best = max(good, key=lambda one: one.weight)
        for offset in range(best.size):
            draft.authors[best.start + offset] = carried(best.version.authors[best.position + offset], trust)


def _block(draft: Draft, at: int, version: Version, position: int, refused: Callable[[Author], bool]) -> _Found:
    """The longest run of open lines around a line that stands there in the same order, up to one that is refused."""
    authors, there = draft.authors, version.loose
    foreign = version.path != draft.path

    def same(one: int, two: int) -> bool:
        if authors[one] is not None or draft.loose(one) != there[two]:
            return False
        return not (foreign and refused(version.authors[two]))

    if not same(at, position):
        return _Found(0.0, 0.0, at, 0, version, position)
    start, origin = at, position
    while start and origin and same(start - 1, origin - 1):
        start, origin = start - 1, origin - 1
    end, to = at + 1, position + 1
    while end < len(authors) and to < len(there) and same(end, to):
        end, to = end + 1, to + 1
    whole = draft.weight(range(start, end))
    weight = draft.evidence(range(start, end)) if foreign else whole
    return _Found(weight, whole, start, end - start, version, origin)


def lost(version: Version, gaps: Iterable[Gap]) -> Places:
    """The lines of a state that are no longer at their place."""
    places: Places = {}
    for gap in gaps:
        for at, one in enumerate(hashes(version.packed, gap.old_start, gap.old_end), gap.old_start):
            places.setdefault(one >> 32, []).append((version, at))
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
