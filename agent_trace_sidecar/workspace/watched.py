"""The observer as the intake uses it: a repository that does not answer costs one event's facts, and no event."""

from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from agent_trace_sidecar.limits import OBSERVE_S
from agent_trace_sidecar.limits.watchdog import LateError, Watchdog
from agent_trace_sidecar.opencode.wire import Observed
from agent_trace_sidecar.workspace.observer import Observer, is_observable

UNOBSERVED: Final = msgspec.json.encode(Observed(late=True))


class WatchedObserver:
    """Observers under a deadline; for one thread."""

    def __init__(
        self,
        make: Callable[[], Observer],
        *,
        on_late: Callable[[], None],
        on_error: Callable[[Exception], None],
        is_excused: Callable[[], bool] = lambda: False,
        deadline_s: float = OBSERVE_S,
    ) -> None:
        """Make one.

        Args:
            make: makes an observer. One that was late is left to its thread, with all that it remembered.
            on_late: called when a repository did not answer in time.
            on_error: called when the observer has failed.
            is_excused: see `Watchdog`.
            deadline_s: how long one event may be observed.
        """
        self._make = make
        self._observer = make()
        self._on_late, self._on_error = on_late, on_error
        self._watchdog: Watchdog[bytes | None] = Watchdog(deadline_s, is_excused=is_excused)

    def observe(self, line: bytes) -> bytes | None:
        """As of `Observer`; where the repository can't be read, or not in time, the event is marked as unobserved.

        Never raises: whatever a repository does to us, the line itself is recorded.
        """
        try:
            worth = is_observable(line)
            if worth is None:
                return None
            if not self._observer.may_wait(*worth):
                return self._observer.look(*worth)
            place = worth[0].worktree or worth[0].directory or ""
            return self._watchdog.call(place, partial(self._observer.look, *worth))
        except LateError as late:
            if late.begun:
                self._observer = self._make()
                self._on_late()
            return UNOBSERVED
        except Exception as exc:  # noqa: BLE001 - see above
            self._on_error(exc)
            return UNOBSERVED
