"""The lines of a file, masked, from any position."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

from agent_trace_sidecar.limits import MAX_LINE_BYTES, READ_BYTES
from agent_trace_sidecar.reading import LogLine
from agent_trace_sidecar.redaction import Funnel, Redacted
from agent_trace_sidecar.sources.lines import Line, LineSplitter, Oversize

Mask: TypeAlias = Callable[[Sequence[Line | Oversize]], list[Redacted]]
ReadAt: TypeAlias = Callable[[int, int], bytes]
"""Takes an offset and a number of bytes, and returns no more of them."""


def masked_by(funnel: Funnel, observe: Callable[[bytes], bytes | None] = lambda _: None) -> Mask:
    """What makes lines fit to be kept: the funnel, and what is seen of the repository."""

    def mask(lines: Sequence[Line | Oversize]) -> list[Redacted]:
        whole = [line.data for line in lines if isinstance(line, Line)]
        masked = iter(funnel.lines(whole, [observe(data) for data in whole]))
        return [next(masked) if isinstance(line, Line) else funnel.oversize(line.head, line.size) for line in lines]

    return mask


class RawLines:
    """Cuts a file into lines, one read after the other."""

    def __init__(self, read_at: ReadAt, position: int) -> None:
        """Begin at `position`, where a line begins."""
        self._read_at = read_at
        self._offset = self._end = position
        self._splitter = LineSplitter(MAX_LINE_BYTES)

    def next(self, limit: int, *, whole: bool) -> list[tuple[Line | Oversize, int]]:
        """Read on until at least one line is complete: lines with the positions after them; none at `limit`."""
        found: list[tuple[Line | Oversize, int]] = []
        while not found:
            chunk = self._read_at(self._offset, min(READ_BYTES, limit - self._offset)) if self._offset < limit else b""
            self._offset += len(chunk)
            if not chunk:
                rest = self._splitter.finish() if whole and self._offset >= limit else None
                if rest is None:
                    return []
                lines: list[Line | Oversize] = [rest]
            else:
                if not self._splitter.pending:
                    chunk = self._without_hole(chunk, found)
                lines = self._splitter.feed(chunk)
            for line in lines:
                self._end += line.size
                found.append((line, self._end))
        return found

    def _without_hole(self, chunk: bytes, found: list[tuple[Line | Oversize, int]]) -> bytes:
        """Skip NULs before a line: what a writer leaves that goes on at its old offset after a truncation."""
        rest = chunk.lstrip(b"\0")
        hole = len(chunk) - len(rest)
        if hole:
            self._end += hole
            found.append((Line(b"", hole), self._end))
        return rest


class LineCursor:
    """Reads masked lines of a file from any position; reading on where the last call ended costs no second look."""

    def __init__(self, read_at: ReadAt, mask: Mask) -> None:
        self._read_at, self._mask = read_at, mask
        self._at = -1
        self._raw = RawLines(read_at, 0)
        self._ready: deque[tuple[Line | Oversize, int]] = deque()
        """Not masked yet: that takes most of the time, and may not be wanted."""

    def read(self, position: int, end: int, max_bytes: int, *, whole: bool) -> list[LogLine]:
        """Lines between `position` and `end`, about `max_bytes` of them.

        Args:
            position: where the first line begins.
            end: the position after the last line.
            max_bytes: how much to read, one line at least.
            whole: whether what stands between the last newline and `end` is a line.
        """
        if position != self._at:
            self._ready.clear()
            self._raw = RawLines(self._read_at, position)
            self._at = position
        raw: list[Line | Oversize] = []
        ends: list[int] = []
        while self._at - position < max_bytes:
            if not self._ready:
                self._ready.extend(self._raw.next(end, whole=whole))
                if not self._ready:
                    break
            line, self._at = self._ready.popleft()
            raw.append(line)
            ends.append(self._at)
        return list(map(LogLine, self._mask(raw), ends))
