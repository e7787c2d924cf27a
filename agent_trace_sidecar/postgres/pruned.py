"""What stays of pruned records: which files they named, so that `blame` calls no line of these a person's.

Of a file a hash is kept, of its calls the time from the beginning of the first to the end of the last one; nothing of
a session, a user or a line.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from agent_trace_sidecar.postgres.imported import SOURCE_ID as IMPORTED
from agent_trace_sidecar.records.fingerprints import path_key
from agent_trace_sidecar.records.rows import UNCOVERED

_FILES: Final = """
SELECT project, path, {covered} AS covered, source_id, (array_agg(record_id ORDER BY recorded_at))[1] AS record_id,
       min(recorded_at) AS first_at, max(recorded_at) AS last_at
FROM {table} WHERE ({which}) AND {alive} AND NOT record_id = ANY(${undone}::uuid[])
GROUP BY project, path, covered, source_id
"""
_RANGES: Final = {"table": "agent_trace_ranges", "covered": "NULL", "alive": "project IS NOT NULL"}
_STATES: Final = {
    "table": "agent_trace_file_states",
    "covered": f"CASE WHEN kind = '{UNCOVERED}' THEN old_path END",
    "alive": "kind <> 'delete'",
}
_UNDONE: Final = "SELECT DISTINCT record_id FROM agent_trace_ranges WHERE ({which}) AND voided_at IS NOT NULL"
_PARTS: Final = """
SELECT record_id, record #>> '{metadata,io.opencode.part_id}' AS part_id FROM agent_trace_records
WHERE source_id = ANY($1::uuid[]) AND record_id = ANY($2::uuid[])
"""
_SECONDS: Final = """
SELECT part_id, max(seconds) AS seconds FROM agent_trace_ended_calls WHERE part_id = ANY($1::text[]) GROUP BY part_id
"""
_BEGAN: Final = """
SELECT r.record_id, max(e.occurred_at) AS began FROM agent_trace_records r
JOIN agent_trace_events e ON e.source_id = r.source_id AND e.session_id = r.session_id
     AND e.call_id = r.record #>> '{metadata,io.opencode.call_id}' AND e.occurred_at <= r.recorded_at
WHERE r.source_id = ANY($1::uuid[]) AND r.record_id = ANY($2::uuid[]) AND e.event_name = 'tool.execute.before'
GROUP BY r.record_id
"""
_KEEP: Final = """
INSERT INTO agent_trace_pruned AS p (path_key, covered_key, first_at, last_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (path_key, covered_key, first_at) DO UPDATE SET last_at = greatest(p.last_at, excluded.last_at)
"""
_SEVERAL: Final = """
SELECT path_key, covered_key, min(first_at) AS first_at, max(last_at) AS last_at
FROM agent_trace_pruned WHERE last_at < $1 GROUP BY path_key, covered_key HAVING count(*) > 1
"""
_DROP: Final = """
DELETE FROM agent_trace_pruned WHERE path_key = $1 AND covered_key = $2 AND first_at >= $3 AND last_at <= $4
"""
_NOT_KNOWN: Final = datetime.fromtimestamp(0, UTC)


class _File(NamedTuple):
    """A file in which calls of one run were at work; sorted by when the first of them ended."""

    first_at: datetime
    last_at: datetime
    source_id: UUID
    record_id: UUID
    """Of the first call."""


async def keep_files(connection: asyncpg.Connection, states: str, ranges: str, arguments: Sequence[object]) -> None:
    """Keep of which files records are about to be deleted, but for calls that were undone.

    Args:
        connection: to the database.
        states: the condition for their rows in `agent_trace_file_states`.
        ranges: the same in `agent_trace_ranges`.
        arguments: of both.
    """
    found: dict[tuple[int, int], list[_File]] = {}
    undone = [row["record_id"] for row in await connection.fetch(_UNDONE.format(which=ranges), *arguments)]
    for which, names in ((ranges, _RANGES), (states, _STATES)):
        for row in await connection.fetch(
            _FILES.format(which=which, undone=len(arguments) + 1, **names), *arguments, undone
        ):
            covered = path_key(row["project"], row["covered"]) if row["covered"] is not None else 0
            files = found.setdefault((path_key(row["project"], row["path"]), covered), [])
            files.append(_File(row["first_at"], row["last_at"], row["source_id"], row["record_id"]))
    firsts = {key: min(files) for key, files in found.items()}
    began = await _began(connection, firsts.values())
    rows = [(*key, began[first], max(one.last_at for one in found[key])) for key, first in firsts.items()]
    await connection.executemany(_KEEP, rows)


async def _began(connection: asyncpg.Connection, files: Collection[_File]) -> dict[_File, datetime]:
    """When the first calls of files began; when they ended where that is not stored.

    By their own length and by their hook: how long OpenCode took to report the end is in neither of the two alone.
    """
    which = {one.source_id for one in files}, {one.record_id for one in files}
    hooks = {row["record_id"]: row["began"] for row in await connection.fetch(_BEGAN, *which)}
    records = {row["part_id"]: row["record_id"] for row in await connection.fetch(_PARTS, *which) if row["part_id"]}
    lasted = {
        records[row["part_id"]]: timedelta(seconds=float(row["seconds"] or 0))
        for row in await connection.fetch(_SECONDS, list(records))
    }
    return {
        one: _NOT_KNOWN
        if one.source_id == IMPORTED
        else min(hooks.get(one.record_id, one.first_at), one.first_at - lasted.get(one.record_id, timedelta()))
        for one in files
    }


async def join_times(connection: asyncpg.Connection, before: datetime) -> None:
    """Make one row of a file's, where everything that was recorded before a time is gone: nothing lies between them."""
    async with connection.transaction():
        rows = [tuple(row) for row in await connection.fetch(_SEVERAL, before)]
        await connection.executemany(_DROP, rows)
        await connection.executemany(_KEEP, rows)
