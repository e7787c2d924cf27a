"""Reads a file of the worktree, and nothing else: no link out of it, no device, no pipe, nothing huge."""

import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

MAX_FILE_BYTES: Final = 2 * 1024 * 1024
"""Bigger files are attributed by what the tool says of them."""


class Content(NamedTuple):
    """A file's bytes; no file at all is empty and of time 0."""

    data: bytes
    written_ns: int
    """When they were last written, since the epoch; a program can set it."""
    changed_ns: int = 0
    """When the file was last written, moved or otherwise touched; only the kernel sets it."""


def read(root: Path, relative: str) -> Content | None:
    """The content of a regular file inside `root`; None for anything that is not to be read.

    Raises:
        OSError: the file is there and can't be read.
    """
    real_root = os.path.realpath(root)
    real = os.path.realpath(os.path.join(real_root, relative))  # noqa: PTH118 - Path has no realpath of its speed
    if os.path.commonpath((real_root, real)) != real_root:
        return None
    try:
        fd = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return Content(b"", 0)
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
            return None
        data = file.read(MAX_FILE_BYTES + 1)
        return Content(data, status.st_mtime_ns, status.st_ctime_ns) if len(data) <= MAX_FILE_BYTES else None
