"""The two logs that a shipper can read: a spool, and a finished file."""

import asyncio
import socket
import stat
import zlib
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import NAMESPACE_URL, uuid5

import msgspec

from agent_trace_sidecar.limits import MAX_LINE_BYTES, READ_BYTES
from agent_trace_sidecar.redaction import Funnel, Redacted
from agent_trace_sidecar.ship import LogLine
from agent_trace_sidecar.sinks.postgres import LogName
from agent_trace_sidecar.sources.lines import Line, LineSplitter, Oversize
from agent_trace_sidecar.spool import Spool

_HEAD_BYTES: Final = 1024
"""A file is known by its path and this much of its beginning."""
_CHECK_BYTES: Final = 1024
"""... and a position in it by what stands before it."""


class SpoolLog:
    """A spool as the log of a shipper. Its writer, if it lives, reports what has become durable."""

    def __init__(self, spool: Spool, *, ended: bool) -> None:
        self._spool = spool
        self._ended = ended
        self._changed = asyncio.Event()
        self.name = LogName(spool.source_id, "stdin", socket.gethostname(), spool.folder.name)

    @property
    def start(self) -> int:
        """The first position that can still be read."""
        return self._spool.start

    @property
    def end(self) -> int:
        """The position after the last durable line."""
        return self._spool.durable

    def grown(self) -> None:
        """Something became durable."""
        self._changed.set()

    def finish(self) -> None:
        """Nothing will be appended any more."""
        self._ended = True
        self._changed.set()

    def read(self, position: int, max_bytes: int) -> list[LogLine]:
        """Durable lines from `position` on."""
        return [LogLine(*line) for line in self._spool.read(position, max_bytes)]

    async def more(self, position: int) -> bool:
        """Wait until something durable stands after `position`; False when there never will be."""
        while self._spool.durable <= position:
            if self._ended:
                return False
            self._changed.clear()
            if self._spool.durable <= position and not self._ended:
                await self._changed.wait()
        return True

    def check(self, position: int) -> str:
        """Nothing to compare: the spool's name is its own, and its lines carry checksums."""
        del position
        return ""

    def release(self, position: int) -> None:
        """Everything before `position` is in the database."""
        self._spool.release(position)

    def rewind(self, position: int) -> None:
        """The database fell back to `position`."""
        self._spool.rewind(position)


class FileLog:
    """A finished log file: what stands in it when it is opened. A last line that was cut off is left for later."""

    def __init__(self, path: Path, funnel: Funnel) -> None:
        """Open `path`.

        Raises:
            OSError: it can't be read, or is no regular file.
        """
        self._file = path.open("rb")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            self._file.close()
            raise OSError(0, "it is no regular file; pipe it into `agent-trace-sidecar run`")
        self._funnel = funnel
        head = zlib.crc32(self._file.read(_HEAD_BYTES).partition(b"\n")[0])
        name = f"agent-trace-sidecar:file:{socket.gethostname()}:{path.resolve()}:{head:08x}"
        self.name = LogName(uuid5(NAMESPACE_URL, name), "file", socket.gethostname(), str(path))
        self.start = 0
        self.size = status.st_size
        self.end = self._end_of_lines(status.st_size)
        self._at = self._offset = -1
        self._splitter = LineSplitter(MAX_LINE_BYTES)
        self._ready: deque[LogLine] = deque()

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
        """Masked lines from `position` on; reading on where the last call ended costs no second look."""
        if position != self._at:
            self._ready.clear()
            self._splitter = LineSplitter(MAX_LINE_BYTES)
            self._at = self._offset = position
        lines: list[LogLine] = []
        taken = 0
        while taken < max_bytes and (self._ready or self._fill()):
            line = self._ready.popleft()
            taken += line.end - self._at
            self._at = line.end
            lines.append(line)
        return lines

    async def more(self, position: int) -> bool:
        """Whether anything stands after `position`; the file does not grow."""
        return position < self.end

    def check(self, position: int) -> str:
        """A checksum of what stands before `position`: another file of the same name has another one."""
        begin = max(0, position - _CHECK_BYTES)
        self._file.seek(begin)
        return f"{zlib.crc32(self._file.read(position - begin)):08x}"

    def release(self, position: int) -> None:
        """Keep the file as it is."""

    def rewind(self, position: int) -> None:
        """Nothing to undo: `read` takes any position."""

    def _fill(self) -> bool:
        """Read on until at least one line is complete; whether there is one."""
        end = self._ready[-1].end if self._ready else self._at
        while not self._ready:
            self._file.seek(self._offset)
            chunk = self._file.read(min(READ_BYTES, self.end - self._offset))
            self._offset += len(chunk)
            lines = self._splitter.feed(chunk)
            if not chunk:
                rest = self._splitter.finish()
                if rest is None:
                    return False
                lines = [rest]
            for line in lines:
                end += line.size
                self._ready.append(LogLine(self._mask(line), end))
        return True

    def _mask(self, line: Line | Oversize) -> Redacted:
        if isinstance(line, Oversize):
            return self._funnel.oversize(line.head, line.size)
        return self._funnel.line(line.data)

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
