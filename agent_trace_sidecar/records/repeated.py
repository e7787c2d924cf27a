"""Whether a part of a message reports the end of a call, or repeats one that ended long ago; pure.

OpenCode sends the parts of old calls again: when a session is forked or pruned, when a part is edited, when history is
imported. Nothing of that is work. A part stands for the end of a call only if the call was seen to begin, or if it
ended when the part was sent, in this run and after the session was created. What a hook reports is never history.
"""

from typing import Final

import msgspec

from agent_trace_sidecar.opencode.events import CallTimes

LATE_MS: Final = 1000.0
"""A part is sent when its call ends, by the same process: later than this it is sent again."""
MAX_KEPT: Final = 512


def is_history(times: CallTimes | None, at_ms: float, *, begun: bool, since_ms: float) -> bool:
    """Whether a call's outcome is reported again.

    Args:
        times: the call's times in the part; None where a hook reports the end.
        at_ms: when it is reported.
        begun: the call was seen to begin, and not seen to end.
        since_ms: when the session was created, or this run began.
    """
    if times is None:
        return False
    if times.compacted:
        return True
    if begun:
        return False
    return times.ended_ms is not None and (times.ended_ms < since_ms or at_ms - times.ended_ms > LATE_MS)


class RepeatedHistory(msgspec.Struct):
    """What must be remembered to decide; the oldest entries are dropped first."""

    begun: dict[str, int] = {}
    since: dict[str, float] = {}

    def begins(self, session_id: str | None, call_id: str | None) -> None:
        """A call's hook has fired."""
        key = f"{session_id}\n{call_id}"
        self.begun.pop(key, None)
        self.begun[key] = 1
        _shorten(self.begun)

    def ends(self, session_id: str | None, call_id: str | None) -> None:
        """A call has had its outcome."""
        self.begun.pop(f"{session_id}\n{call_id}", None)

    def created(self, session_id: str, at_ms: float) -> None:
        """A session holds its time of creation."""
        self.since[session_id] = at_ms
        _shorten(self.since)

    def is_repeated(self, session_id: str | None, call_id: str | None, times: CallTimes | None, at_ms: float) -> bool:
        """See `is_history`."""
        begun = f"{session_id}\n{call_id}" in self.begun
        return is_history(times, at_ms, begun=begun, since_ms=self.since.get(session_id or "", 0.0))


def _shorten(known: dict[str, int] | dict[str, float]) -> None:
    while len(known) > MAX_KEPT:
        del known[next(iter(known))]
