"""The checkpoints of logs: who may move each (its epoch), how far it is stored, and its counts.

A checkpoint is stored beside the rows of the run that its log begins with: its key is (source_id, log_id), and a
distributed database has a batch of one log and one run on one shard.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from agent_trace_sidecar.postgres.schema_check import DroppedError
from agent_trace_sidecar.records.rows import Checkpoint, Counts, LogKey, LogName, Move

_RESUME: Final = """
INSERT INTO agent_trace_sources (source_id, log_id, kind, host, epoch, position, state, opened_at, updated_at)
VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $7)
ON CONFLICT (source_id, log_id) DO UPDATE SET epoch = greatest(agent_trace_sources.epoch, $5)
RETURNING epoch, position, state
"""
_OPEN: Final = """
INSERT INTO agent_trace_sources (source_id, log_id, kind, host, epoch, position, state, opened_at, updated_at)
VALUES ($1, $2, $3, $4, 1, 0, $5, $6, $6)
ON CONFLICT (source_id, log_id) DO UPDATE SET epoch = agent_trace_sources.epoch + 1, updated_at = $6
RETURNING epoch, position, state
"""
_OPEN_ALL: Final = """
INSERT INTO agent_trace_sources (source_id, log_id, kind, host, epoch, position, state, opened_at, updated_at)
SELECT source_id, log_id, kind, host, 1, 0, state, $6, $6
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::jsonb[]) AS l (source_id, log_id, kind, host, state)
ON CONFLICT (source_id, log_id) DO UPDATE SET epoch = agent_trace_sources.epoch + 1, updated_at = $6
RETURNING log_id, epoch, position, state
"""
_POSITIONS: Final = """
SELECT source_id, log_id, epoch, position FROM agent_trace_sources
WHERE source_id = ANY ($1::uuid[]) AND log_id = ANY ($2::uuid[])
"""
_ADVANCE: Final = """
UPDATE agent_trace_sources SET position = $1, state = $2, updated_at = $3
WHERE source_id = $4 AND log_id = $5 AND epoch = $6 AND position = $7
"""
# Not joined with a list of the logs, which a distributed database would have to send around.
_ADVANCE_ALL: Final = """
UPDATE agent_trace_sources SET position = ($3::jsonb #>> ARRAY[log_id::text, 'to'])::bigint,
    state = $3::jsonb #> ARRAY[log_id::text, 'state'], updated_at = $4
WHERE source_id = ANY ($1::uuid[]) AND log_id = ANY ($2::uuid[])
  AND epoch = ($3::jsonb #>> ARRAY[log_id::text, 'epoch'])::bigint
  AND position = ($3::jsonb #>> ARRAY[log_id::text, 'from'])::bigint
"""


class MovedError(Exception):
    """The checkpoint is not where we left it: read it again before anything else."""


class _State(msgspec.Struct, frozen=True):
    """The `state` of a log's row."""

    label: str = ""
    read: int = 0
    stored: int = 0
    duplicate: int = 0
    dead: int = 0
    denied: int = 0
    check: str = ""
    rules: str = ""
    """Version of the redaction rules that masked it last."""


async def take_over(connection: asyncpg.Connection, name: LogName, now: datetime) -> Checkpoint:
    """A new epoch, at the position where the last one stopped."""
    return _checkpoint(await connection.fetchrow(_OPEN, *name.key, name.kind, name.host, _new(name), now))


async def take_over_all(
    connection: asyncpg.Connection, names: Sequence[LogName], now: datetime
) -> dict[UUID, Checkpoint]:
    """The same for many logs, by their ids; in the order of their keys, so that two processes don't deadlock."""
    ordered = sorted(names)
    columns = ([name[at] for name in ordered] for at in range(4))
    rows = await connection.fetch(_OPEN_ALL, *columns, [_new(name) for name in ordered], now)
    if len(rows) != len(names):
        raise DroppedError("agent_trace_sources")
    return {row["log_id"]: _checkpoint(row) for row in rows}


async def resume(connection: asyncpg.Connection, name: LogName, epoch: int, now: datetime) -> Checkpoint:
    """The checkpoint as it is; where the database has lost it, a new one of this epoch."""
    return _checkpoint(await connection.fetchrow(_RESUME, *name.key, name.kind, name.host, epoch, _new(name), now))


async def positions(connection: asyncpg.Connection, keys: Collection[LogKey]) -> dict[LogKey, int]:
    """How far these logs are stored, in bytes; one that is not known is not among them."""
    return {key: position for key, (_, position) in (await _found(connection, keys)).items()}


async def _found(connection: asyncpg.Connection, keys: Collection[LogKey]) -> dict[LogKey, tuple[int, int]]:
    """The epoch and position of each of these logs that is known."""
    rows = await connection.fetch(_POSITIONS, [key.source_id for key in keys], [key.log_id for key in keys])
    return {LogKey(row["source_id"], row["log_id"]): (row["epoch"], row["position"]) for row in rows}


async def advance(
    connection: asyncpg.Connection, moves: Sequence[Move], reached: Sequence[Checkpoint], rules: str, now: datetime
) -> None:
    """Move the checkpoints of a batch's logs, all or none.

    Raises:
        MovedError: one of them is not where the batch begins.
        DroppedError: all of them are, and the server did not move them.
    """
    states = [
        _State(move.name.label, *at.counts, check=at.check, rules=rules)
        for move, at in zip(moves, reached, strict=True)
    ]
    if len(moves) == 1:
        (move,), (state,) = moves, states
        text, known = msgspec.json.encode(state).decode(), move.known
        moved = await connection.execute(
            _ADVANCE, move.new_position, text, now, *move.name.key, known.epoch, known.position
        )
    else:
        changes = {
            str(move.name.log_id): {
                "epoch": move.known.epoch,
                "from": move.known.position,
                "to": move.new_position,
                "state": state,
            }
            for move, state in zip(moves, states, strict=True)
        }
        sources, logs = [move.name.source_id for move in moves], [move.name.log_id for move in moves]
        moved = await connection.execute(_ADVANCE_ALL, sources, logs, msgspec.json.encode(changes).decode(), now)
    if moved != f"UPDATE {len(moves)}":
        found = await _found(connection, [move.name.key for move in moves])
        if all(found.get(move.name.key) == (move.known.epoch, move.known.position) for move in moves):
            raise DroppedError("agent_trace_sources")
        raise MovedError


def _new(name: LogName) -> str:
    return msgspec.json.encode(_State(label=name.label)).decode()


def _checkpoint(row: asyncpg.Record | None) -> Checkpoint:
    if row is None:
        raise DroppedError("agent_trace_sources")
    state = msgspec.json.decode(row["state"], type=_State)
    counts = Counts(state.read, state.stored, state.duplicate, state.dead, state.denied)
    return Checkpoint(row["epoch"], row["position"], counts, state.check)
