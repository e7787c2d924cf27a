"""Log lines with stable event names, to stderr, which may be a pipe without a reader.

A log call must never wait: what does not fit into the pipe at once is dropped and counted, and the count goes out
with the next line that fits.

structlog is loaded by the first line. Most runs have none, and its import would be the largest part of their start:
it brings whatever it finds for colours and tracebacks.
"""

import os
import select
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final, Protocol

from agent_trace_sidecar.limits.text import printable

_MAX_BYTES: Final = 4096
"""A pipe that is writable takes this much without blocking (PIPE_BUF)."""


class Logger(Protocol):
    """Takes an event's name and its fields."""

    def info(self, event: str, **fields: object) -> None: ...  # noqa: D102
    def warning(self, event: str, **fields: object) -> None: ...  # noqa: D102
    def error(self, event: str, **fields: object) -> None: ...  # noqa: D102


class _NonBlockingWriter:
    """What structlog prints to: one `write` per line, or none."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._dropped = 0

    def msg(self, message: str) -> None:
        """Write one line if it can be written at once."""
        if self._dropped:
            message += f" dropped_log_lines={self._dropped}"
        data = printable(message).encode(errors="replace")[: _MAX_BYTES - 1] + b"\n"
        if try_write(self._fd, data):
            self._dropped = 0
        else:
            self._dropped += 1

    log = debug = info = warning = warn = error = critical = exception = fatal = failure = msg


def try_write(fd: int, data: bytes) -> bool:
    """Write at most PIPE_BUF bytes if the descriptor takes them without waiting; whether they were written."""
    try:
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        ready = poll.poll(0)
        if not ready or not ready[0][1] & select.POLLOUT:
            return False
        return os.write(fd, data) == len(data)
    except OSError:
        return False


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Hide a module that is not loaded yet: structlog would load rich for its tracebacks, which we do not print."""
    hidden = module not in sys.modules
    if hidden:
        sys.modules[module] = None  # type: ignore[assignment] # Python's way to mark a module as absent
    try:
        yield
    finally:
        if hidden:
            del sys.modules[module]


class _Late:
    """A logger that is made when it is used."""

    def __init__(self, writer: _NonBlockingWriter) -> None:
        self._writer = writer

    def info(self, event: str, **fields: object) -> None:
        self._made.info(event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        self._made.warning(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        self._made.error(event, **fields)

    @cached_property
    def _made(self) -> Logger:
        with _without("rich"):
            import structlog  # noqa: PLC0415 - see the top of the file

        bound: Logger = structlog.wrap_logger(
            self._writer,
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                _event_first,
                structlog.processors.LogfmtRenderer(bool_as_flag=False),
            ],
            wrapper_class=structlog.make_filtering_bound_logger("info"),
        )
        return bound


def logger(*, fd: int = 2) -> Logger:
    """A logger that writes to `fd`, as key=value."""
    return _Late(_NonBlockingWriter(fd))


def _event_first(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put time, level and event first, as people read them."""
    first = {key: event.pop(key) for key in ("timestamp", "level", "event")}
    return {**first, **event}
