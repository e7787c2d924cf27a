"""Authorship carried forward through the recorded states of files; pure.

Every recorded change has the file before and after it. What it wrote is the AI's; the rest of `after` keeps the author
that it was in `before`. Between one change's `after` and the next one's `before` nothing was recorded: what is still
there stays whose it was, what is new is a person's (or a formatter's, or git's), unless it is a recorded line that came
from elsewhere: moved, or back from another branch, a stash or another file.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Final, NamedTuple
from uuid import UUID

from agent_trace_sidecar.blame.align import Block, Gap, align, gaps, hashes, loosely
from agent_trace_sidecar.blame.authors import (
    GUESSED,
    HIDDEN,
    HUMAN,
    PARTIAL,
    UNSEEN,
    Author,
    Human,
    Origin,
    Unknown,
    Wrote,
    written,
)
from agent_trace_sidecar.blame.evidence import Evidence, Nothing
from agent_trace_sidecar.blame.moves import Moves, Removed
from agent_trace_sidecar.blame.versions import (
    Draft,
    Need,
    Places,
    Version,
    carried,
    lost,
    matched_blocks,
    matched_in_place,
    spliced,
)
from agent_trace_sidecar.blame.weight import Weights
from agent_trace_sidecar.opencode.wire import Wrapped
from agent_trace_sidecar.records.fingerprints import HASH_BYTES, NO_HASH, hashes_of

MAX_INSTEAD: Final = 200
"""Lost lines that are remembered for the new ones at their place."""
_MAX_VERSIONS: Final = 64
"""How many of the youngest states are searched for lines that came back."""
_MAX_PLACES: Final = 40
"""How many states are counted in which the same line was written."""
_MOST: Final = 0.9
"""A content that has so much in common with the last state follows it, whatever else there is."""
_ROUNDS: Final = 3
"""How many other states of a file may give lines back."""

# What a block of lines must weigh (see `weight.py`) to be taken for the same lines ...
_BACK: Final = 1.0
"""... at their place in another state of the file."""
_MOVED: Final = Need(1.0)
"""... when they are gone from one place of the file and new in another."""
_RETURNED: Final = Need(1.4)
"""... when they stood somewhere else once, and stand nowhere in the file now."""
_COPIED: Final = Need(3.5, share=0.5)
"""... when they are still there too, so that they may be a person's own: three lines at least, see `standing.LEAST`."""
_SNAPSHOT: Final = "snapshot"
_LINE_BY_LINE: Final = frozenset({_SNAPSHOT, "diff", "localised"})
"""Methods whose ranges hold no line that only stands between others."""
_TRUST_MOVED: Final = 0.97
_TRUST_BACK: Final = 0.95
_TRUST_ELSEWHERE: Final = 0.9
_TRUST_BLIND: Final = 0.7


class Span(NamedTuple):
    """One range of a change; the tokens and hashes are those of its lines, as far as they are known."""

    start: int
    end: int
    origin: Origin
    tokens: Sequence[bytes | None] = ()
    hashes: bytes | None = None
    excluded: bool = False
    """It is a guess, and guesses were not requested."""


class Doubt(NamedTuple):
    """From some time on a call may have changed a file, of which nothing is known."""

    since: datetime
    reason: Unknown
    path: str
    """What the file was called then."""


class Change(NamedTuple):
    """What a record did to a file; a content that is not known is None."""

    worktree: str
    path: str
    old_path: str | None
    before: bytes | None
    after: bytes | None
    spans: tuple[Span, ...]
    doubt: Doubt | None = None
    """Set where nothing else is known."""
    record_id: UUID | None = None
    wrapped: tuple[Wrapped, ...] = ()
    """Lines of `after` that are lines of `before` wrapped anew; none where `before` is not known."""


