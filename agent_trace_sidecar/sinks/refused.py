"""What a server would refuse, found without asking it row by row: used only after it has refused a batch."""

import json
from collections.abc import Sequence
from typing import Final

import asyncpg

from agent_trace_sidecar.rows import Item

_MAX_WEIGHT: Final = 131_072
"""Digits before the point that numeric holds (PostgreSQL's documentation of numeric types)."""
_MAX_SCALE: Final = 16_383
"""Digits after the point, as above."""

_COLUMNS: Final = """
SELECT c.relname || '.' || a.attname AS name, format_type(a.atttypid, NULL) AS type,
       a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS required
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.oid = ANY (
    ARRAY[to_regclass('agent_trace_events'), to_regclass('agent_trace_records'), to_regclass('agent_trace_ranges'),
          to_regclass('agent_trace_file_states'), to_regclass('agent_trace_dead_letters'),
          to_regclass('agent_trace_dedupe'), to_regclass('agent_trace_sources')]::oid[])
"""
_TYPES: Final = {
    "agent_trace_events": "event_id uuid, occurred_at timestamp with time zone, source_id uuid, seq bigint, "
    "session_id text, message_id text, call_id text, event_name text, tool text, payload jsonb",
    "agent_trace_records": "record_id uuid, recorded_at timestamp with time zone, event_id uuid, session_id text, "
    "spec_version text, vcs_type text, vcs_revision text, tool_name text, tool_version text, model_id text, "
    "contributor text, record jsonb",
    "agent_trace_ranges": "record_id uuid, recorded_at timestamp with time zone, path text, start_line integer, "
    "end_line integer, content_hash text, contributor text, model_id text, session_id text, method text, "
    "message_id text, call_id text, tool text, project text, line_hashes bytea, line_tokens bytea",
    "agent_trace_file_states": "record_id uuid, recorded_at timestamp with time zone, project text, worktree text, "
    "path text, old_path text, kind text, before_hashes bytea, after_hashes bytea, line_keys bigint[]",
    "agent_trace_dead_letters": "source_id uuid, position bigint, reason text, error text, line bytea, "
    "seen_at timestamp with time zone",
}


class WrongShapeError(asyncpg.UndefinedColumnError):
    """A column is missing, added or of another type: no row is to blame for what the table refuses."""


async def check_shape(connection: asyncpg.Connection) -> None:
    """Make sure that it is the row, not the table, that is wrong.

    Raises:
        WrongShapeError: a column has been changed by hand.
    """
    rows = await connection.fetch(_COLUMNS)
    found = {row["name"]: row["type"] for row in rows}
    required = {row["name"] for row in rows if row["required"]}
    for table, columns in _TYPES.items():
        ours = dict(column.split(" ", 1) for column in columns.split(", "))
        for name, wanted in ours.items():
            if found.get(f"{table}.{name}") != wanted:
                raise WrongShapeError(f"{table}.{name} is not of type {wanted}")
        for name in required:
            if name.startswith(f"{table}.") and name.removeprefix(f"{table}.") not in ours:
                raise WrongShapeError(f"{name} is not ours and must be given")


def certainly_refused(items: Sequence[Item]) -> list[Item]:
    """Return those items whose payload jsonb can't hold: broken JSON, or a number out of numeric's range."""
    return [item for item in items if not _fits(item.built.event.payload)]


def _fits(payload: str) -> bool:
    try:
        json.loads(payload, parse_float=_check_number, parse_int=_check_number, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _check_number(literal: str) -> str:
    """Refuse what numeric refuses.

    Raises:
        ValueError: too many digits before or after the point.
    """
    mantissa, _, exponent = literal.lower().lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    shift = int(exponent[:10] or 0)
    if len(whole) + shift > _MAX_WEIGHT or len(fraction) - shift > _MAX_SCALE:
        _refuse(literal)
    return literal


def _refuse(literal: str) -> str:
    raise ValueError(f"{literal[:20]} is no number for jsonb")
