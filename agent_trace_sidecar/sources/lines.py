"""Bytes to lines, whatever the pieces they arrive in: the one splitter of all sources.

A line over the limit is not buffered: its first bytes are kept (they hold the ids), the rest is counted and dropped.
NULs before a line are no part of it: a writer leaves them that goes on at its old offset after a truncation, and a file
system that had the new size of a file on the disk and not its bytes when the machine stopped.
"""

from typing import Final

import msgspec

HEAD_BYTES: Final = 4096
_MARK: Final = b"\xef\xbb\xbf"
"""A byte order mark of UTF-8: some writers begin a file with it, so it may begin any line of concatenated logs."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line without its newline, and how many bytes of the source it took, newline included."""

    data: bytes
    size: int


class Oversize(msgspec.Struct, frozen=True, gc=False):
    """A line that was too long to keep: its first bytes, and how many bytes of the source it took."""

    head: bytes
    size: int


class Denied(msgspec.Struct, frozen=True, gc=False):
    """A line of a repository that is not recorded: its first bytes, and how many bytes of the source it took."""

    head: bytes
    size: int


class LineSplitter:
    """Cut a stream of bytes at newlines; memory is bounded by `max_line_bytes` plus one chunk."""

    def __init__(self, max_line_bytes: int) -> None:
        self._max = max_line_bytes
        self._head = min(HEAD_BYTES, max_line_bytes)
        self._pieces: list[bytes] = []
        self._held = 0
        self._dropped = 0
        self._hole = 0

    @property
    def pending(self) -> int:
        """Bytes of the unfinished last line."""
        return self._hole + self._held + self._dropped

    def feed(self, chunk: bytes) -> list[Line | Oversize]:
        """Take the next bytes and return the lines that they complete."""
        first_end = chunk.find(b"\n")
        if first_end < 0:
            self._hold(chunk)
            return []
        lines: list[Line | Oversize] = []
        self._hold(chunk[:first_end])
        lines.append(self._take(1))
        *whole, rest = chunk[first_end + 1 :].split(b"\n")
        if len(chunk) <= self._max and b"\0" not in chunk and _MARK[:1] not in chunk:  # as nearly always
            lines += [Line(data, len(data) + 1) for data in whole]
        else:
            lines.extend(map(self._whole, whole))
        if rest:
            self._hold(rest)
        return lines

    def take_hole(self) -> int:
        """Give up the NULs of which it isn't known yet what they stand before, and return how many they are."""
        hole = 0 if self._held else self._hole
        self._hole -= hole
        return hole

    def finish(self) -> Line | Oversize | None:
        """Return what stood after the last newline, if anything."""
        return self._take(0) if self.pending else None

    def _whole(self, data: bytes) -> Line | Oversize:
        size = len(data) + 1
        data = data.lstrip(b"\0")
        if len(data) > self._max:
            return Oversize(data[: self._head], size)
        return Line(data.removeprefix(_MARK), size)

    def _hold(self, piece: bytes) -> None:
        if not self._held:
            rest = piece.lstrip(b"\0")
            self._hole += len(piece) - len(rest)
            piece = rest
        if self._dropped or self._held + len(piece) > self._max:
            if not self._dropped:
                head = b"".join([*self._pieces, piece])[: self._head]
                self._dropped = self._held + len(piece) - len(head)
                self._pieces, self._held = [head], len(head)
            else:
                self._dropped += len(piece)
            return
        self._pieces.append(piece)
        self._held += len(piece)

    def _take(self, newline: int) -> Line | Oversize:
        data, dropped = b"".join(self._pieces), self._dropped
        size = self._hole + self._held + dropped + newline
        self._pieces, self._held, self._dropped, self._hole = [], 0, 0, 0
        return Oversize(data, size) if dropped else Line(data.removeprefix(_MARK), size)
