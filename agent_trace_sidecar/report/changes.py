"""What the calls of a session did to files: the recorded ranges, and moves and deletions beside them."""

from typing import Final
from uuid import UUID

import asyncpg
import msgspec

_RANGES: Final = """
SELECT message_id, call_id, source_id, record_id, path, start_line, end_line, method, voided_at IS NOT NULL AS undone
FROM agent_trace_ranges WHERE session_id = $1 ORDER BY recorded_at, path, start_line
"""
_STATES: Final = """
SELECT record_id, path, old_path, kind FROM agent_trace_file_states
WHERE source_id = ANY($1::uuid[]) AND record_id = ANY($2::uuid[])
"""

Call = tuple[str | None, str | None]
"""A message and a call in it."""


class FileChange(msgspec.Struct):
    """The lines of one file that a call wrote."""

    path: str
    spans: list[tuple[int, int]]
    method: str
    undone: bool
    kind: str = ""
    old_path: str | None = None

    @property
    def lines(self) -> int:
        """How many."""
        return sum(end - start + 1 for start, end in self.spans)


async def changes_of(connection: asyncpg.Connection, session_id: str) -> dict[Call, list[FileChange]]:
    """By call."""
    found: dict[Call, dict[tuple[UUID, str], FileChange]] = {}
    sources, records = set(), set()
    for row in await connection.fetch(_RANGES, session_id):
        sources.add(row["source_id"])
        records.add(row["record_id"])
        own = found.setdefault((row["message_id"], row["call_id"]), {})
        change = own.setdefault(
            (row["record_id"], row["path"]), FileChange(row["path"], [], row["method"], row["undone"])
        )
        change.spans.append((row["start_line"], row["end_line"]))
        change.undone = change.undone and row["undone"]
    states = {
        (row["record_id"], row["path"]): row
        for row in await connection.fetch(_STATES, sorted(sources), sorted(records))
    }
    for own in found.values():
        for key, change in own.items():
            if key in states:
                change.kind, change.old_path = states[key]["kind"], states[key]["old_path"]
    return {call: list(own.values()) for call, own in found.items()}
