"""Evidence of git against a claim: whether a line was in the repository before the record that would claim it.

Used only for the few lines of a file that another file's record may explain. Git searches the texts in all files at
the record's revision, but for the record's own file: the call may have committed it. Where git does not know the
revision any more, the last commit before the record's time is searched.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID

from agent_trace_sidecar.blame.authors import Origin, Wrote
from agent_trace_sidecar.records.content import text_lines
from agent_trace_sidecar.records.fingerprints import hashes_of, line_hashes
from agent_trace_sidecar.workspace.checkout import Checkout

MANY_FILES: Final = 3
"""A text that stands in so many files of the repository is no evidence of where one of them has it from."""
_MAX_TEXTS: Final = 2000
"""Lines of one git search; if there are more, none is claimed."""
_MAX_REVISIONS: Final = 12


class Evidence(Protocol):
    """The evidence that `History` uses."""

    def stood(self, wrote: Wrote) -> bool:
        """Whether the text of a recorded line was in the repository before its record."""

    def lines_at(self, path: str, at: datetime) -> bytes:
        """What a file held at a time, see `fingerprints.line_hashes`; nothing where that is not known."""


class Nothing:
    """No evidence at all: of folders without a repository, and in tests."""

    def stood(self, wrote: Wrote) -> bool:
        """See `Evidence`."""
        del wrote
        return False

    def lines_at(self, path: str, at: datetime) -> bytes:
        """See `Evidence`."""
        del path, at
        return b""


class GitEvidence:
    """The evidence for one file."""

    def __init__(
        self,
        checkout: Checkout,
        texts: Mapping[int, bytes],
        *,
        revisions: Mapping[UUID, str | None],
        changed: datetime | None,
    ) -> None:
        """Make one.

        Args:
            checkout: the repository.
            texts: the file's lines that may be claimed, by their hash without white space.
            revisions: where the repository stood at each record.
            changed: when the file as it stands was last written or moved, where that is allowed; only the kernel sets
            it.
        """
        self._checkout, self._texts = checkout, dict(texts)
        self._revisions, self._changed = revisions, changed
        self._now = datetime.now(UTC)
        self._found: dict[tuple[str, str], frozenset[int]] = {}
        self._known: dict[str | None, str | None] = {}

    def stood(self, wrote: Wrote) -> bool:
        """See `Evidence`; a line of which that can't be found out is taken for one that did."""
        origin = wrote.origin
        if self._changed is not None and self._changed < origin.at < self._now:
            return True  # the file has not been written since before the record
        if wrote.loose not in self._texts:
            return False
        revision = self._revision(origin)
        if revision is None:
            return False
        key = (revision, wrote.path)
        if key not in self._found:
            if len(self._found) >= _MAX_REVISIONS:
                return True
            self._found[key] = self._searched(revision, wrote.path)
        return wrote.loose in self._found[key]

    def lines_at(self, path: str, at: datetime) -> bytes:
        """See `Evidence`."""
        revision = self._last_before(at) if self._checkout.is_git else None
        content = self._checkout.content(path, revision) if revision else None
        return line_hashes(text_lines(content)) if content is not None else b""

    def _revision(self, origin: Origin) -> str | None:
        """A commit that git knows; None in a repository without one."""
        if not self._checkout.is_git:
            return None
        named = self._revisions.get(origin.record_id)
        if named not in self._known:
            self._known[named] = named if named and self._checkout.has(named) else None
        return self._known[named] or (self._last_before(origin.at) if origin.at < self._now else None)

    def _last_before(self, at: datetime) -> str | None:
        """Git counts whole seconds: what was committed in the last one may be of after that time."""
        return self._checkout.commit_before(at.timestamp() - 1)

    def _searched(self, revision: str, but: str) -> frozenset[int]:
        found = self._checkout.search(list(self._texts.values()), revision, but) if self._is_searchable() else None
        if found is None:
            return frozenset(self._texts)
        return frozenset(one >> 32 for lines in found.values() for one in hashes_of(line_hashes(lines)))

    def _is_searchable(self) -> bool:
        return len(self._texts) <= _MAX_TEXTS


def common(checkout: Checkout, commit: str | None, texts: Mapping[int, bytes], but: str) -> set[int]:
    """Those of some lines that stand in many files of the repository, by their hashes without white space.

    Args:
        checkout: the repository.
        commit: at this revision; None for the files as they stand.
        texts: the lines by their hashes.
        but: the file that they are from.
    """
    if not checkout.is_git or not 0 < len(texts) <= _MAX_TEXTS:
        return set()
    found = checkout.search(list(texts.values()), commit, but) or {}
    return _in_many(found.values(), MANY_FILES - 1)


def _in_many(files: Iterable[Sequence[bytes]], least: int) -> set[int]:
    counts: dict[int, int] = {}
    for lines in files:
        for one in {one >> 32 for one in hashes_of(line_hashes(lines))}:
            counts[one] = counts.get(one, 0) + 1
    return {one for one, count in counts.items() if count >= least}
