"""Which parts tell of calls that ended long ago."""

import pytest

from agent_trace_sidecar.opencode.events import Told
from agent_trace_sidecar.records.retold import MAX_KEPT, Retold, is_history

CASES = {
    "a hook": (None, 5000.0, False, 0.0, False),
    "a part of a call that has just ended": (Told(4990.0), 5000.0, False, 0.0, False),
    "a late part of a call that was seen to begin": (Told(1000.0), 5000.0, True, 0.0, False),
    "a part of long ago": (Told(1000.0), 5000.0, False, 0.0, True),
    "a part from before the session": (Told(4990.0), 5000.0, False, 4995.0, True),
    "a pruned part": (Told(4990.0, compacted=True), 5000.0, True, 0.0, True),
    "a part without a time": (Told(), 5000.0, False, 0.0, False),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_part_is_history_by_its_times(case: tuple[Told | None, float, bool, float, bool]) -> None:
    """What was seen to begin has its end now, however late it is told."""
    told, at, begun, since, expected = case
    assert is_history(told, at, begun=begun, since_ms=since) == expected


def test_a_call_that_has_ended_is_no_longer_begun() -> None:
    """And the oldest calls are forgotten."""
    retold = Retold()
    retold.begins("s", "c")
    assert not retold.is_retold("s", "c", Told(1.0), 5000.0)
    retold.ends("s", "c")
    assert retold.is_retold("s", "c", Told(1.0), 5000.0)
    for number in range(MAX_KEPT + 5):
        retold.begins("s", str(number))
    assert len(retold.begun) == MAX_KEPT
