"""The columns that we write, and whether the tables still have them as they should be."""

from typing import Final

import asyncpg

_PRESENT: Final = """
SELECT c.relname || '.' || a.attname AS name, format_type(a.atttypid, NULL) AS type,
       a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS required,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) AS has_key
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.oid = ANY (
    ARRAY[to_regclass('agent_trace_events'), to_regclass('agent_trace_records'), to_regclass('agent_trace_ranges'),
          to_regclass('agent_trace_file_states'), to_regclass('agent_trace_dead_letters'),
          to_regclass('agent_trace_usage'), to_regclass('agent_trace_ended_calls'), to_regclass('agent_trace_masked'),
          to_regclass('agent_trace_dedupe'), to_regclass('agent_trace_sources')]::oid[])
"""
_TYPES: Final = {
    "agent_trace_events": "event_id uuid, occurred_at timestamp with time zone, source_id uuid, seq bigint, "
    "session_id text, message_id text, call_id text, event_name text, tool text, payload jsonb",
    "agent_trace_records": "source_id uuid, record_id uuid, recorded_at timestamp with time zone, event_id uuid, "
    "session_id text, spec_version text, vcs_type text, vcs_revision text, tool_name text, tool_version text, "
    "model_id text, contributor text, record jsonb",
    "agent_trace_ranges": "source_id uuid, record_id uuid, recorded_at timestamp with time zone, ordinal integer, "
    "project text, worktree text, path text, start_line integer, end_line integer, content_hash text, "
    "contributor text, model_id text, session_id text, message_id text, call_id text, tool text, method text, "
    "line_hashes bytea, line_tokens bytea",
    "agent_trace_file_states": "source_id uuid, record_id uuid, recorded_at timestamp with time zone, project text, "
    "worktree text, path text, old_path text, kind text, before_hashes bytea, after_hashes bytea, line_keys bigint[]",
    "agent_trace_usage": "source_id uuid, event_id uuid, finished_at timestamp with time zone, session_id text, "
    "message_id text, part_id text, model_id text, agent text, worktree text, input_tokens numeric, "
    "output_tokens numeric, reasoning_tokens numeric, cache_read_tokens numeric, cache_write_tokens numeric, "
    "cost numeric",
    "agent_trace_ended_calls": "source_id uuid, event_id uuid, finished_at timestamp with time zone, session_id text, "
    "message_id text, part_id text, tool text, status text, seconds numeric",
    "agent_trace_masked": "source_id uuid, event_id uuid, rule text, occurred_at timestamp with time zone, "
    "session_id text, call_id text, masked bigint",
    "agent_trace_dead_letters": "source_id uuid, position bigint, reason text, error text, line bytea, "
    "seen_at timestamp with time zone",
    "agent_trace_dedupe": "source_id uuid, event_id uuid, seen_at timestamp with time zone, content_hash bigint",
    "agent_trace_sources": "source_id uuid, kind text, host text, epoch bigint, position bigint, state jsonb, "
    "opened_at timestamp with time zone, updated_at timestamp with time zone, container text, os_user text, "
    "repositories jsonb, projects jsonb, log_id uuid",
}
COLUMNS: Final = {
    table: dict(column.split(" ", 1) for column in columns.split(", ")) for table, columns in _TYPES.items()
}
"""For each table its columns and their types."""


class WrongShapeError(asyncpg.UndefinedColumnError):
    """A key or column is missing, added or of another type: no row is to blame for what the table refuses."""


DROPPED_CODE: Final = "AT001"
"""The SQLSTATE by which our own PL/pgSQL reports what a `DroppedError` does."""


class DroppedError(asyncpg.RaiseError):
    """The server reported success and has not stored every row: a trigger returned NULL, or a rule did nothing."""

    def __init__(self, table: str) -> None:
        super().__init__(f"rows of {table} were dropped")
        self.table = table


async def check_shape(connection: asyncpg.Connection) -> None:
    """Make sure that it is the row, not the table, that is wrong.

    Raises:
        WrongShapeError: a column has been changed manually.
    """
    rows = await connection.fetch(_PRESENT)
    found = {row["name"]: row["type"] for row in rows}
    required = {row["name"] for row in rows if row["required"]}
    keyless = {row["name"].partition(".")[0] for row in rows if not row["has_key"]}
    for table, ours in COLUMNS.items():
        if not any(name.startswith(f"{table}.") for name in found):
            raise WrongShapeError(f"{table} is missing")
        if table in keyless:
            raise WrongShapeError(f"{table} has no primary key")
        for name, wanted in ours.items():
            if found.get(f"{table}.{name}") != wanted:
                raise WrongShapeError(f"{table}.{name} is not of type {wanted}")
        for name in required:
            if name.startswith(f"{table}.") and name.removeprefix(f"{table}.") not in ours:
                raise WrongShapeError(f"{name} is an additional column that must be given")
