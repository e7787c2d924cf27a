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
from functools import lru_cache
from struct import Struct, error, pack
from typing import Any, Final
from uuid import UUID

from agent_trace_sidecar.records.rows import EventRow

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
_REPEATED: Final = 1024


def gate_rows(rows: Iterable[tuple[int, int | None]], seen_at: datetime) -> bytes:
    """The rows of `agent_trace_dedupe`, given as (`key_number`, content_hash)."""
    at = _microseconds(seen_at)
    parts = [_HEADER]
    for number, content in rows:
        ids = number.to_bytes(32)
        if content is None:
            parts.append(_GATE_ROW_NULL(4, _UUID, ids[:16], _UUID, ids[16:], _BIGINT, at, -1))
        else:
            parts.append(_GATE_ROW(4, _UUID, ids[:16], _UUID, ids[16:], _BIGINT, at, _BIGINT, content))
    parts.append(_TRAILER)
    return b"".join(parts)


def event_rows(rows: Iterable[EventRow]) -> bytes:
    """The rows of `agent_trace_events`, with the columns of `EventRow` in order.

    Raises:
        ValueError: a text has half of a surrogate pair, or a number does not fit.
    """
    parts, repeated = [_HEADER], _repeated
    try:
        for event_id, occurred_at, source_id, seq, session_id, message_id, call_id, name, tool, text in rows:
            ids = event_id.int.to_bytes(16), source_id.int.to_bytes(16)  # `UUID.bytes` takes three times as long
            payload = text.encode()
            parts += (
                _EVENT_HEAD(10, _UUID, ids[0], _BIGINT, _microseconds(occurred_at), _UUID, ids[1], _BIGINT, seq),
                repeated[session_id],
                repeated[message_id],
                repeated[call_id],
                repeated[name],
                repeated[tool],
                _LENGTH(len(payload) + 1),
                b"\x01",
                payload,
            )
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


class _Repeated(dict[str | None, bytes]):
    """Ids and names, encoded: the next rows have them too. They are short, see `build.MAX_COLUMN_CHARS`."""

    def __missing__(self, value: str | None) -> bytes:
        if len(self) >= _REPEATED:
            self.clear()
        encoded = self[value] = _text(value)
        return encoded


_repeated: Final = _Repeated()
"""As a cache of `lru_cache` this would take three times as long."""


def _bytes(value: bytes) -> bytes:
    return _LENGTH(len(value)) + value


def _uuid(value: UUID) -> bytes:
    return _bytes(value.bytes)


def _time(value: datetime) -> bytes:
    return pack("!iq", _BIGINT, _microseconds(value))


def _numeric(value: Decimal) -> bytes:
    if not value.is_finite():
        raise ValueError("a number is not finite")
    return _digits(f"{value:f}")  # not the number: 1 and 1.0 are equal


@lru_cache(_REPEATED)
def _digits(text: str) -> bytes:
    whole, _, fraction = text.removeprefix("-").partition(".")
    digits = whole.zfill(-(-len(whole) // 4) * 4) + fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    groups = [int(digits[at : at + 4]) for at in range(0, len(digits), 4)]
    weight = -(-len(whole) // 4) - 1
    while groups and not groups[0]:
        del groups[0]
        weight -= 1
    while groups and not groups[-1]:
        del groups[-1]
    sign = 0x4000 if groups and text[0] == "-" else 0
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
