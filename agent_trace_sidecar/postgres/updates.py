"""Rows that change after they were written: a record that its step's end knows better, ranges that are undone.

Both happen inside the batch's own transaction, so they are there exactly once like everything else. A refined record
keeps its id and time; its old rows go before the new ones are copied. Undoing marks ranges and deletes none.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from msgspec.structs import replace

from agent_trace_sidecar.records.rows import Built, Item, Void

_MAX_DEPTH: Final = 8
"""Subagents of subagents that are followed."""

_DROP: Final = tuple(
    f"DELETE FROM {table} "  # noqa: S608 - constants
    "WHERE source_id = $1 AND record_id = ANY ($2::uuid[]) AND recorded_at = ANY ($3::timestamptz[])"
    for table in ("agent_trace_records", "agent_trace_ranges", "agent_trace_file_states")
)

# OpenCode's ids grow with time and are compared byte by byte, as OpenCode does.
_UNDONE: Final = """
SELECT source_id, record_id, recorded_at FROM agent_trace_records
WHERE session_id = $1 AND recorded_at <= $2 AND (
    ($5 AND (record #>> '{metadata,io.opencode.message_id}') COLLATE "C" > $3)
    OR (record #>> '{metadata,io.opencode.message_id}' = $3 AND (
        $4::text IS NULL OR record #>> '{metadata,io.opencode.part_id}' = $4
        OR ($5 AND (record #>> '{metadata,io.opencode.part_id}') COLLATE "C" > $4)
    ))
)
"""
_CHILDREN: Final = """
SELECT DISTINCT session_id FROM agent_trace_records
WHERE record #>> '{metadata,io.opencode.parent_session_id}' = $1 AND recorded_at <= $2 AND (
    ($4 AND (record #>> '{metadata,io.opencode.parent_message_id}') COLLATE "C" > $3)
    OR record #>> '{metadata,io.opencode.parent_message_id}' = $3
)
"""
_VOID: Final = """
UPDATE agent_trace_ranges SET voided_at = $4
WHERE source_id = ANY ($5::uuid[]) AND session_id = $1 AND recorded_at = ANY ($3::timestamptz[])
  AND record_id = ANY ($2::uuid[]) AND voided_at IS NULL AND ($6::text[] IS NULL OR path = ANY ($6::text[]))
"""
_RESTORE: Final = """
UPDATE agent_trace_ranges SET voided_at = NULL
WHERE source_id = ANY ($5::uuid[]) AND session_id = $1 AND recorded_at = ANY ($3::timestamptz[])
  AND record_id = ANY ($2::uuid[]) AND voided_at = $4 AND ($6::text[] IS NULL OR path = ANY ($6::text[]))
"""


def latest(items: Sequence[Item]) -> list[Built]:
    """What becomes of each item of a batch: without the rows that a later line of it refines."""
    refined = {
        (source_id, record_id): at for at, item in enumerate(items) for source_id, record_id, _ in item.built.refined
    }
    if not refined:
        return [item.built for item in items]
    return [
        replace(
            item.built,
            records=tuple(row for row in item.built.records if at >= refined.get((row.source_id, row.record_id), 0)),
            ranges=tuple(row for row in item.built.ranges if at >= refined.get((row.source_id, row.record_id), 0)),
            states=tuple(row for row in item.built.states if at >= refined.get((row.source_id, row.record_id), 0)),
        )
        for at, item in enumerate(items)
    ]


async def drop_refined(connection: asyncpg.Connection, items: Sequence[Item]) -> None:
    """Take away what earlier batches wrote of the records that this one refines."""
    refined: dict[UUID, set[tuple[UUID, datetime]]] = {}
    for item in items:
        for source_id, record_id, at in item.built.refined:
            refined.setdefault(source_id, set()).add((record_id, at))
    for source_id, records in sorted(refined.items()):
        for statement in _DROP:
            await connection.execute(statement, source_id, [one for one, _ in records], [at for _, at in records])


async def undo(connection: asyncpg.Connection, items: Sequence[Item], more: Sequence[Void] = ()) -> None:
    """Void and restore ranges, in the order of their events; `more` comes last."""
    for void in (*(one for item in items for one in item.built.voids), *more):
        await _undo_session(connection, void, depth=0)


async def _undo_session(connection: asyncpg.Connection, void: Void, depth: int) -> None:
    scope = (void.session_id, void.at, void.message_id)
    rows = await connection.fetch(_UNDONE, *scope, void.part_id, void.onward)
    if rows:
        ids: list[UUID] = [row["record_id"] for row in rows]
        sources = sorted({row["source_id"] for row in rows})
        times: list[datetime] = [row["recorded_at"] for row in rows]
        statement = _RESTORE if void.restore else _VOID
        await connection.execute(statement, void.session_id, ids, times, void.at, sources, void.paths)
    if depth < _MAX_DEPTH and (void.part_id is None or void.onward):
        for row in await connection.fetch(_CHILDREN, *scope, void.onward):
            child = void._replace(session_id=row["session_id"], message_id="", part_id=None, onward=True)
            if child.session_id is not None:
                await _undo_session(connection, child, depth + 1)
