"""What a session lacks: numbers that never came, and lines that could not be stored."""

import re
from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.times import moment
from agent_trace_sidecar.report.cost import SessionFacts

MAX_LETTERS: Final = 200
"""Dead letters that a page shows, the first ones."""
_NEAR: Final = timedelta(days=1)
_SHOWN_CHARS: Final = 2_000
_AT: Final = re.compile(rb'"at":(\d{1,16})')

_NUMBERS: Final = """
SELECT source_id, seq, occurred_at FROM agent_trace_events WHERE session_id = $1 ORDER BY source_id, seq
"""
_STATE: Final = "SELECT state::text FROM agent_trace_sources WHERE source_id = $1 AND kind = 'instance'"
_LETTERS: Final = """
SELECT reason, left(error, 500) AS error, line, seen_at FROM agent_trace_dead_letters
WHERE position(convert_to($1, 'UTF8') IN line) > 0 AND seen_at >= $2 ORDER BY seen_at LIMIT $3
"""


class Loss(NamedTuple):
    """Something that is not there."""

    at: datetime
    kind: str
    """gap or dead."""
    sentence: str
    error: str = ""
    line: str = ""


async def losses_of(connection: asyncpg.Connection, facts: SessionFacts) -> list[Loss]:
    """The gaps within a session's events, and the dead letters that name it."""
    numbers: dict[UUID, list[tuple[int, datetime]]] = {}
    for row in await connection.fetch(_NUMBERS, facts.session_id):
        numbers.setdefault(row["source_id"], []).append((row["seq"], row["occurred_at"]))
    found: list[Loss] = []
    for source, seen in numbers.items():
        state = await connection.fetchval(_STATE, source)
        builder = Builder(BuildSettings())
        builder.load(source, (state or "").encode())
        found += _gaps(builder.summary(source).gaps, seen)
    if facts.started_at is not None:
        letters = await connection.fetch(_LETTERS, facts.session_id, facts.started_at - _NEAR, MAX_LETTERS)
        found += [_letter(row) for row in letters]
    return found


def _gaps(gaps: tuple[tuple[int, int], ...], seen: list[tuple[int, datetime]]) -> Iterator[Loss]:
    """The gaps between the first and the last number of the session, each after the event before it."""
    for first, last in gaps:
        at = bisect_left(seen, first, key=lambda one: one[0])
        if 0 < at < len(seen):
            events = f"{last - first + 1:,} events" if last > first else "1 event"
            yield Loss(seen[at - 1][1], "gap", f"{events} missing (sequence numbers {first} to {last})")


def _letter(row: asyncpg.Record) -> Loss:
    line: bytes = row["line"]
    sent = _AT.search(line[:400])
    at = moment(int(sent[1])) if sent else row["seen_at"]
    text = line[:_SHOWN_CHARS].decode("utf-8", "replace")
    return Loss(at, "dead", f"An event could not be stored: {row['reason']}", row["error"], text)
