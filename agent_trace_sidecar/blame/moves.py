"""Lines that calls of a session took away in one place and put into another: they stay whose they were; pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from agent_trace_sidecar.blame.authors import Author, Human, Origin, written
from agent_trace_sidecar.blame.versions import Draft, Need, Places, Version, matched_blocks
from agent_trace_sidecar.blame.weight import Weights
from agent_trace_sidecar.records.fingerprints import HASH_BYTES, hashes_of

_SAME_CALL: Final = Need(1.4)
"""What a block must weigh (see `weight.py`) that one call took away and put elsewhere: one line that says something."""
_SAME_SESSION: Final = Need(3.0, complete=_SAME_CALL.weight)
"""The same where two calls of a session did so."""
_WITHIN: Final = timedelta(hours=1)
"""Between these two calls."""
_MAX_BLOCKS: Final = 40
"""Blocks with the same line that are compared, the last ones."""
_TRUST: Final = 0.97


class Removed(NamedTuple):
    """A block of lines that a call took out of a file."""

    record_id: UUID
    session_id: str | None
    at: datetime
    path: str
    start: int
    """The position of its first line in the file before the call, from 0."""
    packed: bytes
    """See `fingerprints.line_hashes`."""


class Moves:
    """The removed blocks of some sessions."""

    def __init__(self) -> None:
        self._holding: dict[tuple[str | None, int], list[Removed]] = defaultdict(list)
        """By session and the hash of a line without white space."""

    def add(self, block: Removed) -> None:
        """Take in a block, in any order."""
        for loose in {one >> 32 for one in hashes_of(block.packed)} - {0}:
            self._holding[block.session_id, loose].append(block)

    def near(self, origin: Origin, lines: Iterable[int]) -> tuple[list[Removed], list[Removed]]:
        """The blocks with some of these lines that a call itself removed, and other calls of its session then."""
        session = origin.session_id
        found = {block: None for one in lines for block in self._holding.get((session, one), ())[-_MAX_BLOCKS:]}
        same = [block for block in found if block.record_id == origin.record_id]
        others = (block for block in found if session and block.record_id != origin.record_id)
        return same, [block for block in others if abs(block.at - origin.at) <= _WITHIN]

    def kept(
        self,
        draft: Draft,
        origin: Origin,
        before: Callable[[Removed], Version | None],
    ) -> dict[int, Author]:
        """The open lines of a draft that a call has only moved, and whose they are; those of a model stay the call's.

        Args:
            draft: the file after the call.
            origin: the call.
            before: the file before a call that removed lines from it.
        """
        found: dict[int, Author] = {}
        wanted = {draft.loose(at) for at in draft.telling()}
        for removed, need in zip(self.near(origin, wanted), (_SAME_CALL, _SAME_SESSION), strict=True):
            places = _places(draft, removed, before)
            is_open = [at for at, author in enumerate(draft.authors) if author is None]
            matched_blocks(draft, places, lambda _, need=need: need, _TRUST)  # type: ignore[misc]
            settled = ((at, draft.authors[at]) for at in is_open)
            found.update((at, author) for at, author in settled if author is not None and written(author) is None)
        return found


def sources(moves: Moves, spans: Iterable[tuple[Origin, bytes | None]], weights: Weights) -> list[str]:
    """The files that lines of some ranges, given with their hashes, may have been moved from, the likeliest first."""
    shared: dict[str, float] = defaultdict(float)
    for origin, packed in spans:
        own = {one >> 32: one for one in hashes_of(packed or b"")}
        for removed in moves.near(origin, own):
            for one in removed:
                weight = sum(weights.of(own[line >> 32]) for line in hashes_of(one.packed) if line >> 32 in own)
                if weight >= _SAME_CALL.weight:
                    shared[one.path] += weight
    return sorted(shared, key=lambda path: (-shared[path], path))


def _places(draft: Draft, removed: Sequence[Removed], before: Callable[[Removed], Version | None]) -> Places:
    """Where the lines of removed blocks stood."""
    places: Places = {}
    for one in removed:
        loose = [line >> 32 for line in hashes_of(one.packed)]
        version = before(one)
        start, end = one.start * HASH_BYTES, one.start * HASH_BYTES + len(one.packed)
        if version is None or version.packed[start:end] != one.packed:
            continue
        # Under the path of the draft, as its own lines: that they are gone from there is evidence enough.
        own = [_first(author) for author in version.authors[one.start : one.start + len(loose)]]
        block = Version(version.worktree, draft.path, one.packed, own)
        for at, line in enumerate(loose):
            places.setdefault(line, []).append((block, at))
    return places


def _first(author: Author) -> Author:
    """Who a line goes back to: a person's may be a model's that was put in another way."""
    return author.instead_of[0] if isinstance(author, Human) and author.instead_of else author