class History:
    """What is known of some files; changes come in the order in which they were made."""

    def __init__(
        self,
        weights: Weights,
        present: Mapping[str, frozenset[int]] | None = None,
        evidence: Evidence | None = None,
        moves: Moves | None = None,
    ) -> None:
        """Make an empty one.

        Args:
            weights: of lines.
            present: what other files hold now, as hashes without white space: what is there has not moved away.
            evidence: the repository's evidence against a claim.
            moves: what calls took away.
        """
        self.weights = weights
        self.unearned: Counter[tuple[UUID, str]] = Counter()
        """Lines in the ranges of a record and path that it did not write: others had, or only white space changed."""
        self._present = present or {}
        self._evidence = evidence or Nothing()
        self._moves = moves or Moves()
        self._coming: dict[tuple[UUID | None, str], Change] = {}
        """Changes that are not taken in yet, oldest first."""
        self._before_of: dict[tuple[UUID | None, str], Version] = {}
        """Files before the changes that are taken in."""
        self._doubts: dict[str, list[tuple[str, Doubt]]] = {}
        """By path, oldest first, with the worktree, which is empty for any."""
        self._doubts_settled: dict[tuple[str, str], int] = {}
        """How many of them are older than the last state, by worktree and path: another worktree's file is another."""
        self.latest: dict[tuple[str, str], Version] = {}
        self._versions: list[Version] = []
        self._exact: dict[tuple[str, bytes], Version] = {}
        self._births: Places = {}
        self._people: dict[str, set[int]] = {}
        """The lines that people wrote, by path: they may have come back since."""

    def add_all(self, changes: Sequence[Change]) -> None:
        """Take in all changes, oldest first."""
        known = (change for change in changes if change.doubt is None)
        self._coming = {(change.record_id, change.path): change for change in known}
        for change in changes:
            self.add(change)
            self._coming.pop((change.record_id, change.path), None)

    def add(self, change: Change) -> None:
        """Take in a change."""
        if change.doubt is not None:
            self._doubts.setdefault(change.path, []).append((change.worktree, change.doubt))
            return
        if change.after is None:
            self._add_without_file(change)
            return
        last = self.latest.get((change.worktree, change.path))
        before = self._before(change)
        if change.old_path:
            self._people.setdefault(change.path, set()).update(self._people.get(change.old_path, ()))
        if before:
            self._before_of[change.record_id, change.path] = before
        old: Sequence[Author] = before.authors if before else ()
        changed = gaps(_kept(before, change) if before else (), len(old), len(change.after) // HASH_BYTES)
        authors = spliced(old, changed)
        for span in change.spans:
            for at in range(span.start - 1, min(span.end, len(authors))):
                authors[at] = authors[at] or (GUESSED if span.excluded else UNSEEN)
        stayed = self._respaced(before, change, changed) if before else {}
        stayed.update(self._moved(change, stayed, authors))
        settled = self._brought(change, before, authors, changed)
        if last is not None and last.packed != change.before:
            stayed.update(self._contradicted(last, change))
        version = Version(change.worktree, change.path, change.after, settled)
        for span in change.spans:
            if not span.excluded:
                self._write(version, span, settled, stayed)
        self._remember(version)

    def explain(self, worktree: str, path: str, packed: bytes, base: Version | None) -> Version:
        """The authors of a content's lines when what happened between `base` and it is unknown."""
        known = self._exact.get((path, packed))
        if known is not None:
            return Version(worktree, path, packed, known.authors)
        old: Sequence[Author] = base.authors if base else ()
        blocks = align(base.packed, packed, self.weights.is_weak) if base else ()
        changed = gaps(blocks, len(old), len(packed) // HASH_BYTES)
        draft = Draft(path, packed, self.weights, spliced(old, changed), changed)
        refused: list[int] = []
        if base:
            if base.path != path:
                refused = [at for at, one in enumerate(draft.authors) if one and self._refused(one)]
                draft.credit(refused, HUMAN)
            matched_blocks(draft, lost(base, draft.gaps), lambda _: _MOVED, _TRUST_MOVED)
        self._search(draft, base)
        draft.credit(refused, None)  # that it is not the other file's line shows nothing about a person
        theirs = self._people.setdefault(path, set())
        self._doubt(worktree, path, base, draft)
        for gap in draft.gaps:
            _settle(base, gap, draft, theirs)
            lines = range(gap.new_start, gap.new_end)
            theirs.update(draft.hash_of(at) for at in lines if isinstance(draft.authors[at] or HUMAN, Human))
        return Version(worktree, path, packed, draft.settled(refused))

    def base_of(self, worktree: str, path: str, packed: bytes, *, newest: bool) -> Version | None:
        """The state that a content follows most likely.

        Args:
            worktree: where the content stands.
            path: its path.
            packed: its hashes.
            newest: it is the file as it stands now, so that the last state comes first.
        """
        last = self.latest.get((worktree, path)) if newest else None
        lines = {one >> 32 for one in hashes_of(packed)} - {0}
        if last and len(lines & last.loose_set) >= _MOST * len(lines):
            return last
        near = self.nearest(packed, path)
        if last is None or near is None:
            return last or near or self._renamed(packed)
        return near if len(lines & near.loose_set) > len(lines & last.loose_set) else last

    def nearest(self, packed: bytes, path: str | None = None) -> Version | None:
        """The state (of a path) that shares most lines with a content; of equals the youngest."""
        lines = {one >> 32 for one in hashes_of(packed)} - {0}
        best, most = None, 0
        for version in reversed(self._versions[-_MAX_VERSIONS:]):
            shared = len(lines & version.loose_set) if path in {None, version.path} else 0
            if shared > most:
                best, most = version, shared
        return best

    # -- one change ------------------------------------------------------------------------------------------

    def _before(self, change: Change) -> Version | None:
        """The file as the change found it."""
        path = change.old_path or change.path
        base = self.latest.get((change.worktree, path))
        if change.before is None or (base and base.packed == change.before):
            return base
        if base is None and change.before:
            base = self.nearest(change.before, path) or self._renamed(change.before)
        version = self.explain(change.worktree, path, change.before, base)
        self._remember(version)
        return version

    def _renamed(self, packed: bytes) -> Version | None:
        """The state of another file that this one must have been made from: most of both is the same."""
        near = self.nearest(packed)
        if near is None or self._present.get(near.path):
            return None
        own = set(hashes_of(packed))
        shared = [one for one in own if one >> 32 in near.loose_set]
        if sum(map(self.weights.as_evidence, shared)) < _RETURNED.weight:
            return None
        return near if len(shared) * 2 > max(len(own), len(near.loose_set)) else None

    def _brought(
        self, change: Change, before: Version | None, authors: list[Author | None], changed: list[Gap]
    ) -> list[Author]:
        """Settle the lines that no range has and that did not stand there before: a command brought them back."""
        draft = Draft(change.path, change.after or b"", self.weights, authors, changed)
        if before:
            self._search(draft, before)
        if change.before is None:  # so that nothing else shows what was there
            self._doubt(change.worktree, change.path, before, draft)
        return draft.settled()

    def _respaced(self, before: Version, change: Change, changed: Iterable[Gap]) -> dict[int, Author]:
        """Lines of the ranges that hold the text of those they replace: they stay whose they were."""
        after = change.after or b""
        own = {at for span in change.spans if not span.excluded for at in range(span.start - 1, span.end)}
        found: dict[int, Author] = {}
        for gap in changed:
            if gap.old_start < gap.old_end and gap.new_start < gap.new_end:
                for old, new, size in loosely(before.packed, after, gap):
                    lines = hashes(after, new, new + size)
                    is_all = size == gap.old_end - gap.old_start == gap.new_end - gap.new_start
                    if is_all or not all(map(self.weights.is_weak, lines)):
                        found.update((new + at, before.authors[old + at]) for at in range(size) if new + at in own)
        for at in self._late(before, change, found):
            del found[at]
        found.update((at, author) for at, author in _rewrapped(before, change) if at in own)
        return found

    def _late(self, before: Version, change: Change, found: Container[int]) -> Iterator[int]:
        """Lines of ranges that stood in the file before as they are: the call had written when the file was read.

        Of calls that wrote to one file at once, each one's diff shows what is its own.
        """
        after = change.after or b""
        spans = [one for one in change.spans if one.origin.method in _LINE_BY_LINE and not one.excluded]
        own = {at for one in spans for at in range(one.start - 1, one.end) if at in found}
        if not own:
            return
        now = hashes_of(after)
        for old, new, size in align(before.packed, after, self.weights.is_weak):
            for at in own.intersection(range(new, new + size)):
                if before.hashes[old + at - new] == now[at] and not self.weights.is_weak(now[at]):
                    yield at

    def _moved(self, change: Change, stayed: Container[int], authors: Sequence[Author | None]) -> dict[int, Author]:
        """Lines of the ranges that the call, or another one of its session, took away elsewhere.

        A diff may have taken a line of the block for an equal one that stood there, which is in the ranges instead.
        """
        after = change.after or b""
        count = len(after) // HASH_BYTES
        spans = [span for span in change.spans if not span.excluded]
        ranges = _positions(spans, count)
        own = set(chain.from_iterable(ranges))
        loose = {one >> 32 for lines in ranges for one in hashes(after, lines.start, lines.stop)}
        if not own or not any(self._moves.near(spans[0].origin, loose)):
            return {}
        draft = Draft(change.path, after, self.weights, [HUMAN if at in stayed else None for at in range(count)])
        kept = self._moves.kept(draft, spans[0].origin, self._file_before)
        found = {at: author for at, author in kept.items() if at in own}
        for at in kept.keys() - own:
            equal = [one for one in own - found.keys() if draft.hash_of(one) == draft.hash_of(at)]
            found.update((one, authors[at] or HUMAN) for one in sorted(equal, key=lambda one: abs(one - at))[:1])
        return found

    def _file_before(self, removed: Removed) -> Version | None:
        """A file before a call that took lines out of it.

        Of a call that is not taken in yet only if it is the file's next one: else one in between may have written them.
        """
        key = (removed.record_id, removed.path)
        if key in self._before_of:
            return self._before_of[key]
        following = next((one for one in self._coming if one[1] == removed.path), None)
        change = self._coming[key] if following == key else None
        if change is None or change.before is None:
            return None
        base = self.latest.get((change.worktree, change.old_path or change.path))
        return self.explain(change.worktree, change.old_path or change.path, change.before, base)

    def _contradicted(self, last: Version, change: Change) -> dict[int, Author]:
        """Lines that a snapshot has found new, and that the record of another call has had in between."""
        after = change.after or b""
        count = len(after) // HASH_BYTES
        ranges = _positions((one for one in change.spans if one.origin.method == _SNAPSHOT), count)
        own = list(chain.from_iterable(ranges))
        lines = {one for lines in ranges for one in hashes(after, lines.start, lines.stop)}
        known = [one for one in lines if one >> 32 in self._births or self.weights.is_weak(one)]
        if not any(one.to_bytes(HASH_BYTES, "big") in last.packed for one in known):
            return {}  # the usual case: what it found new is new
        mine = {span.origin.record_id for span in change.spans}
        found: dict[int, Author] = {}
        for old, new, size in align(last.packed, after, self.weights.is_weak):
            for at in own:
                wrote = written(last.authors[old + at - new]) if new <= at < new + size else None
                if wrote is not None and wrote.origin.record_id not in mine:
                    found[at] = last.authors[old + at - new]
        return found

    def _doubt(self, worktree: str, path: str, base: Version | None, draft: Draft) -> None:
        """What appeared when a call may have changed the file is unknown; what git had before is a person's."""
        reason: Unknown | None = None
        known = b""
        doubt = min(self._open_doubts(worktree, path), key=lambda one: one.since, default=None)
        if doubt is not None:
            reason, known = doubt.reason, self._evidence.lines_at(doubt.path, doubt.since)
        elif base is not None and not base.is_whole:
            reason = PARTIAL
        if reason is None:
            return
        blocks = align(known, draft.packed, self.weights.is_weak)
        stayed = {new + at for _, new, size in blocks for at in range(size)}
        kept = {old + at for old, _, size in blocks for at in range(size)}
        moved = Counter(one >> 32 for at, one in enumerate(hashes_of(known)) if at not in kept)
        for at, author in enumerate(draft.authors):
            if author is not None or at in stayed:
                continue
            if moved[draft.loose(at)] and not self.weights.is_weak(draft.hash_of(at)):
                moved[draft.loose(at)] -= 1
                continue
            draft.authors[at] = reason

    def _open_doubts(self, worktree: str, path: str) -> list[Doubt]:
        """Those since the last state of a file; a file of which nothing is known may be from any worktree."""
        doubts = self._doubts.get(path, [])
        if (worktree, path) in self.latest:
            settled = self._doubts_settled[worktree, path]
            return [one for where, one in doubts[settled:] if where in {"", worktree}]
        seen = {where: self._doubts_settled[where, path] for where, name in self.latest if name == path}
        last = max(seen.values(), default=0)
        return [one for at, (where, one) in enumerate(doubts) if at >= (seen.get(where, 0) if where else last)]

    def _write(self, version: Version, span: Span, authors: list[Author], stayed: Mapping[int, Author]) -> None:
        """Give the lines of a range to its call, but for those that kept their author."""
        lines = range(span.start - 1, min(span.end, len(authors)))
        own = hashes(version.packed, lines.start, max(lines.start, lines.stop))
        for at, one, tokens in zip(lines, own, _padded(span.tokens, len(lines)), strict=True):
            self.weights.learn(one, tokens)
            if at in stayed:
                authors[at] = stayed[at]
                self.unearned[span.origin.record_id, version.path] += 1
                continue
            authors[at] = Wrote(span.origin, version.path, at + 1, one >> 32, tokens)
            self._born(version, at, one)

    def _add_without_file(self, change: Change) -> None:
        """Take in ranges of which only the lines are known, as a state that has nothing else."""
        packed, authors = b"", list[Author]()
        for span in change.spans:
            if span.excluded or not span.hashes:
                continue
            count = len(span.hashes) // len(NO_HASH)
            packed += NO_HASH + span.hashes
            authors.append(PARTIAL)
            for at, (one, tokens) in enumerate(zip(hashes_of(span.hashes), _padded(span.tokens, count), strict=True)):
                authors.append(Wrote(span.origin, change.path, span.start + at, one >> 32, tokens))
        if authors:
            version = Version(change.worktree, change.path, packed, authors, is_whole=False)
            self._versions.append(version)
            for at, one in enumerate(version.hashes):
                self._born(version, at, one)

    def _remember(self, version: Version) -> None:
        self._doubts_settled[version.worktree, version.path] = len(self._doubts.get(version.path, ()))
        self.latest[version.worktree, version.path] = version
        self._versions.append(version)
        self._exact[version.path, version.packed] = version

    def _born(self, version: Version, at: int, line_hash: int) -> None:
        """Remember where a line was written."""
        if not self.weights.is_weak(line_hash):
            self._births.setdefault(line_hash >> 32, []).append((version, at))

    # -- lines that came from elsewhere ----------------------------------------------------------------------

    def _search(self, draft: Draft, base: Version | None) -> None:
        """Search open lines in the states in which they were written, then anywhere."""
        tried = {id(base)}
        paths = {draft.path, base.path if base else draft.path}
        for _ in range(_ROUNDS):
            votes = Counter(
                version
                for at in draft.telling()
                for version in {one for one, _ in self._births.get(draft.loose(at), ())[-_MAX_PLACES:]}
                if version.path in paths and id(version) not in tried
            )
            if not votes:
                break
            best = max(votes, key=votes.__getitem__)
            tried.add(id(best))
            matched_in_place(draft, best, _BACK, _TRUST_BACK)
        if any(draft.loose(at) in self._births for at in draft.telling()):
            taken = draft.taken()
            matched_blocks(
                draft, self._births, lambda one: self._needed(one, draft, taken), _TRUST_ELSEWHERE, self._refused
            )

    def _needed(self, author: Author, draft: Draft, taken: Container[int]) -> Need:
        """The weight of a block found by a line of this author: more, if the line still stands elsewhere."""
        wrote = written(author)
        copied = wrote is not None and (id(wrote) in taken or self._stayed(wrote, draft))
        return _COPIED if copied else _RETURNED

    def _refused(self, author: Author) -> bool:
        """Whether a line can't be somewhere else because of this record: it was in the repository before."""
        wrote = written(author)
        return wrote is not None and self._evidence.stood(wrote)

    def _stayed(self, wrote: Wrote, draft: Draft) -> bool:
        """Whether a line of another file still stands there."""
        return wrote.path != draft.path and wrote.loose in self._present.get(wrote.path, ())


def _positions(spans: Iterable[Span], count: int) -> list[range]:
    """Where the lines of some ranges stand in a file of so many lines, from 0."""
    firsts = ((min(max(one.start - 1, 0), count), one.end) for one in spans)
    return [range(first, max(first, min(end, count))) for first, end in firsts]


def _kept(before: Version, change: Change) -> list[Block]:
    """The lines outside of the ranges that stood there before."""
    stayed: list[Block] = []
    after = change.after or b""
    pieces, last = list[tuple[int, int]](), 0
    for span in sorted(change.spans):
        if not span.excluded and span.start - 1 >= last:
            pieces.append((last, span.start - 1))
            last = span.end
    pieces.append((last, len(after) // HASH_BYTES))
    kept = b"".join(after[start * HASH_BYTES : end * HASH_BYTES] for start, end in pieces)
    # What is in no range was there before, so that also a brace between two rewritten lines is the old one.
    blocks = align(before.packed, kept, lambda _: False)
    first = 0
    for start, end in pieces:
        for old, new, size in blocks:
            low, high = max(new, first), min(new + size, first + end - start)
            if low < high:
                stayed.append(Block(old + low - new, start + low - first, high - low))
        first += max(0, end - start)
    return stayed


def _rewrapped(before: Version, change: Change) -> Iterator[tuple[int, Author]]:
    """The authors of the lines that were wrapped anew, by their place; of lines of several authors the text decides."""
    count = len(change.after or b"") // HASH_BYTES
    for block in change.wrapped:
        lines, old = (
            range(block.start_line - 1, block.end_line),
            before.authors[block.old_start_line - 1 : block.old_end_line],
        )
        if not old or lines.stop > count:
            continue  # it is of another state of the file
        unknown = next((author for author in old if isinstance(author, Unknown)), None)
        together: Author = Unknown(unknown.reason, _instead(old)) if unknown else Human(_instead(old))
        is_recorded = all(map(written, old))
        for at, line in enumerate(lines):
            yield line, old[at * len(old) // len(lines)] if is_recorded else together


def _settle(base: Version | None, gap: Gap, draft: Draft, theirs: Container[int]) -> None:
    """What is still open in a gap is a person's, who may have had a recorded line there to start from."""
    if base is None:
        return
    instead = _instead(base.authors[gap.old_start : gap.old_end])
    author = Human(instead) if instead else HUMAN
    partial = Unknown(PARTIAL.reason, instead) if instead else PARTIAL
    _see_blindly(base, gap, draft)
    for at in range(gap.new_start, gap.new_end):
        if draft.authors[at] is None:
            draft.authors[at] = HUMAN if draft.hash_of(at) in theirs else author
        elif draft.authors[at] is PARTIAL:
            draft.authors[at] = partial


def _see_blindly(base: Version, gap: Gap, draft: Draft) -> None:
    """Lines that may hold a secret have no hash: where only such lines seem to be new, they are the same ones.

    Else a model's may be any line from where it stood to where it stands if all that is new was typed before it. A
    person's needs no such care: whatever stands there is a person's.
    """
    there = hashes(base.packed, gap.old_start, gap.old_end)
    if 0 not in there:
        return
    grown = gap.new_end - gap.new_start - len(there)
    are_same = not grown and not any(there)
    for offset, one in enumerate(there):
        author = base.authors[gap.old_start + offset]
        if one or (isinstance(author, Human) and not are_same):
            continue
        first, last = sorted((gap.new_start + offset, gap.new_start + offset + grown))
        for at in range(max(first, gap.new_start), min(last + 1, gap.new_end)):
            if draft.authors[at] is None:
                draft.authors[at] = carried(author, _TRUST_BLIND) if are_same else HIDDEN


def _instead(gone: Iterable[Author]) -> tuple[Wrote, ...]:
    """The recorded lines among those that are gone, and those that the others had stood for."""
    found: dict[int, Wrote] = {}
    for author in gone:
        wrote = written(author)
        for one in (wrote,) if wrote else author.instead_of if isinstance(author, Human) else ():
            found[id(one)] = one
    return tuple(found.values())[:MAX_INSTEAD]


def _padded(tokens: Sequence[bytes | None], count: int) -> Sequence[bytes | None]:
    """As many tokens as there are lines."""
    return [*tokens[:count], *[None] * (count - len(tokens))]
