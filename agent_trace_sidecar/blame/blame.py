"""`blame`: who wrote each line of a file, at a revision or as it stands in the worktree.

What the store knows of the file is replayed forward (`history.py`) up to its present content. Lines that nothing
explains are then searched in all other files of the repository, by their hashes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from uuid import UUID

import asyncpg
import msgspec

from agent_trace_sidecar.blame import store
from agent_trace_sidecar.blame.authors import HUMAN, UNSEEN, Author, Carried, Human, Wrote, written
from agent_trace_sidecar.blame.boilerplate import is_boilerplate
from agent_trace_sidecar.blame.evidence import Evidence, GitEvidence, common
from agent_trace_sidecar.blame.history import History
from agent_trace_sidecar.blame.lines import Line, judged
from agent_trace_sidecar.blame.moves import Moves, sources
from agent_trace_sidecar.blame.pruned_lines import PrunedLines, pruned_lines
from agent_trace_sidecar.blame.weight import Weights
from agent_trace_sidecar.records.content import text_lines
from agent_trace_sidecar.records.fingerprints import (
    HASH_BYTES,
    hashes_of,
    is_evidence,
    line_hashes,
    line_keys,
    loose_of,
)
from agent_trace_sidecar.workspace.checkout import Checkout, CheckoutError, checkout_of
from agent_trace_sidecar.workspace.identity import remote_url

_MAX_SEARCHED_BYTES: Final = 2000 * HASH_BYTES
"""Of the hashes of lines that are searched in other files."""
_MAX_KEYS: Final = 10_000
"""Keys of lines of one query."""
_MAX_FILES: Final = 8
"""Other files that are then read."""
_MANY_FILES: Final = 3
"""A line that was written in so many files may as well be a person's in one more."""
_PROBE_BYTES: Final = 8000


class BlameError(Exception):
    """The question can't be answered; the text is a sentence."""


class Blame(msgspec.Struct, frozen=True):
    """The answer for one file; both lists are as long as the file."""

    path: str
    text: list[bytes]
    lines: list[Line]
    unearned: dict[tuple[UUID, str], int] = {}
    """Lines in the ranges of a record and path that the record did not write, see `History.unearned`."""
    root: Path | None = None
    """The repository's worktree."""
    titles: dict[str, str] = {}
    """Of the sessions that the lines are from."""
    is_recorded: bool = True
    """Something is recorded of the repository."""
    is_shallow: bool = False
    """Its history is cut off, so that it may be recorded under a name that is not known here."""
    elsewhere: tuple[str, str] | None = None
    """Where nothing is recorded of the repository: id and folder of another one that has a file of this path."""


async def blame(
    connection: asyncpg.Connection,
    file: Path,
    revision: str | None = None,
    *,
    contents: bytes | None = None,
    include_fallback: bool = False,
) -> Blame:
    """Find who wrote the lines of a file.

    Args:
        connection: to the store.
        file: where the file is, or was at the revision.
        revision: what the user calls it; None for the file as it stands.
        contents: what the file is to hold instead, as of an editor's buffer that is not saved.
        include_fallback: believe ranges that are a guess.

    Raises:
        BlameError: there is no such file, or it has no lines.
    """
    place = _true_place(file, is_there=revision is None)
    question = _question(await placed(connection, place), place, revision, contents)
    projects = await projects_of(connection, question.checkout)
    asking = FileBlamer(
        connection,
        question.checkout,
        projects,
        question.commit,
        include_fallback=include_fallback,
        former_names=lambda path: question.checkout.former_names(path, question.commit),
    )
    found = await asking.about(question.path, question.content)
    sessions = {line.session_id for line in found.lines if line.session_id}
    is_other = question.checkout.is_git and not asking.is_recorded
    return msgspec.structs.replace(
        found,
        root=question.checkout.root,
        titles=await store.titles(connection, sorted(sessions)),
        is_recorded=asking.is_recorded,
        is_shallow=question.checkout.is_shallow,
        elsewhere=await store.recorded_elsewhere(connection, question.path) if is_other else None,
    )


