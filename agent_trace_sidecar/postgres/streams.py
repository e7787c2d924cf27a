"""Whether the event streams of OpenCode 2 are complete, by OpenCode's numbers, and which event types are unknown."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import asyncpg
import msgspec

from agent_trace_sidecar.records.session import Stream

_RUNS: Final = 500
"""So many of the newest runs are read."""
_SHOWN: Final = 20
_QUERY: Final = """
SELECT jsonb_build_object('streams', state -> 'streams', 'unknown', state -> 'unknown')::text AS state
FROM agent_trace_sources
WHERE kind = 'instance' AND state ? 'streams' AND (state -> 'streams' <> '[]' OR state -> 'unknown' <> '[]')
ORDER BY updated_at DESC LIMIT $1
"""


class Streams(msgspec.Struct, frozen=True):
    """Sessions of OpenCode 2 in the newest runs."""

    sessions: int = 0
    incomplete: dict[str, int] = {}
    """Events that are missing, by session; at most 20 of those that miss most."""
    unknown: dict[str, int] = {}
    """Types of events that neither shim nor sidecar know, of any OpenCode, and how often they came."""


async def streams(connection: asyncpg.Connection) -> Streams:
    """The state of the runs' streams."""
    found: dict[str, list[Stream]] = {}
    unknown = Counter[str]()
    for row in await connection.fetch(_QUERY, _RUNS):
        state = _state(row)
        for session_id, stream in state.streams:
            found.setdefault(session_id, []).append(stream)
        for name, count in state.unknown:
            unknown[name] += count
    missing = Counter({session_id: _missing(own) for session_id, own in found.items()})
    incomplete = {session_id: number for session_id, number in missing.most_common(_SHOWN) if number}
    return Streams(len(found), incomplete, dict(unknown.most_common(_SHOWN)))


class _State(msgspec.Struct):
    streams: list[tuple[str, Stream]] = []
    unknown: list[tuple[str, int]] = []


def _state(row: asyncpg.Record) -> _State:
    try:
        return msgspec.json.decode(row["state"], type=_State)
    except ValueError:
        return _State()


def _missing(own: Sequence[Stream]) -> int:
    """How many numbers of a session no run has seen; where a recording begins with its second event is no loss."""
    missing, end = 0, -1
    for stream in sorted(own, key=lambda one: one.first):
        hole = stream.first - end - 1
        missing += stream.missing + (max(0, hole) if end >= 0 or hole > 1 else 0)
        end = max(end, stream.last)
    return missing
