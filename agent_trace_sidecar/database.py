"""The configured database, opened for one command; what goes wrong with it becomes one sentence."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import asyncpg

from agent_trace_sidecar.address import AddressError
from agent_trace_sidecar.command import CommandError
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.daemon import Database
from agent_trace_sidecar.sinks.connection import connect
from agent_trace_sidecar.sinks.faults import verdict
from agent_trace_sidecar.sinks.postgres import StoreError

T = TypeVar("T")


def with_url(config: Config, work: Callable[[str], Coroutine[Any, Any, T]]) -> T:
    """Run `work` with the database's URL; the embedded server is up as long as it runs.

    Raises:
        CommandError: there is no server.
    """

    async def outer() -> T:
        database = Database(config)
        try:
            return await work(await database.url())
        except StoreError as exc:
            raise CommandError(exc.verdict.hint) from None
        finally:
            await database.close()

    return asyncio.run(outer())


def with_database(
    config: Config, work: Callable[[asyncpg.Connection], Coroutine[Any, Any, T]], *, prepare: bool = True
) -> T:
    """Run `work` with a connection; `prepare` creates the tables where there are none.

    Raises:
        CommandError: the database can't be asked.
    """

    async def inner(url: str) -> T:
        try:
            connection = await connect(url)
            try:
                if prepare:
                    await Database(config).prepare(connection)
                return await work(connection)
            finally:
                connection.terminate()
        except (
            AddressError,
            OSError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
        ) as exc:
            found = verdict(exc)
            raise CommandError(f"{found.hint.removesuffix('; it is tried again.')} ({found.cause})") from None

    return with_url(config, inner)