def _true_place(file: Path, *, is_there: bool) -> Path:
    """Without links; of a file that may be anything by now only its folder is followed."""
    return file.resolve() if is_there else file.parent.resolve() / file.name


class _Question(NamedTuple):
    checkout: Checkout
    commit: str | None
    path: str
    content: bytes


async def placed(connection: asyncpg.Connection, place: Path) -> Checkout:
    """The repository of a file; where there is none, the nearest folder around it that was recorded as a project."""
    checkout = checkout_of(place)
    if checkout.is_git:
        return checkout
    root = await store.recorded_project(connection, [str(folder) for folder in place.parents])
    return Checkout(Path(root), is_git=False) if root else checkout


def _question(checkout: Checkout, place: Path, revision: str | None, contents: bytes | None) -> _Question:
    """What the repository shows, before the store is read."""
    path = checkout.relative(place)
    try:
        commit = checkout.commit(revision) if revision is not None else None
        content = contents if contents is not None else checkout.content(path, commit)
    except CheckoutError as exc:
        raise BlameError(str(exc)) from None
    if content is None and place.is_dir() and revision is None:
        raise BlameError(f"{place} is a folder: name a file.")
    if content is None:
        raise BlameError(f"{path} does not exist" + (f" at {revision}." if revision else "."))
    if b"\0" in content[:_PROBE_BYTES]:
        raise BlameError(f"{path} is a binary file.")
    return _Question(checkout, commit, path, content)


async def projects_of(connection: asyncpg.Connection, checkout: Checkout) -> list[str]:
    """Everything that recorded files of a checkout may be filed under.

    Raises:
        CheckoutError: git can't be run.
    """
    own = checkout.projects()
    url = remote_url(checkout.root) if checkout.is_git else None
    return own + await store.other_names(connection, own, url)


class Contents(Protocol):
    """What blame reads of a checkout, or of something that reads it faster."""

    @property
    def root(self) -> Path:
        """Where the files are."""

    @property
    def checkout(self) -> Checkout:
        """The checkout that is read."""

    def content(self, path: str, revision: str | None) -> bytes | None:
        """See `Checkout.content`."""


