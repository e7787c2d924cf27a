"""The three logs that a shipper can read: a spool, a finished file, and a file that others still write."""

import asyncio
import socket
import stat
import time
import zlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from agent_trace_sidecar.limits import MAX_LINE_BYTES, READ_BYTES
from agent_trace_sidecar.masking import LineCursor, Mask, masked_by
from agent_trace_sidecar.reading import LogLine
from agent_trace_sidecar.redaction import Funnel
from agent_trace_sidecar.sinks.postgres import LogName
from agent_trace_sidecar.sources.tail import TailFile
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
        self._known_to = spool.recovered
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
        lines = [LogLine(*line) for line in self._spool.read(position, max_bytes)]
        self._known_to = max(self._known_to, lines[-1].end if lines else 0)
        return lines

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
        """Nothing to compare in general: the spool's name is its own, and its lines carry checksums.

        But a position which the database got before the spool was opened, and which lies beyond what was left of it
        then, stands for lines that a damaged disk has lost: those that now stand there are others.
        """
        return "" if position <= self._known_to else "lost"

    def release(self, position: int) -> None:
        """Everything before `position` is in the database."""
        self._spool.release(position)

    def rewind(self, position: int) -> None:
        """The database fell back to `position`."""
        self._spool.rewind(position)


class FileLog:
    """A finished log file: what stands in it when it is opened. A last line that was cut off is left for later."""

    def __init__(self, path: Path, funnel: Funnel) -> None:
        """Open `path`; its lines are masked by `funnel`.

        Raises:
            OSError: it can't be read, or is no regular file.
        """
        self._file = path.open("rb")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            self._file.close()
            raise OSError(0, "it is no regular file; pipe it into `agent-trace-sidecar run`")
        head = zlib.crc32(self._file.read(_HEAD_BYTES).partition(b"\n")[0])
        name = f"agent-trace-sidecar:file:{socket.gethostname()}:{path.resolve()}:{head:08x}"
        self.name = LogName(uuid5(NAMESPACE_URL, name), "file", socket.gethostname(), str(path))
        self.start = 0
        self.size = status.st_size
        self.end = self._end_of_lines(status.st_size)
        self._cursor = LineCursor(self._read_at, masked_by(funnel))

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
        """Masked lines from `position` on."""
        return self._cursor.read(position, self.end, max_bytes, whole=True)

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


class TailLog:
    """A followed file as the log of a shipper, for one turn: to its present end, and on as long as nobody else waits.

    The file's truth is on the disk and may change under us: what is read from another life of the file is not used,
    and the turn ends.
    """

    def __init__(self, file: TailFile, mask: Mask, stay: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        """`stay` waits for the next look at the files; it returns False when the turn is over."""
        self._file = file
        self._cursor = LineCursor(file.read_at, mask)
        self._stay = stay
        self._limit = file.end
        self.start = 0
        self.name = LogName(tail_id(file), "file", socket.gethostname(), file.label)

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
        begin = max(0, position - _CHECK_BYTES)
        data = self._file.read_at(begin, position - begin)
        return "replaced" if self._file.replaced else f"{zlib.crc32(data):08x}"

    def release(self, position: int) -> None:
        """Everything before `position` is in the database."""
        self._file.shipped, self._file.shipped_at = position, time.monotonic()

    def rewind(self, position: int) -> None:
        """The database is at `position`."""
        self._file.shipped, self._file.asked, self._file.asked_at = position, True, time.monotonic()


def tail_id(file: TailFile) -> UUID:
    """What a followed file is called in the database."""
    return uuid5(NAMESPACE_URL, f"agent-trace-sidecar:tail:{socket.gethostname()}:{file.identity}")


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return False
    return True
