"""Brings a database's tables up to date: applies the SQL files which it has not recorded yet.

The files are complete by themselves (`psql -f FILE` does the same): each opens its transaction, takes the lock,
creates what is missing and records its own version. Here the transaction is ours, so that what a file does and the
look at what is already there happen under one lock: several sidecars may start on an empty database at once.
"""

from pathlib import Path
from typing import Final

import asyncpg

LOCK_KEY: Final = 4704380893158990945
"""Of `pg_advisory_xact_lock`; the SQL files take the same. A session-level lock would not survive a pooler."""

# Not to_regclass: it may remember, until the transaction ends, that the table was not there before we had the lock.
_HAS_LIST: Final = """
SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'agent_trace_migrations' AND pg_table_is_visible(oid))
"""

_PLACES: Final = (
    Path(__file__).parents[1] / "_data" / "migrations",  # in the wheel
    Path(__file__).parents[2] / "migrations",  # in a checkout
)


class MigrateError(Exception):
    """The migrations themselves are not as they must be; the message says what is wrong with them."""


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
    """Apply what is missing, one transaction per file, and return the versions that this call applied.

    Raises:
        MigrateError: a file is not one transaction, or the installation carries none.
        asyncpg.PostgresError: the server refused, for example because the user may not create tables.
    """
    files = migration_files()
    known = await _applied(connection)
    return [version for version, sql in files if version not in known and await _apply(connection, version, sql)]


async def schema_version(connection: asyncpg.Connection) -> str | None:
    """Return the newest version which the database has recorded, None when `migrate` has never run there."""
    return max(await _applied(connection), default=None)


async def _applied(connection: asyncpg.Connection) -> set[str]:
    if not await connection.fetchval(_HAS_LIST):
        return set()
    return {row["version"] for row in await connection.fetch("SELECT version FROM agent_trace_migrations")}


async def _apply(connection: asyncpg.Connection, version: str, sql: str) -> bool:
    """Run one file, unless another caller did so while we waited for the lock."""
    # Read committed, whatever the role's default is: the look after the lock must see what its last holder did.
    async with connection.transaction(isolation="read_committed"):
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK_KEY)
        if version in await _applied(connection):
            return False
        await connection.execute(_without_transaction(version, sql))
        return True


def _without_transaction(version: str, sql: str) -> str:
    """Take a file's own BEGIN and COMMIT away: inside our transaction its COMMIT would end ours."""
    lines = sql.splitlines()
    if lines.count("BEGIN;") != 1 or lines.count("COMMIT;") != 1:
        raise MigrateError(f"migration {version} must have exactly one line 'BEGIN;' and one line 'COMMIT;'")
    return "\n".join(line for line in lines if line not in {"BEGIN;", "COMMIT;"})
