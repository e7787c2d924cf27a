"""A followed file as the log of a shipper."""

import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias
from uuid import NAMESPACE_URL, uuid5

from agent_trace_sidecar.records.rows import LogKey, LogName
from agent_trace_sidecar.sources.cursor import LineCursor, Mask
from agent_trace_sidecar.sources.log import CHECK_BYTES, LogLine, checksum
from agent_trace_sidecar.sources.tail import TailFile

Stay: TypeAlias = Callable[[], Coroutine[Any, Any, bool]]
"""Waits for the next poll of the files; returns False when the turn is over."""


class TailLog:
    """A followed file as the log of a shipper, for one turn: to its present end, and on as long as no other file waits.

    The file's truth is on the disk and may change under us: what is read from another life of the file is not used,
    and the turn ends.
    """

    def __init__(self, file: TailFile, mask: Mask, stay: Stay) -> None:
        """`stay` waits for the next poll of the files; it returns False when the turn is over."""
        self._file = file
        self._cursor = LineCursor(file.read_at, mask)
        self._stay = stay
        self._limit = file.end
        self.start = 0
        self.name = LogName(*tail_key(file), "file", socket.gethostname(), file.label)

    @property
    def end(self) -> int:
        """The position after the last complete line that is this turn's."""
        return min(self._limit, self._file.end)

    def read(self, position: int, max_bytes: int) -> list[LogLine]:
        """Masked lines from `position` on; none when the file has been replaced."""
        end = self.end
        lines = self._cursor.read(position, end, max_bytes, whole=self._file.closed and end == self._file.end)
        if not lines and position < end:
            self._file.reconsider(position)
        return lines

    async def more(self, position: int) -> bool:
        """Wait until something stands after `position`; False when this turn is over."""
        while not self._file.replaced:
            if position < self.end:
                return True
            if not await self._stay():
                return False
            self._limit = self._file.end
        return False

    def check(self, position: int) -> str:
        """A checksum of what stands before `position`; one that fits nothing when the file has been replaced."""
        begin = max(0, position - CHECK_BYTES)
        data = self._file.read_at(begin, position - begin)
        return "replaced" if self._file.replaced else checksum(data)

    def release(self, position: int) -> None:
        """Everything before `position` is in the database."""
        self._file.shipped, self._file.shipped_at = position, time.monotonic()

    def rewind(self, position: int) -> None:
        """The database is at `position`."""
        self._file.shipped, self._file.checked, self._file.checked_at = position, True, time.monotonic()


def tail_key(file: TailFile) -> LogKey:
    """What a followed file is called in the database."""
    log_id = uuid5(NAMESPACE_URL, f"agent-trace-sidecar:tail:{socket.gethostname()}:{file.identity}")
    return LogKey(file.instance or log_id, log_id)
