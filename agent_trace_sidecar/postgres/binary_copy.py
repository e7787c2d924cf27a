"""Rows in PostgreSQL's binary COPY format; pure.

The driver asks the server for the columns' types before each COPY, and encodes a column at a time; the types are known
here, and a row of the two tables that every event is written to is one `struct.pack` and one join.
Format: https://www.postgresql.org/docs/current/sql-copy.html (file formats, binary format). Each field is its length
as a 32-bit integer (-1 for NULL) and its bytes; times are microseconds since 2000, jsonb is a version byte and text,
numeric is digits to the base of 10,000 (numeric_send in src/backend/utils/adt/numeric.c), an array is its dimension,
its element's type and its elements (array_send in arrayfuncs.c).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from struct import Struct, error, pack
from typing import Any, Final
from uuid import UUID

from agent_trace_sidecar.records.rows import EventRow, GateRow

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LENGTH: Final = Struct("!i").pack
_COLUMNS: Final = Struct("!h").pack
_EVENT_HEAD: Final = Struct("!h i16s iq i16s iq").pack
_GATE_ROW: Final = Struct("!h i16s i16s iq iq").pack
_GATE_ROW_NULL: Final = Struct("!h i16s i16s iq i").pack
_UUID, _BIGINT = 16, 8
_BIGINT_OID: Final = 20


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


def rows_of(types: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows whose columns are of these types, as `schema_check.COLUMNS` names them; None is NULL.

    Raises:
        ValueError: as `event_rows`, or a number that is not finite.
    """
    encoders = [_ENCODERS[name] for name in types]
    start, parts = _COLUMNS(len(types)), [_HEADER]
    try:
        for row in rows:
            parts.append(start)
            parts += [_NULL if value is None else encode(value) for encode, value in zip(encoders, row, strict=True)]
    except error as exc:
        raise ValueError(str(exc)) from None
    parts.append(_TRAILER)
    return b"".join(parts)


def _text(value: str | None) -> bytes:
    return _NULL if value is None else _bytes(value.encode())


def _bytes(value: bytes) -> bytes:
    return _LENGTH(len(value)) + value


def _uuid(value: UUID) -> bytes:
    return _bytes(value.bytes)


def _time(value: datetime) -> bytes:
    return pack("!iq", _BIGINT, _microseconds(value))


def _numeric(value: Decimal) -> bytes:
    if not value.is_finite():
        raise ValueError("a number is not finite")
    whole, _, fraction = f"{value.copy_abs():f}".partition(".")
    digits = whole.zfill(-(-len(whole) // 4) * 4) + fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    groups = [int(digits[at : at + 4]) for at in range(0, len(digits), 4)]
    weight = -(-len(whole) // 4) - 1
    while groups and not groups[0]:
        del groups[0]
        weight -= 1
    while groups and not groups[-1]:
        del groups[-1]
    sign = 0x4000 if value < 0 else 0
    return _bytes(pack(f"!hhHH{len(groups)}H", len(groups), weight if groups else 0, sign, len(fraction), *groups))


def _bigints(values: Sequence[int]) -> bytes:
    if not values:
        return _bytes(pack("!iii", 0, 0, _BIGINT_OID))
    items = (part for value in values for part in (_BIGINT, value))
    return _bytes(pack("!iiiii" + "iq" * len(values), 1, 0, _BIGINT_OID, len(values), 1, *items))


_ENCODERS: Final[Mapping[str, Callable[[Any], bytes]]] = {
    "uuid": _uuid,
    "timestamp with time zone": _time,
    "text": _text,
    "jsonb": lambda value: _bytes(b"\x01" + value.encode()),
    "bytea": _bytes,
    "integer": lambda value: pack("!ii", 4, value),
    "bigint": lambda value: pack("!iq", _BIGINT, value),
    "bigint[]": _bigints,
    "numeric": _numeric,
}
"""How a value of each type is encoded, with its length before it."""


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND
