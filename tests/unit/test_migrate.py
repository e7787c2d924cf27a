"""The schema, by both ways of making it."""

import asyncio

import asyncpg

from agent_trace_sidecar.migrate import LOCK_KEY, migrate, migration_files, schema_version
from tests.support.postgres import fetch, migrate_database

VERSIONS = ["001_agent_trace_tables", "002_agent_trace_indexes"]


async def test_migrate_applies_each_file_once(database_url: str) -> None:
    """The first run applies all files in order, the second none."""
    connection = await asyncpg.connect(database_url)
    assert await schema_version(connection) is None
    assert await migrate(connection) == VERSIONS
    assert await schema_version(connection) == VERSIONS[-1]
    assert await migrate(connection) == []
    await connection.close()
