"""A finished log file as the log of a shipper."""

import os
import socket
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import NAMESPACE_URL, uuid5

import msgspec

from agent_trace_sidecar.limits import MAX_LINE_BYTES, READ_BYTES
from agent_trace_sidecar.opencode.wire import instance_of
from agent_trace_sidecar.records.rows import LogName
from agent_trace_sidecar.redaction import Redactor
from agent_trace_sidecar.sources.cursor import Denies, LineCursor, masked_by, nothing
from agent_trace_sidecar.sources.log import CHECK_BYTES, LogLine, checksum
from agent_trace_sidecar.sources.plain import open_plain

_HEAD_BYTES: Final = 1024
"""A file is identified by its path and this much of its beginning."""


class FileLog:
    """A finished log file: what stands in it when it is opened. A last line that was cut off is left for later."""

    def __init__(
        self,
        path: Path,
        redactor: Redactor,
        observe: Callable[[bytes], bytes | None] | None = None,
        *,
        denies: Denies = nothing,
    ) -> None:
        """Open `path`; its lines are masked by `redactor`, after `observe` (see `cursor.observed`) has seen them.

        Lines that it `denies` are only counted.

        Raises:
            NotALogError: it is no log.
            OSError: it can't be read, or is no regular file.
        """
        self._file = open_plain(path)
        head = self._file.read(_HEAD_BYTES).partition(b"\n")[0]
        name = f"agent-trace-sidecar:file:{socket.gethostname()}:{path.resolve()}:{zlib.crc32(head):08x}"
        log_id = uuid5(NAMESPACE_URL, name)
        self.name = LogName(instance_of(head) or log_id, log_id, "file", socket.gethostname(), str(path))
        self.start = 0
        self.size = self._file.seek(0, os.SEEK_END)
        self.end = self._end_of_lines(self.size)
        self.is_truncated = False
        """Whether the file became shorter while it was read."""
        self._cursor = LineCursor(self._read_at, masked_by(redactor, observe, denies=denies))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def incomplete_bytes(self) -> int:
        """Bytes of a last line that was cut off."""
        return self.size - self.end

    def read(self, position: int, max_bytes: int) -> list[LogLine]:
        """Masked lines from `position` on; where the file has become shorter meanwhile, it ends there."""
        lines = self._cursor.read(position, self.end, max_bytes, whole=True)
        if not lines and position < self.end:
            self.end, self.is_truncated = position, True
        return lines

    async def more(self, position: int) -> bool:
        """Whether anything stands after `position`; the file does not grow."""
        return position < self.end

    def check(self, position: int) -> str:
        """A checksum of what stands before `position`: another file of the same name has another one."""
        begin = max(0, position - CHECK_BYTES)
        self._file.seek(begin)
        return checksum(self._file.read(position - begin))

    def release(self, position: int) -> None:
        """Keep the file as it is."""

    def rewind(self, position: int) -> None:
        """Nothing to undo: `read` takes any position."""

    def _read_at(self, offset: int, max_bytes: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(max_bytes)

    def _end_of_lines(self, size: int) -> int:
        """The position after the last complete line; a last line that only lacks its newline is complete."""
        position = size
        while position:
            step = min(position, READ_BYTES)
            self._file.seek(position - step)
            cut = self._file.read(step).rfind(b"\n")
            if cut >= 0:
                position += cut + 1 - step
                break
            position -= step
        if 0 < size - position <= MAX_LINE_BYTES:
            self._file.seek(position)
            if _is_json(self._file.read(size - position)):
                return size
        return position


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return False
    return True
