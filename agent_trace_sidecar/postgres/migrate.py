"""Brings a database's tables up to date: applies the SQL files which it has not recorded yet.

The files are complete by themselves (`psql -f FILE` does the same): each opens its transaction, takes the lock,
creates what is missing and records its own version. Here the transaction is ours, one for all files: several sidecars
may start on an empty database at once, and one that is killed leaves nothing half-made.
"""

from pathlib import Path
from typing import Final

import asyncpg

LOCK_KEY: Final = 4704380893158990945
"""Of `pg_advisory_xact_lock`; the SQL files take the same. A session-level lock would not survive a pooler."""

# Not to_regclass: it may remember, until the transaction ends, that a table was not there before we had the lock.
# Tables of 0.3.0 are known by a column that they lack: two of its migrations have the names of today's.
_LOOK: Final = """
SELECT coalesce(bool_or(c.relname = 'agent_trace_migrations'), false) AS has_list,
       coalesce(bool_or(c.relname = 'agent_trace_records' AND a.attname IS NULL), false) AS is_legacy
FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'source_id'
WHERE c.relname IN ('agent_trace_migrations', 'agent_trace_records') AND pg_table_is_visible(c.oid)
"""

_FIRST: Final = frozenset({"001_agent_trace_tables", "002_agent_trace_indexes", "003_agent_trace_views"})
"""What creates the tables; a later file changes them."""
_PLACES: Final = (
    Path(__file__).parents[1] / "_data" / "migrations",  # in the wheel
    Path(__file__).parents[2] / "migrations",  # in a checkout
)


class MigrateError(Exception):
    """The migrations themselves are not as they must be; the message names what is wrong."""


class LegacySchemaError(asyncpg.UndefinedColumnError):
    """The tables were made by version 0.3.0, which this version can't bring up to date."""

    def __init__(self) -> None:
        super().__init__(
            "The database was made by version 0.3.0, whose tables this version can't use. Create another database and "
            "set AGENT_TRACE_DATABASE_URL to it, run `agent-trace-sidecar migrate`, then `agent-trace-sidecar replay` "
            "with the event logs. Without the logs: write the records to a file with version 0.3.0's `export`, and "
            "read it with `agent-trace-sidecar import`."
        )


def migration_files() -> list[tuple[str, str]]:
    """Return the migrations as (version, SQL), in the order in which they apply; the version is the file's stem.

    Raises:
        MigrateError: the installation carries no migrations.
    """
    for place in _PLACES:
        files = sorted(place.glob("[0-9][0-9][0-9]_*.sql"))
        if files:
            return [(file.stem, file.read_text(encoding="utf-8")) for file in files]
    raise MigrateError("this installation does not contain the migrations: reinstall agent-trace-sidecar")


async def migrate(connection: asyncpg.Connection) -> list[str]:
    """Apply what is missing, all of it in one transaction, and return the versions that this call applied.

    Raises:
        MigrateError: a file is not one transaction, or the installation carries none.
        LegacySchemaError: the tables are those of 0.3.0.
        asyncpg.PostgresError: the server refused, for example because the user may not create tables.
    """
    files = migration_files()
    if {version for version, _ in files} <= await _applied(connection):
        return []
    # Read committed, whatever the role's default is: the query after the lock must see what its last holder did.
    async with connection.transaction(isolation="read_committed"):
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK_KEY)
        known = await _applied(connection)
        missing = [(version, sql) for version, sql in files if version not in known]
        for version, sql in missing:
            await connection.execute(_without_transaction(version, sql))
    return [version for version, _ in missing]


async def schema_version(connection: asyncpg.Connection) -> str | None:
    """Return the newest version which the database has recorded, None when the tables were never created.

    They count as created when the first three files are applied, so a creation by `psql` that was cut off is completed.

    Raises:
        LegacySchemaError: the tables are those of 0.3.0.
    """
    applied = await _applied(connection)
    return max(applied) if applied >= _FIRST else None


async def _applied(connection: asyncpg.Connection) -> set[str]:
    found = await connection.fetchrow(_LOOK)
    assert found is not None  # noqa: S101 - an aggregate has one row
    if found["is_legacy"]:
        raise LegacySchemaError
    if not found["has_list"]:
        return set()
    return {row["version"] for row in await connection.fetch("SELECT version FROM agent_trace_migrations")}


def _without_transaction(version: str, sql: str) -> str:
    """Take a file's own BEGIN and COMMIT away: inside our transaction its COMMIT would end ours."""
    lines = sql.splitlines()
    if lines.count("BEGIN;") != 1 or lines.count("COMMIT;") != 1:
        raise MigrateError(f"migration {version} must have exactly one line 'BEGIN;' and one line 'COMMIT;'")
    return "\n".join(line for line in lines if line not in {"BEGIN;", "COMMIT;"})
