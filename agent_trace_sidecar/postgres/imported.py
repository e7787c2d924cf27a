"""Rows of other tools' records into their tables: each record once, however often it is imported."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID, uuid5

import asyncpg

from agent_trace_sidecar.postgres.copy import copy
from agent_trace_sidecar.records.rows import FileStateRow, RangeRow, RecordRow

SOURCE_ID: Final = uuid5(UUID(int=0), "agent-trace-sidecar:import")
"""The `source_id` of imported rows: no run of OpenCode recorded them."""

_KNOWN: Final = "SELECT record_id FROM agent_trace_records WHERE record_id = ANY($1::uuid[])"
_GATE: Final = """
INSERT INTO agent_trace_dedupe (source_id, event_id, seen_at) SELECT $1, id, $3 FROM unnest($2::uuid[]) AS id
ON CONFLICT (source_id, event_id) DO NOTHING RETURNING event_id
"""


class ImportedRows(NamedTuple):
    """The rows of one record."""

    record: RecordRow
    ranges: list[RangeRow]
    states: list[FileStateRow]


async def store(connection: asyncpg.Connection, rows: Sequence[ImportedRows]) -> list[ImportedRows]:
    """Store these records in one transaction; return those that were not stored before."""
    async with connection.transaction():
        fresh = await _fresh(connection, sorted(one.record.record_id for one in rows))
        kept = [one for one in rows if one.record.record_id in fresh]
        await copy(
            connection,
            {
                "agent_trace_records": [one.record for one in kept],
                "agent_trace_ranges": [row for one in kept for row in one.ranges],
                "agent_trace_file_states": [row for one in kept for row in one.states],
            },
        )
    return kept


async def _fresh(connection: asyncpg.Connection, ids: Sequence[UUID]) -> set[UUID]:
    """The ids that are not stored, which are ours from now on: records of our own did not come this way."""
    known = {row["record_id"] for row in await connection.fetch(_KNOWN, ids)}
    passed = await connection.fetch(_GATE, SOURCE_ID, [one for one in ids if one not in known], datetime.now(UTC))
    return {row["event_id"] for row in passed}
