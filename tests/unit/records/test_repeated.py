"""Which parts tell of calls that ended long ago."""

import pytest

from agent_trace_sidecar.opencode.events import CallTimes
from agent_trace_sidecar.records.repeated import MAX_KEPT, RepeatedHistory, is_history

CASES = {
    "a hook": (None, 5000.0, False, 0.0, False),
    "a part of a call that has just ended": (CallTimes(4990.0), 5000.0, False, 0.0, False),
    "a late part of a call that was seen to begin": (CallTimes(1000.0), 5000.0, True, 0.0, False),
    "a part of long ago": (CallTimes(1000.0), 5000.0, False, 0.0, True),
    "a part from before the session": (CallTimes(4990.0), 5000.0, False, 4995.0, True),
    "a pruned part": (CallTimes(4990.0, compacted=True), 5000.0, True, 0.0, True),
    "a part without a time": (CallTimes(), 5000.0, False, 0.0, False),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_part_is_history_by_its_times(case: tuple[CallTimes | None, float, bool, float, bool]) -> None:
    """What was seen to begin has its end now, however late it is told."""
    told, at, begun, since, expected = case
    assert is_history(told, at, begun=begun, since_ms=since) == expected


def test_a_call_that_has_ended_is_no_longer_begun() -> None:
    """And the oldest calls are forgotten."""
    repeated = RepeatedHistory()
    repeated.begins("s", "c")
    assert not repeated.is_repeated("s", "c", CallTimes(1.0), 5000.0)
    repeated.ends("s", "c")
    assert repeated.is_repeated("s", "c", CallTimes(1.0), 5000.0)
    for number in range(MAX_KEPT + 5):
        repeated.begins("s", str(number))
    assert len(repeated.begun) == MAX_KEPT
