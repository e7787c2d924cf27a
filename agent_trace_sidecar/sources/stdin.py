"""Lines from stdin, read by a thread of their own.

A blocking `os.read` works alike on a pipe, socket, pty, regular file and /dev/null; asyncio's and uvloop's readers
do not. The thread is a daemon: a read that never returns must not keep a stopped process alive.
"""

import contextlib
import errno
import fcntl
import os
import select
from collections.abc import Iterator

from agent_trace_sidecar.limits import MAX_LINE_BYTES, PIPE_BYTES, READ_BYTES
from agent_trace_sidecar.sources.lines import Line, LineSplitter, Oversize


def read_lines(fd: int, stop_fd: int, *, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[list[Line | Oversize]]:
    """Yield the lines of each read; the last list may hold one line that was cut off without a newline.

    Ends at end of file, when the descriptor is closed or its terminal has gone, and, once `stop_fd` is readable, as
    soon as nothing more can be read at once: what a dying OpenCode left in the pipe is still taken.
    """
    with contextlib.suppress(OSError, AttributeError):  # no pipe, more than this user may have, or no Linux
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    splitter = LineSplitter(max_line_bytes)
    stopping = False
    while True:
        ready, _, _ = select.select([fd, stop_fd], [], [], 0) if stopping else select.select([fd, stop_fd], [], [])
        if fd not in ready:
            if stopping:
                return
            stopping = True
            continue
        chunk = _read(fd)
        if chunk is None:
            continue
        if not chunk:
            break
        if lines := splitter.feed(chunk):
            yield lines
    if (rest := splitter.finish()) is not None:
        yield [rest]


def _read(fd: int) -> bytes | None:
    """What is there; nothing at the end, None when another reader of the same pipe was faster."""
    try:
        return os.read(fd, READ_BYTES)
    except BlockingIOError:
        return None
    except OSError as exc:
        if exc.errno in (errno.EIO, errno.EBADF, errno.ECONNRESET):
            return b""
        raise
