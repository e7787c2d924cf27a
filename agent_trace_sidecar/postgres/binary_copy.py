"""Rows in PostgreSQL's binary COPY format, for the two tables that every event is written to; pure.

The driver encodes a column at a time through a codec that it looks up; here a row is one `struct.pack` and one join.
Format: https://www.postgresql.org/docs/current/sql-copy.html (file formats, binary format). Each field is its length
as a 32-bit integer (-1 for NULL) and its bytes; times are microseconds since 2000, jsonb is a version byte and text.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from struct import Struct, error
from typing import Final

from agent_trace_sidecar.records.rows import EventRow, GateRow

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LENGTH: Final = Struct("!i").pack
_EVENT_HEAD: Final = Struct("!h i16s iq i16s iq").pack
_GATE_ROW: Final = Struct("!h i16s i16s iq iq").pack
_GATE_ROW_NULL: Final = Struct("!h i16s i16s iq i").pack
_UUID, _BIGINT = 16, 8


def gate_rows(rows: Iterable[GateRow], seen_at: datetime) -> bytes:
    """The rows of `agent_trace_dedupe`: (source_id, event_id, seen_at, content_hash)."""
    at = _microseconds(seen_at)
    parts = [_HEADER]
    for key, content in rows:
        ids = _UUID, key.source_id.bytes, _UUID, key.event_id.bytes, _BIGINT, at
        parts.append(_GATE_ROW_NULL(4, *ids, -1) if content is None else _GATE_ROW(4, *ids, _BIGINT, content))
    parts.append(_TRAILER)
    return b"".join(parts)


def event_rows(rows: Iterable[EventRow]) -> bytes:
    """The rows of `agent_trace_events`, with the columns of `EventRow` in order.

    Raises:
        ValueError: a text has half of a surrogate pair, or a number does not fit.
    """
    parts = [_HEADER]
    try:
        for row in rows:
            at = _microseconds(row.occurred_at)
            parts.append(
                _EVENT_HEAD(10, _UUID, row.event_id.bytes, _BIGINT, at, _UUID, row.source_id.bytes, _BIGINT, row.seq)
            )
            parts += (
                _text(row.session_id),
                _text(row.message_id),
                _text(row.call_id),
                _text(row.event_name),
                _text(row.tool),
            )
            payload = row.payload.encode()
            parts += (_LENGTH(len(payload) + 1), b"\x01", payload)
    except error as exc:
        raise ValueError(str(exc)) from None
    parts.append(_TRAILER)
    return b"".join(parts)


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    encoded = value.encode()
    return _LENGTH(len(encoded)) + encoded


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND
