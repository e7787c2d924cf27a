"""Citus' workers: whether the coordinator reaches them. A query over shards fails as soon as one of them is away."""

from typing import Final

import asyncpg

_WORKER_S: Final = 5.0
"""A worker whose machine is away answers nothing; Citus itself would wait for 30 s."""
# In two steps: where there is no Citus, its catalogue can't even be named.
_HAS_CITUS: Final = """
SELECT to_regclass('pg_dist_node') IS NOT NULL
   AND to_regprocedure('citus_check_connection_to_node(text, integer)') IS NOT NULL
"""
_WORKERS: Final = """
SELECT nodename::text AS host, nodeport AS port FROM pg_dist_node
WHERE isactive AND noderole::text = 'primary' AND groupid <> 0 ORDER BY nodename, nodeport
"""
_REACHED: Final = "SELECT citus_check_connection_to_node($1::text, $2::integer)"


async def away(connection: asyncpg.Connection) -> list[str]:
    """The workers that this coordinator does not reach, as `host:port`; none where there is no Citus.

    Raises:
        asyncpg.PostgresError: the coordinator itself refuses to tell.
    """
    if not await connection.fetchval(_HAS_CITUS):
        return []
    return [
        f"{row['host']}:{row['port']}"
        for row in await connection.fetch(_WORKERS)
        if not await _reached(connection, row["host"], row["port"])
    ]


async def _reached(connection: asyncpg.Connection, host: str, port: int) -> bool:
    try:
        return bool(await connection.fetchval(_REACHED, host, port, timeout=_WORKER_S))
    except TimeoutError:
        return False
