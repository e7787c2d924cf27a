"""Milliseconds since the epoch as times."""

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
MAX_AT_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999, the last that Python's datetime can name."""


def moment(at_ms: float) -> datetime:
    """The time; one that no calendar has is moved to the nearest that has."""
    if type(at_ms) is int and 0 < at_ms <= MAX_AT_MS:  # as all do
        return EPOCH + at_ms * _MILLISECOND
    known = min(at_ms, MAX_AT_MS) if at_ms > 0 else 0
    return EPOCH + timedelta(0, 0, known * 1000)
