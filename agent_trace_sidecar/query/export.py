"""`export`: stored records as Agent Trace JSON lines, each through the parser of the version it was written in."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import asyncpg

from agent_trace_sidecar.trace import TraceError, encode, parse_record

_RECORDS: Final = """
SELECT record::text FROM agent_trace_records
WHERE ($1::text IS NULL OR session_id = $1) AND ($2::timestamptz IS NULL OR recorded_at >= $2)
  AND ($3::text[] IS NULL OR vcs_revision = ANY($3))
ORDER BY recorded_at, record_id
"""


class Chosen(NamedTuple):
    """Which records are wanted; what is None does not matter."""

    session_id: str | None = None
    since: datetime | None = None
    revisions: Sequence[str] | None = None
    """Full hashes of where the repository stood at the time of the edit."""


async def export(connection: asyncpg.Connection, chosen: Chosen) -> AsyncIterator[str | TraceError]:
    """Yield each record as one JSON line of the current spec version, or the error that says why it can't be read."""
    async with connection.transaction(readonly=True):
        async for row in connection.cursor(_RECORDS, *chosen, prefetch=500):
            try:
                yield encode(parse_record(row[0]))
            except TraceError as exc:
                yield exc