class FileBlamer:
    """Answers for the files of one checkout at one revision."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        checkout: Contents,
        projects: Sequence[str],
        commit: str | None,
        *,
        include_fallback: bool = False,
        former_names: Callable[[str], list[str]] = lambda _: [],
    ) -> None:
        """Make one; `former_names` of a file are needed only where records are pruned, and cost two runs of git."""
        self._connection, self._checkout = connection, checkout
        self._former_names = former_names
        self._projects, self._commit = list(projects), commit
        self._include_fallback = include_fallback
        self._git = checkout.checkout
        self._uncovered: list[store.Uncovered] | None = None
        self._watched = False
        self._may_be_pruned = False
        self._pruned: set[str] = set()
        """Files of which records are pruned."""
        self._pruned_lines: PrunedLines | None = None
        """What their lines may have been; read with the first file that has lines of a person."""
        self._removed = Moves()
        self._read: set[str] = set()
        """The sessions whose removed lines are known."""

    async def about(self, path: str, content: bytes) -> Blame:
        """Find who wrote each line of a content."""
        text = text_lines(content)
        packed = line_hashes(text)
        stored = await self.changes([path])
        moves = await self._moves(stored)
        blamed = _BlamedFile(path, text, packed, Weights(), self._evidence({}, {}, path), moves)
        history, authors = self._explained(blamed, stored)
        searched = self._searched(text, packed, authors)
        found = await store.written_elsewhere(self._connection, searched, [path]) if searched else []
        spans = ((span.origin, span.hashes) for one in stored for span in one.change.spans if not span.excluded)
        emptied = [one for one in sources(moves, spans, blamed.weights) if one != path][:_MAX_FILES]
        if found or emptied:
            stored = await self.changes([path, *emptied, *(one.path for one in found[:_MAX_FILES])])
            blamed = blamed._replace(weights=Weights(), evidence=await self._against(path, text, packed, stored))
            _learn_boilerplate(blamed, found)
            history, authors = self._explained(blamed, stored)
            if any((wrote := written(author)) is not None and wrote.path != path for author in authors):
                self._learn_common(blamed, found)
                history, authors = self._explained(blamed, stored)
        if self._may_be_pruned and any(isinstance(author, Human) for author in authors):
            authors = await self._without_pruned(blamed, authors)
        unearned = {key: count for key, count in history.unearned.items() if key[1] == path}
        return Blame(path, text, judged(text, authors), unearned)

    async def _without_pruned(self, blamed: "_BlamedFile", authors: Sequence[Author]) -> list[Author]:
        """The authors, without persons of lines that may have been moved out of a file whose records are pruned."""
        if self._pruned_lines is None:
            self._pruned_lines = await pruned_lines(self._connection, self._git, self._projects)
        return self._pruned_lines.doubted(
            blamed.path,
            blamed.packed,
            authors,
            blamed.weights,
            lambda since: blamed.evidence.lines_at(blamed.path, since),
        )

    @property
    def is_recorded(self) -> bool:
        """Whether anything is recorded of the repository; known after the first file."""
        return self._watched or bool(self._pruned)

    async def may_hold(self, files: Iterable[tuple[str, bytes]]) -> list[str]:
        """Which files, of which nothing is recorded, may have recorded lines of others; given with their contents."""
        found: list[str] = []
        keys: dict[str, list[int]] = {}
        for path, content in files:
            if b"\0" not in content[:_PROBE_BYTES]:
                text = text_lines(content)
                keys[path] = self._searched(text, line_hashes(text), [HUMAN] * len(text))
            if sum(map(len, keys.values())) >= _MAX_KEYS:
                found += await self._holders(keys)
                keys = {}
        return found + await self._holders(keys)

    async def _holders(self, keys: dict[str, list[int]]) -> list[str]:
        wanted = sorted({key for own in keys.values() for key in own})
        written = await store.written(self._connection, wanted) if wanted else set()
        return [path for path, own in keys.items() if not written.isdisjoint(own)]

    async def _moves(self, stored: Iterable[store.Stored]) -> Moves:
        """What the sessions that wrote a file, and those of files before it, took out of files."""
        sessions = {span.origin.session_id for one in stored for span in one.change.spans} - {None}
        unread = {one for one in sessions if one is not None} - self._read
        if unread:
            self._read |= unread
            for block in await store.removed(self._connection, self._projects, unread):
                self._removed.add(block)
        return self._removed

    async def changes(self, paths: Sequence[str]) -> list[store.Stored]:
        """What was recorded of some files, and of those that they were moved from, oldest first."""
        if self._uncovered is None:
            self._uncovered = await store.uncovered(self._connection, self._projects)
            self._watched = await store.is_watched(self._connection, self._projects)
            self._may_be_pruned = await store.is_any_pruned(self._connection)
        stored = await store.changes(self._connection, self._projects, paths, include_fallback=self._include_fallback)
        periods: list[store.Period] = []
        if self._may_be_pruned:
            names = store.recorded_names(stored, paths[0]) | set(self._former_names(paths[0]))
            periods = await store.pruned(self._connection, self._projects, sorted(names))
        self._pruned |= {paths[0]} if periods else set()
        return store.in_doubt(stored, paths[0], self._uncovered, periods)

    def _explained(self, blamed: "_BlamedFile", stored: Sequence[store.Stored]) -> tuple[History, list[Author]]:
        """Replay the changes up to this content."""
        path, packed = blamed.path, blamed.packed
        blamed.weights.learn_lines(hashes_of(packed), blamed.text)
        history = History(blamed.weights, self._present(path, stored), blamed.evidence, blamed.moves)
        history.add_all([one.change for one in stored])
        base = history.base_of(str(self._checkout.root), path, packed, newest=self._commit is None)
        authors = history.explain(str(self._checkout.root), path, packed, base).authors
        if base is None and not self._watched and path not in self._pruned:
            return history, [UNSEEN if isinstance(author, Human) else author for author in authors]
        return history, list(authors)

    def _evidence(self, texts: Mapping[int, bytes], revisions: Mapping[UUID, str | None], path: str) -> Evidence:
        changed = self._changed(path) if texts and self._commit is None else None
        return GitEvidence(self._git, texts, revisions=revisions, changed=changed)

    def _changed(self, path: str) -> datetime | None:
        try:
            return datetime.fromtimestamp((self._checkout.root / path).stat().st_ctime, UTC)
        except (OSError, ValueError, OverflowError):
            return None

    async def _against(
        self, path: str, text: Sequence[bytes], packed: bytes, stored: Sequence[store.Stored]
    ) -> Evidence:
        """Evidence against lines that records of other files may explain."""
        others = [one for one in stored if one.change.path != path and one.change.doubt is None]
        written = {
            one >> 32 for other in others for span in other.change.spans for one in hashes_of(span.hashes or b"")
        }
        loose = [one >> 32 for one in hashes_of(packed)]
        # A brace stands everywhere: it goes with the lines around it, whose texts say something.
        texts = {one: line for one, line in zip(loose, text, strict=True) if one in written and is_evidence(line)}
        revisions = await store.revisions(self._connection, {one.record_id for one in others})
        return self._evidence(texts, revisions, path)

    def _learn_common(self, blamed: "_BlamedFile", found: Sequence[store.Found]) -> None:
        """Text in many files is no evidence of where a line comes from. This runs git, so only where it matters."""
        loose = [one >> 32 for one in hashes_of(blamed.packed)]
        wanted = {loose_of(key) for one in found for key in one.keys}
        texts = {one: line for one, line in zip(loose, blamed.text, strict=True) if one in wanted}
        blamed.weights.shared(common(self._git, self._commit, texts, blamed.path))

    def _present(self, path: str, stored: Iterable[store.Stored]) -> dict[str, frozenset[int]]:
        """What the other files hold now: a line that is still there has not moved from there."""
        present = {}
        for other in {one.change.path for one in stored} - {path}:
            try:
                content = self._checkout.content(other, self._commit)
            except CheckoutError:
                content = None
            lines = text_lines(content) if content is not None else []
            present[other] = frozenset(one >> 32 for one in hashes_of(line_hashes(lines)))
        return present

    def _searched(self, text: Sequence[bytes], packed: bytes, authors: Sequence[Author]) -> list[int]:
        """The keys of lines that may have come from another file."""
        own = b"".join(
            packed[at * HASH_BYTES : (at + 1) * HASH_BYTES]
            for at, author in enumerate(authors)
            if not isinstance(author, Wrote | Carried) and is_evidence(text[at])
        )
        return [key for project in self._projects for key in line_keys(project, own[:_MAX_SEARCHED_BYTES], None)]


def _learn_boilerplate(blamed: "_BlamedFile", found: Sequence[store.Found]) -> None:
    """Lines that are no evidence of where they come from, by the text alone and by the records."""
    _common(blamed.weights, found)
    loose = [one >> 32 for one in hashes_of(blamed.packed)]
    blamed.weights.shared(one for one, line in zip(loose, blamed.text, strict=True) if is_boilerplate(line))


def _common(weights: Weights, found: Iterable[store.Found]) -> None:
    """Lines that were written in many files are weak evidence of where one of them comes from."""
    counts = Counter(loose_of(key) for one in found for key in one.keys)
    weights.common(loose for loose, count in counts.items() if count >= _MANY_FILES)


class _BlamedFile(NamedTuple):
    """A file to attribute, and the evidence at hand."""

    path: str
    text: Sequence[bytes]
    packed: bytes
    weights: Weights
    evidence: Evidence
    moves: Moves
