"""Sessions of OpenCode's store as the log of a shipper."""

import socket
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple
from uuid import UUID, uuid4

from agent_trace_sidecar.limits import MAX_LINE_BYTES
from agent_trace_sidecar.records.rows import LogName
from agent_trace_sidecar.redaction import Redacted, Redactor
from agent_trace_sidecar.sources.cursor import redact
from agent_trace_sidecar.sources.lines import HEAD_BYTES, Line, Oversize
from agent_trace_sidecar.sources.log import LogLine


class StoreLine(NamedTuple):
    """A wire line that was made of a row of the store, or of one that is stored already."""

    data: bytes | Redacted
    observed: bytes | None = None


class StoreLog:
    """Lines that are made while they are read: positions count their bytes. Going back means to begin anew."""

    def __init__(self, instance: UUID, label: str, redactor: Redactor, make: Callable[[], Iterator[StoreLine]]) -> None:
        """`make` gives all lines of this instance, from the first one on, the same ones each time."""
        self.name = LogName(instance, uuid4(), "backfill", socket.gethostname(), label)
        self.start = 0
        self.end = sys.maxsize
        self._redactor = redactor
        self._make = make
        self._lines = make()
        self._at = 0

    def read(self, position: int, max_bytes: int) -> list[LogLine]:
        """Lines from `position` on, about `max_bytes` of them."""
        self._go_to(position)
        lines: list[StoreLine] = []
        ends: list[int] = []
        while self._at < position + max_bytes and (line := next(self._lines, None)) is not None:
            lines.append(line)
            self._at += _size(line)
            ends.append(self._at)
        if not lines:
            self.end = position
        raw = [line for line in lines if isinstance(line.data, bytes)]
        fresh = iter(redact(self._redactor, [_line(one) for one in raw], [one.observed for one in raw]))
        kept = (line.data if isinstance(line.data, Redacted) else next(fresh) for line in lines)
        return list(map(LogLine, kept, ends))

    async def more(self, position: int) -> bool:
        """Whether anything may stand after `position`."""
        return position < self.end

    def check(self, position: int) -> str:
        """Each log is read by one process only."""
        return str(position)

    def release(self, position: int) -> None:
        """Keep the store as it is."""

    def rewind(self, position: int) -> None:
        """Nothing to undo: `read` takes any position."""

    def _go_to(self, position: int) -> None:
        if self._at > position:
            self._lines, self._at = self._make(), 0
        while self._at < position and (line := next(self._lines, None)) is not None:
            self._at += _size(line)


def _size(line: StoreLine) -> int:
    return len(line.data.line if isinstance(line.data, Redacted) else line.data) + 1


def _line(line: StoreLine) -> Line | Oversize:
    data = line.data if isinstance(line.data, bytes) else line.data.line
    return Oversize(data[:HEAD_BYTES], len(data) + 1) if len(data) > MAX_LINE_BYTES else Line(data, len(data) + 1)
