"""How long an event may keep the processor: text can be written so that finding its secrets takes minutes.

Counted in the processor time of the thread, so that a busy machine withholds nothing. Each loop over candidates checks
it; a single pattern can't be interrupted, which is why all of them are linear.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from agent_trace_sidecar.redaction.rules import Overload

_BASE_S: Final = 1.0
_PER_MIB_S: Final = 2.0
"""Ten times what the slowest of real events takes."""


class Overdue(Overload):
    """An event has used up its processor time."""


class _Thread(threading.local):
    ends_at = float("inf")


_THREAD: Final = _Thread()


@contextmanager
def deadline(size: int) -> Iterator[None]:
    """The time for a text of `size` bytes, in this thread. Inside of it `check_deadline` raises when it is over."""
    before = _THREAD.ends_at
    _THREAD.ends_at = min(before, time.thread_time() + _BASE_S + _PER_MIB_S * size / (1 << 20))
    try:
        yield
    finally:
        _THREAD.ends_at = before


def check_deadline() -> None:
    """Raise Overdue when the time is over; costs less than a microsecond."""
    if time.thread_time() > _THREAD.ends_at:
        raise Overdue
