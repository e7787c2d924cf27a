"""One file of a spool: how a line stands in it, and how it is read back.

Each line ends in a CRC field of its own: a flipped bit makes a damaged line, not a wrong one. The bytes are those
that the spool was given; nothing here knows what is in them.
"""

import contextlib
import errno
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from agent_trace_sidecar.limits import READ_BYTES

_CRC_SIZE: Final = len(b',"crc":"00000000"}')
_LOST: Final = (errno.ENOENT, errno.EIO, errno.EISDIR)
"""Errors that mean a file's lines are gone. Others, too many open files for example, are temporary."""


class Stored(NamedTuple):
    """One line read back: `end` is the position after it; `line` is None where the bytes were damaged."""

    line: bytes | None
    end: int
    damaged: bytes = b""


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def frame(line: bytes) -> bytes:
    """Put the CRC into the object's last place, so that the file stays JSON lines; anything else goes as it is."""
    line = line.replace(b"\n", b" ")
    if line.startswith(b'{"') and line.endswith(b"}"):
        body = line[:-1]
        return b'%b,"crc":"%08x"}\n' % (body, zlib.crc32(body))
    return line + b"\n"


def unframe(line: bytes) -> bytes | None:
    """Return the line as it was appended, or None when its CRC is missing or wrong."""
    body, tail = line[:-_CRC_SIZE], line[-_CRC_SIZE:]
    if not line.startswith(b'{"') or not line.endswith(b"}"):
        return line
    if tail[:8] != b',"crc":"' or tail[8:16] != b"%08x" % zlib.crc32(body):
        return None
    return body + b"}"


def read_lines(path: Path, segment: int, position: int, limit: int, max_bytes: int) -> list[Stored]:
    """Lines of one segment from `position` to `limit`; bytes without a newline up to `limit` are one damaged line."""
    want = min(max(max_bytes, READ_BYTES), limit - position)
    try:
        with path.open("rb") as file:
            file.seek(position - segment)
            data = file.read(want)
            if b"\n" not in data and len(data) == want:
                data += file.read(limit - position - want)
    except OSError as exc:
        if exc.errno not in _LOST:
            raise
        return []
    whole, newline, rest = data.rpartition(b"\n")
    lines = list(_split(whole, position)) if newline else []
    complete = position + len(whole) + len(newline)
    if complete < limit and (len(data) < want or position + len(data) >= limit):
        lines.append(Stored(None, limit, rest))
    return lines


def _split(whole: bytes, position: int) -> Iterator[Stored]:
    for data in whole.split(b"\n"):
        position += len(data) + 1
        line = unframe(data)
        yield Stored(None, position, data) if line is None else Stored(line, position)


def size_of_whole_lines(fd: int) -> int:
    """The file's size up to and including its last newline."""
    size = os.fstat(fd).st_size
    while size:
        step = min(size, READ_BYTES)
        cut = os.pread(fd, step, size - step).rfind(b"\n")
        if cut >= 0:
            return size - step + cut + 1
        size -= step
    return 0


def lines_after(paths: Iterable[Path], position: int) -> tuple[int, bytes]:
    """How many lines of these segments stand after `position`, and the beginning of the first; some may vanish."""
    lines, first = 0, b""
    for path in paths:
        start = int(path.stem)
        with contextlib.suppress(OSError), path.open("rb") as file:
            file.seek(max(0, position - start))
            while chunk := file.read(READ_BYTES):
                first = first or chunk
                lines += chunk.count(b"\n")
    return lines, first
