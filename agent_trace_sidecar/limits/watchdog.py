"""Ends the wait for what may never return: a read from a disk that has gone away can't be interrupted.

The work is done in another thread. A call that is not done in time leaves that thread to itself, and the next call
gets a new one; the number of such threads is bounded.
"""

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar

T = TypeVar("T")

MAX_STUCK: Final = 4
"""Abandoned threads; while there are so many no other call is begun."""
PAUSE_S: Final = 60.0
"""What was late is left alone for so long, also when it has come to an end."""


class LateError(Exception):
    """There is no result in time. `begun`: the call is still at work; otherwise it never began."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__("not done in time")
        self.begun = begun


class _Worker(Generic[T]):
    """A thread that does one call after the other."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], T] | None] = SimpleQueue()
        self._outcomes: SimpleQueue[Callable[[], T]] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="watched", daemon=True)
        self._thread.start()

    @property
    def at_work(self) -> bool:
        """Whether the thread has not ended."""
        return self._thread.is_alive()

    def call(self, function: Callable[[], T], deadline_s: float, is_excused: Callable[[], bool]) -> T:
        """The function's result; after a LateError the thread ends with it."""
        self._calls.put(function)
        while True:
            excused = is_excused()
            try:
                outcome = self._outcomes.get(timeout=deadline_s)
            except Empty:
                if excused:
                    continue
                self._calls.put(None)
                raise LateError(begun=True) from None
            return outcome()

    def _work(self) -> None:
        while (function := self._calls.get()) is not None:
            self._outcomes.put(_done(function))


def _done(function: Callable[[], T]) -> Callable[[], T]:
    """Call a function; what returns its result or raises its error, in another thread."""
    try:
        result = function()
    except Exception as exc:  # noqa: BLE001 - raised again by what is returned
        error = exc

        def fail() -> T:
            raise error

        return fail
    return lambda: result


class Watchdog(Generic[T]):
    """Calls functions under a deadline; for one thread."""

    def __init__(
        self,
        deadline_s: float,
        *,
        is_excused: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make one.

        Args:
            deadline_s: how long a call may take.
            is_excused: whether a call may wait at the moment for what is no fault of its own, and must end by itself:
                its deadline is counted anew.
            clock: seconds that only go forward, for the pause after a late call.
        """
        self._deadline_s = deadline_s
        self._is_excused = is_excused
        self._clock = clock
        self._worker: _Worker[T] | None = None
        self._late: dict[str, tuple[_Worker[T], float]] = {}

    def call(self, key: str, function: Callable[[], T]) -> T:
        """What the function returns or raises.

        Args:
            key: what the call is about; after a late one no other with this key begins for a while.
            function: runs in another thread.

        Raises:
            LateError: it is not done in time, or did not begin.
        """
        if self._late and not self._may_begin(key):
            raise LateError(begun=False)
        worker = self._worker = self._worker or _Worker()
        try:
            return worker.call(function, self._deadline_s, self._is_excused)
        except LateError:
            self._late[key] = worker, self._clock()
            self._worker = None
            raise

    def _may_begin(self, key: str) -> bool:
        now = self._clock()
        self._late = {
            late: (worker, at) for late, (worker, at) in self._late.items() if worker.at_work or now - at < PAUSE_S
        }
        return key not in self._late and sum(worker.at_work for worker, _ in self._late.values()) < MAX_STUCK
