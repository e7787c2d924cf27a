"""How many of the sessions that OpenCode has here are recorded, counted without the pipeline of `reconcile`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from agent_trace_sidecar.opencode.store import Store, StoredSession, Wanted
from agent_trace_sidecar.opencode.store_files import store_files

_RECORDED: Final = "SELECT DISTINCT session_id FROM agent_trace_events WHERE session_id = ANY ($1::text[])"
_AT_ONCE: Final = 500


class Recorded(NamedTuple):
    """Sessions that OpenCode has, and how many of them are recorded, wholly or in part."""

    in_store: int
    recorded: int


def stored_sessions(project: Path | None = None) -> list[StoredSession]:
    """The sessions that OpenCode has on this machine, of a folder if one is named; without a database.

    Raises:
        opencode.store.StoreError: a store can't be read, or is of a version that is not known.
    """
    chosen = Wanted(project=str(project.resolve()) if project is not None else None)
    found: list[StoredSession] = []
    for file in store_files(os.environ):
        with Store(file) as store:
            found += [one for one in store.sessions() if chosen.takes(one)]
    return found


async def recorded_sessions(connection: asyncpg.Connection, project: Path | None = None) -> Recorded:
    """How many of the sessions that OpenCode has on this machine are recorded; for `status` and `doctor`.

    Args:
        connection: to the database.
        project: only sessions of this folder and those below it.

    Raises:
        opencode.store.StoreError: a store can't be read, or is of a version that is not known.
    """
    ids = list({one.id for one in stored_sessions(project)})
    return Recorded(len(ids), await _number_recorded(connection, ids))


async def emptied_stores(connection: asyncpg.Connection) -> dict[Path, int]:
    """How many sessions of 1.x an upgrade to 2.x has left without events, unrecorded, by store; for `doctor`.

    Raises:
        opencode.store.StoreError: a store can't be read, or is of a version that is not known.
    """
    found: dict[Path, int] = {}
    for file in store_files(os.environ):
        with Store(file) as store:
            ids = [one.id for one in store.emptied()]
        left = len(ids) - await _number_recorded(connection, ids)
        if left:
            found[file] = left
    return found


async def _number_recorded(connection: asyncpg.Connection, ids: Sequence[str]) -> int:
    known = 0
    for at in range(0, len(ids), _AT_ONCE):
        known += len(await connection.fetch(_RECORDED, ids[at : at + _AT_ONCE]))
    return known
