"""The lines of a file, masked, from any position: in this process, or ahead in one of its own.

Masking is most of the work of a replay, so a long file gets a process that does nothing else. It is one, and gets the
lines in order: the funnel remembers what secrets a session has shown. If it dies the replay fails, rather than going on
with a funnel that has forgotten them; started again, it goes on where it was.
"""

import asyncio
import gc
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from typing import Final, TypeAlias

from agent_trace_sidecar.limits import GARBAGE_OBJECTS, MAX_LINE_BYTES, READ_BYTES
from agent_trace_sidecar.reading import LogLine
from agent_trace_sidecar.redaction import Funnel, Redacted
from agent_trace_sidecar.sources.lines import Line, LineSplitter, Oversize

Mask: TypeAlias = Callable[[Line | Oversize], Redacted]
ReadAt: TypeAlias = Callable[[int, int], bytes]
"""Takes an offset and a number of bytes, and returns no more of them."""

_PROCESSORS: Final = 3
_PORTIONS: Final = 4
"""Reads that are on their way through the process aside: one being masked, one waiting, two done."""


def masked_by(funnel: Funnel, observe: Callable[[bytes], bytes | None] = lambda _: None) -> Mask:
    """What makes a line of a file fit to be shipped: the funnel, and what is seen of the repository."""

    def mask(line: Line | Oversize) -> Redacted:
        if isinstance(line, Oversize):
            return funnel.oversize(line.head, line.size)
        return funnel.line(line.data, observe(line.data))

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
        lines: list[LogLine] = []
        taken = 0
        while taken < max_bytes:
            if not self._ready:
                self._ready.extend(self._raw.next(end, whole=whole))
                if not self._ready:
                    break
            line, end_of_line = self._ready.popleft()
            taken += end_of_line - self._at
            self._at = end_of_line
            lines.append(LogLine(self._mask(line), end_of_line))
        return lines


class MaskingDiedError(Exception):
    """The process that masks is gone, and with it what it remembered."""


class MaskingProcess:
    """A process with a funnel of its own. It starts with the first lines that it gets."""

    def __init__(self, make_funnel: Callable[[], Funnel]) -> None:
        """`make_funnel` is called there, so it must be known there by its name."""
        # Imported here: `run` must not wait for what only a replay needs.
        from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415
        from multiprocessing import get_context  # noqa: PLC0415

        self._pool = ProcessPoolExecutor(1, get_context("spawn"), _begin, (make_funnel,))

    def submit(self, lines: Sequence[Line | Oversize]) -> "Future[list[bytes]]":
        """Mask lines after all those that were submitted before.

        Raises:
            MaskingDiedError: the process is gone.
        """
        try:
            return self._pool.submit(_mask_all, lines)
        except BrokenExecutor:
            raise MaskingDiedError from None

    def close(self) -> None:
        """End it."""
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def aside(make_funnel: Callable[[], Funnel]) -> Iterator[MaskingProcess | None]:
    """Give such a process where there is a processor for it, beside those for us and for Postgres.

    With two, each would wait for the others in turn, and a replay took longer.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if usable < _PROCESSORS:
        yield None
        return
    process = MaskingProcess(make_funnel)
    try:
        yield process
    finally:
        process.close()


_masks: list[Mask] = []
"""In the process aside: its one mask."""


def _begin(make_funnel: Callable[[], Funnel]) -> None:
    gc.set_threshold(GARBAGE_OBJECTS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the replay, which ends us
    _masks.append(masked_by(make_funnel()))


def _mask_all(lines: Sequence[Line | Oversize]) -> list[bytes]:
    (mask,) = _masks
    return [mask(line).line for line in lines]


def _result(masked: "Future[list[bytes]]") -> list[bytes]:
    try:
        return masked.result()
    except BrokenExecutor:
        raise MaskingDiedError from None


class AsideCursor:
    """As `LineCursor`, masked ahead by another process: `read` gives what is ready, `more` waits for it."""

    def __init__(self, read_at: ReadAt, aside: MaskingProcess) -> None:
        self._read_at, self._aside = read_at, aside
        self._at = -1
        self._raw = RawLines(read_at, 0)
        self._underway: deque[tuple[list[int], Future[list[bytes]]]] = deque()
        self._ready: deque[LogLine] = deque()

    def read(self, position: int, end: int, max_bytes: int) -> list[LogLine]:
        """What is masked of the lines from `position` on, about `max_bytes` of them.

        Raises:
            MaskingDiedError: the process is gone.
        """
        self._fill(position, end)
        lines: list[LogLine] = []
        taken = 0
        while taken < max_bytes:
            if not self._ready:
                if not (self._underway and self._underway[0][1].done()):
                    break
                ends, masked = self._underway.popleft()
                pairs = zip(_result(masked), ends, strict=True)
                self._ready.extend(LogLine(Redacted.from_spool(line), at) for line, at in pairs)
            line = self._ready.popleft()
            taken += line.end - self._at
            self._at = line.end
            lines.append(line)
        return lines

    async def more(self, position: int, end: int) -> None:
        """Wait until `read` gives something."""
        self._fill(position, end)
        if not self._ready and self._underway:
            await asyncio.wait([asyncio.wrap_future(self._underway[0][1])])

    def _fill(self, position: int, end: int) -> None:
        """Keep the process busy."""
        if position != self._at:
            for _, future in self._underway:
                future.cancel()
            self._underway.clear()
            self._ready.clear()
            self._raw = RawLines(self._read_at, position)
            self._at = position
        while len(self._underway) < _PORTIONS and (lines := self._raw.next(end, whole=True)):
            self._underway.append(([at for _, at in lines], self._aside.submit([line for line, _ in lines])))
