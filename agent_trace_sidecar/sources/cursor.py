"""The lines of a file, masked, from any position."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TypeAlias

from agent_trace_sidecar.limits import MAX_LINE_BYTES, READ_BYTES
from agent_trace_sidecar.opencode.wire import DENIED, TOO_LONG
from agent_trace_sidecar.redaction import Redacted, Redactor
from agent_trace_sidecar.sources.lines import HEAD_BYTES, Denied, Line, LineSplitter, Oversize
from agent_trace_sidecar.sources.log import LogLine

Found: TypeAlias = tuple[list[Line | Oversize], list[int]]
"""Lines, and the position after each of them."""
Denies: TypeAlias = Callable[[bytes], bool]
"""Takes a line, or the beginning of one, and says whether its repository is not recorded."""
Mask: TypeAlias = Callable[[Sequence[Line | Oversize]], list[Redacted]]
ReadAt: TypeAlias = Callable[[int, int], bytes]
"""Takes an offset and a number of bytes, and returns no more of them."""


def nothing(_: bytes) -> bool:
    """Deny no line."""
    return False


def masked_by(
    redactor: Redactor, observe: Callable[[bytes], bytes | None] | None = None, *, denies: Denies = nothing
) -> Mask:
    """Return what redacts lines, after `observe` (see `observed`) has seen each of them that is not denied."""

    def mask(lines: Sequence[Line | Oversize]) -> list[Redacted]:
        kept = without_denied(lines, denies)
        return redact(redactor, kept, observed(kept, observe) if observe else None)

    return mask


def without_denied(lines: Sequence[Line | Oversize], denies: Denies) -> Sequence[Line | Oversize | Denied]:
    """The lines, with only the beginning left of those whose repository is not recorded."""
    if denies is nothing:
        return lines
    return [_kept(line, line.data if isinstance(line, Line) else line.head, denies) for line in lines]


def _kept(line: Line | Oversize, data: bytes, denies: Denies) -> Line | Oversize | Denied:
    return Denied(data[:HEAD_BYTES], line.size) if data.strip() and denies(data) else line


def observed(lines: Sequence[Line | Oversize | Denied], observe: Callable[[bytes], bytes | None]) -> list[bytes | None]:
    """The facts about the repository for each line, as JSON; None where there are none."""
    return [observe(line.data) if isinstance(line, Line) else None for line in lines]


def redact(
    redactor: Redactor, lines: Sequence[Line | Oversize | Denied], facts: Sequence[bytes | None] | None = None
) -> list[Redacted]:
    """The lines without secrets, with `facts` spliced in; a line that is too long or denied becomes its stub."""
    data = [line.data for line in lines if isinstance(line, Line)]
    if len(data) == len(lines):
        return redactor.lines(data, facts)
    if facts is not None:
        facts = [fact for fact, line in zip(facts, lines, strict=True) if isinstance(line, Line)]
    rest = iter(redactor.lines(data, facts))
    return [_stub(redactor, line) if not isinstance(line, Line) else next(rest) for line in lines]


def _stub(redactor: Redactor, line: Oversize | Denied) -> Redacted:
    reason = DENIED if isinstance(line, Denied) else TOO_LONG
    return redactor.stub(line.head, line.size, reason)


class RawLines:
    """Cuts a file into lines, one read after the other."""

    def __init__(self, read_at: ReadAt, position: int) -> None:
        """Begin at `position`, where a line begins."""
        self._read_at = read_at
        self._offset = self._end = position
        self._splitter = LineSplitter(MAX_LINE_BYTES)

    def next(self, limit: int, *, whole: bool) -> Found:
        """Read on until at least one line is complete; none at `limit`."""
        lines: list[Line | Oversize] = []
        while not lines:
            chunk = self._read_at(self._offset, min(READ_BYTES, limit - self._offset)) if self._offset < limit else b""
            self._offset += len(chunk)
            if not chunk:
                rest = self._splitter.finish() if whole and self._offset >= limit else None
                if rest is None:
                    break
                lines = [rest]
            else:
                lines = self._splitter.feed(chunk)
                if not lines and (hole := self._splitter.take_hole()):
                    lines = [Line(b"", hole)]
        ends = list(accumulate((line.size for line in lines), initial=self._end))
        self._end = ends[-1]
        return lines, ends[1:]


class LineCursor:
    """Reads masked lines of a file from any position; reading on where the last call ended costs no second scan."""

    def __init__(self, read_at: ReadAt, mask: Mask) -> None:
        self._read_at, self._mask = read_at, mask
        self._at = -1
        self._raw = RawLines(read_at, 0)
        self._ready: Found = ([], [])
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
            self._ready = ([], [])
            self._raw = RawLines(self._read_at, position)
            self._at = position
        lines, ends = self._ready
        while not ends or ends[-1] - position < max_bytes:
            more, more_ends = self._raw.next(end, whole=whole)
            if not more:
                break
            lines += more
            ends += more_ends
        wanted = min(bisect_left(ends, position + max_bytes) + 1, len(ends))
        self._ready = lines[wanted:], ends[wanted:]
        self._at = ends[wanted - 1] if wanted else position
        return list(map(LogLine, self._mask(lines[:wanted]), ends))
