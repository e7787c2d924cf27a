"""The database that the settings name, for the daemon and for single commands."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from agent_trace_sidecar.address import AddressError
from agent_trace_sidecar.command import CommandError
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.migrate import migrate, schema_version
from agent_trace_sidecar.sinks.connection import connect
from agent_trace_sidecar.sinks.faults import Fate, Verdict, verdict
from agent_trace_sidecar.sinks.postgres import StoreError

if TYPE_CHECKING:
    from agent_trace_sidecar.embedded import EmbeddedPostgres

T = TypeVar("T")


class Database:
    """Where the rows go: the configured server, or the embedded one, started when it is first needed."""

    def __init__(self, config: Config) -> None:
        self._url = config.database_url
        self.embedded = None if config.database_url else _embedded(config.state_path)
        self._starting = asyncio.Lock()

    async def url(self) -> str:
        """The URL to connect to.

        Raises:
            StoreError: the embedded Postgres can't be started.
        """
        if self.embedded is None:
            assert self._url is not None  # noqa: S101 - one of the two is there
            return self._url
        from agent_trace_sidecar.embedded import EmbeddedError  # noqa: PLC0415 - as below

        async with self._starting:
            try:
                return await asyncio.to_thread(self.embedded.start)
            except EmbeddedError as exc:
                raise StoreError(Verdict(Fate.OPERATOR, "embedded_postgres", str(exc))) from None

    async def prepare(self, connection: asyncpg.Connection) -> None:
        """Create the schema where `migrate` has never run; an existing one is left to its owner, unless it is ours."""
        if self.embedded is not None or await schema_version(connection) is None:
            await migrate(connection)

    async def close(self) -> None:
        """Stop using the embedded server; the last user out stops it."""
        if self.embedded is not None:
            await asyncio.to_thread(self.embedded.stop)


def _embedded(state_path: Path) -> "EmbeddedPostgres":
    from agent_trace_sidecar.embedded import EmbeddedPostgres  # noqa: PLC0415 - who names a server needs none of it

    return EmbeddedPostgres(state_path)


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
