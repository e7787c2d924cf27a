"""Lines of a log, parsed, in portions for batches: when enough wait, or when the last flush is long enough ago.

Under backlog the next portion is read, masked and parsed while Postgres works on the one before. Nothing here depends
on the database's state: a portion that was read ahead is still right when its predecessor has to be sent again, and
is dropped when the log is to be read from elsewhere.
"""

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable
from typing import Final
from uuid import UUID

import msgspec

from agent_trace_sidecar.limits import BATCH_BYTES, BATCH_ROWS
from agent_trace_sidecar.opencode.usual import parse
from agent_trace_sidecar.opencode.wire import Envelope, Rejected, head
from agent_trace_sidecar.sources.log import Log, LogLine

_LINGER_S: Final = 0.02
"""After a quiet time the first line goes out almost at once; those that come with it go with it."""
_SLICE_BYTES: Final = 96 * 1024
"""Read ahead in one go: a few milliseconds, for which answers wait; many lines at once are masked best."""
_TURNS: Final = 6
"""Of the event loop between two slices: a statement's answer is read, its task resumed and the next one sent in several
turns. With a single one each of a batch's small statements waits for two slices, and the long COPY overlaps nothing."""
_LEAST_BYTES: Final = 1024
"""A portion does not shrink below this; it holds a line at least."""


class Parsed(msgspec.Struct, frozen=True, gc=False):
    """A line and its event: `found` is None where it is empty, damaged or gone."""

    source: LogLine
    found: Envelope | Rejected | None
    data: bytes = b""
    """The line's bytes."""
    instance: UUID | None = None
    """The run that it belongs to, also of a rejected one that names it: it has come, so it is no gap."""
    seq: int = 0


class Reader:
    """Takes the lines of one log in order."""

    def __init__(self, log: Log, *, batch_size: int, flush_s: float) -> None:
        self._log = log
        self._batch_size = batch_size
        self._flush_s = flush_s
        self._linger_s = min(_LINGER_S, flush_s)
        self._flushed_at = 0.0
        self._room = BATCH_BYTES
        self._ahead: list[Parsed] = []
        self._ahead_from = 0
        self._parsed = Parser()

    async def gather(self, position: int) -> list[Parsed]:
        """Lines from `position` on: what waits already is taken whole.

        Otherwise it waits until there are BATCH_SIZE lines, or FLUSH_MS have passed since the last flush.
        """
        end = max(self._flushed_at + self._flush_s, time.monotonic() + self._linger_s)
        lines = self._ahead if self._ahead_from == position else []
        self._ahead = []
        start, position = position, lines[-1].source.end if lines else position
        while True:
            if (room := self._room - (position - start)) > 0:
                lines += map(self._parsed, self._log.read(position, room))
                position = lines[-1].source.end if lines else position
            left = end - time.monotonic()
            if len(lines) >= self._batch_size or position - start >= self._room or left <= 0:
                break
            try:
                async with asyncio.timeout(left):
                    if not await self._log.more(position):
                        break
            except TimeoutError:
                break
        self._flushed_at = time.monotonic()
        if self._room < BATCH_BYTES:
            lines = lines[: max(1, bisect_right(lines, start + self._room, key=_end))]
        return lines[:BATCH_ROWS]

    def shrink(self) -> None:
        """The last portion was too large to get through in time."""
        self._room = max(self._room // 4, _LEAST_BYTES)

    def grow(self) -> None:
        """The last portion got through with ease."""
        self._room = min(self._room * 2, BATCH_BYTES)

    async def read_ahead(self, position: int, enough: Callable[[], bool]) -> None:
        """Read what stands after `position` by now, until it fills a batch or it is `enough`."""
        lines: list[Parsed] = []
        start = position
        await asyncio.sleep(0)
        while not enough() and position < self._log.end and position - start < self._room and len(lines) < BATCH_ROWS:
            fresh = self._log.read(position, _SLICE_BYTES)
            if not fresh:
                break
            lines += map(self._parsed, fresh)
            position = fresh[-1].end
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        self._ahead, self._ahead_from = lines, start


class Parser:
    """Parses lines in order."""

    def __init__(self) -> None:
        self._instance = UUID(int=0)

    def __call__(self, line: LogLine) -> Parsed:
        """Parse a line."""
        if line.line is None:
            return Parsed(line, None)
        data = line.line.line
        found = parse(data)
        if not isinstance(found, Envelope):
            return _no_event(line, data, found)
        if found.instance.int == self._instance.int:
            found.instance = self._instance  # the same object: it need not be hashed and compared again and again
        else:
            self._instance = found.instance
        return Parsed(line, found, data, found.instance, found.seq)


def _end(line: Parsed) -> int:
    return line.source.end


def _no_event(line: LogLine, data: bytes, found: Rejected) -> Parsed:
    if not data.strip():
        return Parsed(line, None)
    if found.instance is not None and found.seq is not None:
        return Parsed(line, found, data, found.instance, found.seq)
    known = head(data)
    if known is not None and known.seq is not None:
        return Parsed(line, found, data, known.instance, known.seq)
    return Parsed(line, found, data)
