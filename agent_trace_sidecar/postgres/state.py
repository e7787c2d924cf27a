"""What the builder knows of each run of a shim: loaded before its first line, saved in the batch's own transaction.

Two shippers may deliver lines of one run. A state is saved only over the version that it was built on; the shipper
that comes second builds its batch anew.
"""

from collections.abc import Collection
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from agent_trace_sidecar.postgres.schema_check import DroppedError
from agent_trace_sidecar.records.rows import Batch, State
from agent_trace_sidecar.workspace.identity import Identity

# The first recorder is kept, whichever process ships or replays it later; a repository's URL may become known later.
# `epoch` is the state's version: who has built on an older one changes nothing, and gets no row back.
_SAVE: Final = """
INSERT INTO agent_trace_sources (source_id, kind, host, epoch, position, state, opened_at, updated_at, container,
                                 os_user, repositories, projects, log_id)
SELECT id, 'instance', $5, version, seq, state, $6, $6, $7, $8, repositories, projects,
       '00000000-0000-0000-0000-000000000000'
FROM unnest($1::uuid[], $2::bigint[], $3::jsonb[], $4::jsonb[], $9::bigint[], $10::jsonb[])
    AS s (id, seq, state, repositories, version, projects)
ON CONFLICT (source_id, log_id) DO UPDATE
SET position = excluded.position, state = excluded.state, updated_at = excluded.updated_at, epoch = excluded.epoch,
    container = coalesce(agent_trace_sources.container, excluded.container),
    os_user = coalesce(agent_trace_sources.os_user, excluded.os_user),
    repositories = coalesce(excluded.repositories, '{}') || coalesce(agent_trace_sources.repositories, '{}')
        || jsonb_strip_nulls(coalesce(excluded.repositories, '{}')),
    projects = coalesce(agent_trace_sources.projects, '{}') || coalesce(excluded.projects, '{}')
WHERE agent_trace_sources.epoch = excluded.epoch - 1
RETURNING source_id
"""
_LOAD: Final = """
SELECT source_id, epoch, state::text, position FROM agent_trace_sources
WHERE source_id = ANY ($1::uuid[]) AND kind = 'instance'
"""


class StaleError(Exception):
    """Another shipper has meanwhile stored lines of an instance of this batch: build on what it has learned."""


async def load(connection: asyncpg.Connection, instances: Collection[UUID]) -> dict[UUID, State]:
    """The states of these instances; one that has none is not among them."""
    found = await connection.fetch(_LOAD, list(instances))
    return {row["source_id"]: State(row["epoch"], row["state"].encode(), row["position"]) for row in found}


async def save(connection: asyncpg.Connection, batch: Batch, host: str, who: Identity) -> None:
    """First come, first served; before the rows, so that the later of two shippers does not copy for nothing.

    Raises:
        StaleError: the batch must be built anew.
        DroppedError: the server has not stored it, without an error.
    """
    ids = sorted(batch.states)
    seqs = [batch.states[i].highest_seq for i in ids]
    states = [batch.states[i].data.decode() for i in ids]
    versions = [batch.states[i].version for i in ids]
    places = [msgspec.json.encode(who.repositories(batch.worktrees.get(i, ()))).decode() for i in ids]
    projects = _projects(batch, who)
    named = [msgspec.json.encode(projects.get(i, {})).decode() for i in ids]
    saved = await connection.fetch(
        _SAVE, ids, seqs, states, places, host, batch.at, who.container, who.os_user, versions, named
    )
    if len(saved) != len(ids):
        await _check_stale(connection, batch, set(ids) - {row["source_id"] for row in saved})
        raise StaleError


async def _check_stale(connection: asyncpg.Connection, batch: Batch, unsaved: Collection[UUID]) -> None:
    """Where every state still is the one that the batch was built on, no other shipper is why it was not saved.

    Raises:
        DroppedError: so it is.
    """
    known = await load(connection, unsaved)
    if all(known.get(one, State(0)).version == batch.states[one].version - 1 for one in unsaved):
        raise DroppedError("agent_trace_sources")


def _projects(batch: Batch, who: Identity) -> dict[UUID, dict[str, str]]:
    """What the worktrees of the batch's calls and files are called, by run: as filed, and as they are called by now."""
    found: dict[UUID, dict[str, str]] = {}
    for item in batch.items:
        if item.built.event.call_id is not None:
            found.setdefault(item.built.event.source_id, {})
        for row in item.built.states:
            found.setdefault(row.source_id, {})[row.project] = row.worktree
    for instance, known in found.items():
        known.update(who.projects({*known.values(), *batch.worktrees.get(instance, ())}))
    return found
