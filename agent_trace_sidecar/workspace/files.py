"""The one way to read a file that somebody else made, in a repository or beside it.

A name may lead to a pipe that nobody writes, to a device, to a file without an end, or to a disk that has gone away.
So: regular files only, looked at before they are opened and once more after; opened without waiting; so many bytes
and so many seconds at most. What blocks inside the kernel all the same is `watchdog`'s to end.
"""

import os
import stat
import time
from pathlib import Path
from typing import Final, NamedTuple

MAX_FILE_BYTES: Final = 2 * 1024 * 1024
"""Bigger files are attributed by what the tool says of them."""
READ_S: Final = 5.0
"""How long one file may take; the calls of a step have budgets of their own besides."""
_CHUNK: Final = 1024 * 1024
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

StrPath = str | os.PathLike[str]


class NotRegularError(OSError):
    """It is there, and no regular file: a folder, a pipe, a device, or a link that is not to be followed."""


class TooLargeError(OSError):
    """It holds more bytes than may be read."""


class Content(NamedTuple):
    """A file's bytes; no file at all is empty and of time 0."""

    data: bytes
    written_ns: int
    """When they were last written, since the epoch; a program can set it."""
    changed_ns: int = 0
    """When the file was last written, moved or otherwise touched; only the kernel sets it."""


def read_whole(path: StrPath, max_bytes: int, *, follow_links: bool = True) -> Content:
    """The content of a regular file of at most `max_bytes`.

    Raises:
        FileNotFoundError: there is none.
        NotRegularError: it is something else.
        TooLargeError: it is larger.
        OSError: it can't be read, or not in time.
    """
    fd, status = _opened(path, follow_links=follow_links)
    try:
        if status.st_size > max_bytes:
            raise TooLargeError(f"larger than {max_bytes} bytes")
        data = _read(fd, max_bytes + 1)
    finally:
        os.close(fd)
    if len(data) > max_bytes:
        raise TooLargeError(f"larger than {max_bytes} bytes")
    return Content(data, status.st_mtime_ns, status.st_ctime_ns)


def read_part(path: StrPath, max_bytes: int, *, offset: int = 0) -> bytes:
    """Up to `max_bytes` of a regular file from `offset` on; empty where there is no such file.

    Raises:
        OSError: it can't be read, or not in time.
    """
    try:
        fd, _ = _opened(path, follow_links=True)
    except (FileNotFoundError, NotADirectoryError, NotRegularError):
        return b""
    try:
        if offset:
            os.lseek(fd, offset, os.SEEK_SET)
        return _read(fd, max_bytes)
    finally:
        os.close(fd)


def read_small(path: StrPath, max_bytes: int = 4096) -> str:
    """A small file's text without blanks around it; empty where there is none.

    Raises:
        OSError: it can't be read, or not in time.
    """
    return read_part(path, max_bytes).decode(errors="replace").strip()


def read_inside(root: Path, relative: str) -> Content | None:
    """The content of a regular file inside `root`; None for anything that is not to be read.

    Raises:
        OSError: the file is there and can't be read.
    """
    real_root = os.path.realpath(root)
    real = os.path.realpath(os.path.join(real_root, relative))  # noqa: PTH118 - Path has no realpath of its speed
    if os.path.commonpath((real_root, real)) != real_root:
        return None
    try:
        return read_whole(real, MAX_FILE_BYTES, follow_links=False)
    except (FileNotFoundError, NotADirectoryError):
        return Content(b"", 0)
    except (NotRegularError, TooLargeError):
        return None


def _opened(path: StrPath, *, follow_links: bool) -> tuple[int, os.stat_result]:
    """A descriptor of a regular file. The look before is for devices: opening one may already do something."""
    _regular(os.stat(path, follow_symlinks=follow_links))  # noqa: PTH116 - takes both kinds of paths
    fd = os.open(path, _FLAGS if follow_links else _FLAGS | os.O_NOFOLLOW)
    try:
        return fd, _regular(os.fstat(fd))
    except NotRegularError:
        os.close(fd)
        raise


def _regular(status: os.stat_result) -> os.stat_result:
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularError("not a regular file")
    return status


def _read(fd: int, max_bytes: int) -> bytes:
    """So many bytes, or all there are."""
    deadline = time.monotonic() + READ_S
    chunks: list[bytes] = []
    left = max_bytes
    while left and (chunk := os.read(fd, min(left, _CHUNK))):
        chunks.append(chunk)
        left -= len(chunk)
        if time.monotonic() > deadline:
            raise TimeoutError(f"not read within {READ_S} s")
    return b"".join(chunks)
