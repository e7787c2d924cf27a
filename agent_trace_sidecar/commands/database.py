"""A command's connection to the database that the settings name."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import asyncpg

from agent_trace_sidecar.commands.common import CommandError
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.postgres.address import AddressError
from agent_trace_sidecar.postgres.connection import connect
from agent_trace_sidecar.postgres.database import Database
from agent_trace_sidecar.postgres.errors import DRIVER_ERRORS, StoreError, Verdict, verdict
from agent_trace_sidecar.postgres.explain import explained

T = TypeVar("T")

CONNECTION_ERRORS: Final = (AddressError, *DRIVER_ERRORS)
"""What connecting and a connection may raise; `command_error(verdict(exc))` is its sentence."""


def with_url(config: Config, work: Callable[[str], Coroutine[Any, Any, T]]) -> T:
    """Run `work` with the database's URL; the embedded server is up as long as it runs.

    Raises:
        CommandError: there is no server.
    """

    async def outer() -> T:
        database = Database(config.database_url, config.state_path, config.pg_linger_s)
        try:
            return await work(await database.url())
        except StoreError as exc:
            raise command_error(exc.verdict) from None
        finally:
            await database.close()

    return asyncio.run(outer())


def with_database(
    config: Config, work: Callable[[asyncpg.Connection], Coroutine[Any, Any, T]], *, prepare: bool = True
) -> T:
    """Run `work` with a connection; `prepare` creates the tables where there are none.

    Raises:
        CommandError: the database can't be queried.
    """

    async def inner(url: str) -> T:
        try:
            connection = await connect(url)
            try:
                if prepare:
                    await Database(config.database_url, config.state_path, config.pg_linger_s).prepare(connection)
                return await work(connection)
            except asyncpg.PostgresError as exc:
                raise StoreError(await explained(connection, verdict(exc))) from None
            finally:
                connection.terminate()
        except CONNECTION_ERRORS as exc:
            raise command_error(verdict(exc)) from None

    return with_url(config, inner)


def command_error(found: Verdict) -> CommandError:
    """The sentence with which a command ends, which tries nothing again."""
    return CommandError(f"{found.hint.partition('; retrying')[0].removesuffix('.')} ({found.cause}).")


def database_place(config: Config) -> str:
    """Where the rows are stored, without user and password."""
    if config.database_url is None:
        return f"embedded Postgres in {config.state_path / 'postgres'}"
    parts = urlsplit(config.database_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
