"""Where the lines of another tool's record stand, and which of them are its work.

Other tools record where lines were, seldom their text, and not always whether the revision they name is the one that
has the lines or the one before. So a file is read as it was at several moments, and each is held against what stood
there before:

- the named revision itself, after its parent: the record names a commit;
- the first commits after it that changed the file, and the worktree, after the named revision: it was made before.

Which comes first is decided by the times of record and commit. A hash decides between them; without one, only lines
that a reading has added are the record's. Lines that stood there before are not attributed, even where a record names
them.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Final, NamedTuple

from agent_trace_sidecar.records.content import text_lines
from agent_trace_sidecar.records.diffs import Span, added, compared, merged
from agent_trace_sidecar.records.foreign import relative_spellings
from agent_trace_sidecar.records.foreign_hashes import agrees
from agent_trace_sidecar.records.trace import Range, TraceRecord
from agent_trace_sidecar.workspace.checkout import Checkout, CheckoutError

_COMMITS_AFTER: Final = 3
_HOOK_S: Final = 10.0
"""A tool that records from a commit's hook is done so soon after the commit."""
_REFERENCE: Final = "1.0"
"""The version that the reference implementation's hook writes, which runs before the commit."""


class Version(NamedTuple):
    """A file at one moment, and before: None where that is not known, nothing where there was no file."""

    lines: list[bytes]
    before: list[bytes] | None


class Located(NamedTuple):
    """Where a range's lines stand: the file they stand in, the range in it, and the lines that are its work."""

    lines: list[bytes]
    start: int
    end: int
    spans: list[Span]


class Locator:
    """Finds the lines of records of one repository."""

    def __init__(self, checkout: Checkout) -> None:
        self._checkout = checkout
        self._roots = tuple(dict.fromkeys((str(checkout.root), str(checkout.root.resolve()))))
        self._versions = lru_cache(maxsize=64)(self._read_versions)

    def path(self, path: str, revision: str | None = None) -> str | None:
        """A record's path in git's spelling; None where it is of no file in this repository.

        Of the spellings that may be meant, the first that a file has wins: a backslash may be part of a name.
        """
        spellings = [self._followed(one) for one in relative_spellings(path, self._roots)]
        if len(spellings) > 1:
            for spelling in spellings:
                if any(self._content(spelling, at) is not None for at in (None, revision) if at or not revision):
                    return spelling
        return spellings[-1] if spellings else None

    def locate(self, record: TraceRecord, path: str, span: Range) -> Located | None:
        """The lines of a range; None where no version of the file has lines that it may name.

        Args:
            record: whose range it is.
            path: the file in git's spelling.
            span: the range.
        """
        checked = span.content_hash is not None and agrees(span.content_hash, []) is not None
        for version in self._versions(_When.of(record), path, hashed=checked):
            for end in (span.end_line, span.end_line - 1):  # tools that count line endings are one too high
                own = version.lines[span.start_line - 1 : end]
                if end < span.start_line or len(own) != end - span.start_line + 1:
                    continue
                if checked and not agrees(span.content_hash or "", own):
                    continue
                if not checked and end < span.end_line <= len(version.lines):
                    continue
                spans = _new(version, span.start_line, end)
                if spans or checked:
                    return Located(version.lines, span.start_line, end, spans)
        return None

    def _followed(self, path: str) -> str:
        """The path without links in it, as long as it stays inside."""
        with suppress(OSError, RuntimeError):
            real = (self._checkout.root / path).resolve()
            root = self._checkout.root.resolve()
            if real.is_relative_to(root) and real != root:
                return real.relative_to(root).as_posix()
        return path

    def _content(self, path: str, revision: str | None) -> list[bytes] | None:
        try:
            content = self._checkout.content(path, revision)
        except CheckoutError:
            return None
        return text_lines(content) if content is not None else None

    def _read_versions(self, when: "_When", path: str, *, hashed: bool) -> list[Version]:
        return list(self._each_version(when, path, hashed=hashed))

    def _each_version(self, when: "_When", path: str, *, hashed: bool) -> Iterator[Version]:
        here = self._content(path, None)
        if not self._checkout.is_git:
            if here is not None:
                yield Version(here, None)
            return
        revision = when.revision or self._checkout.commit_before(when.at_s)
        committed = self._checkout.commit_time(revision) if revision else None
        if revision is None or committed is None:
            if here is not None and (hashed or (when.revision is None and revision is None)):
                yield Version(here, None)
            return
        own, later = self._of_commit(revision, path), self._after_commit(revision, path, hashed=hashed)
        early = when.at_s > committed + (0 if when.reference else _HOOK_S)
        if when.revision is None:
            yield from later
        elif early:
            yield from later
            if hashed:
                yield from own
        else:
            yield from own
            yield from later

    def _of_commit(self, revision: str, path: str) -> Iterator[Version]:
        lines = self._content(path, revision)
        if lines is not None:
            yield Version(lines, self._content(path, f"{revision}^") or [])

    def _after_commit(self, revision: str, path: str, *, hashed: bool) -> Iterator[Version]:
        """Without a hash only the first change counts: later the numbers are others."""
        before = self._content(path, revision) or []
        try:
            after: Sequence[str | None] = self._checkout.commits_after(revision, path)
        except CheckoutError:
            after = []
        moments = [*after[:_COMMITS_AFTER], None]
        for commit in moments if hashed else moments[:1]:
            lines = self._content(path, commit)
            if lines is not None:
                yield Version(lines, before)


class _When(NamedTuple):
    """What decides which versions of a file a record may name."""

    revision: str | None
    at_s: float
    reference: bool

    @classmethod
    def of(cls, record: TraceRecord) -> "_When":
        revision = record.vcs.revision if record.vcs else None
        return cls(revision, record.timestamp.timestamp(), record.version.startswith(_REFERENCE))


def _new(version: Version, start: int, end: int) -> list[Span]:
    """The lines of a range that did not stand in the file before; line endings make no difference."""
    if version.before is None:
        return [(start, end)]
    before = [line.removesuffix(b"\r") for line in version.before]
    lines = [line.removesuffix(b"\r") for line in version.lines]
    changes = compared(before, lines)
    if changes is None:
        known = set(before)
        return merged((at, at) for at in range(start, end + 1) if lines[at - 1] not in known)
    own = ((max(start, first), min(end, last)) for first, last in added(changes))
    return [(first, last) for first, last in own if first <= last]
