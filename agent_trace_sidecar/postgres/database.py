"""The database that the settings name: the configured server, or the embedded one."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from agent_trace_sidecar.postgres.errors import Fate, StoreError, Verdict
from agent_trace_sidecar.postgres.migrate import migrate, schema_version
from agent_trace_sidecar.postgres.partitions import make_months

if TYPE_CHECKING:
    from agent_trace_sidecar.postgres.embedded import EmbeddedPostgres


class Database:
    """Where the rows go: the configured server, or the embedded one, started when it is first needed."""

    def __init__(self, url: str | None, state_path: Path, linger_s: float = 0.0) -> None:
        """`url` is None for the embedded server, whose files are in `state_path`; see there for `linger_s`."""
        self._url = url
        self.embedded = None if url else _embedded(state_path, linger_s)
        self._starting = asyncio.Lock()

    async def url(self) -> str:
        """The URL to connect to.

        Raises:
            StoreError: the embedded Postgres can't be started.
        """
        if self.embedded is None:
            assert self._url is not None  # noqa: S101 - one of the two is there
            return self._url
        from agent_trace_sidecar.postgres.embedded import EmbeddedError  # noqa: PLC0415 - as below

        async with self._starting:
            try:
                return await asyncio.to_thread(self.embedded.start)
            except EmbeddedError as exc:
                raise StoreError(Verdict(Fate.OPERATOR, "embedded_postgres", str(exc))) from None

    async def prepare(self, connection: asyncpg.Connection) -> None:
        """Create the schema where `migrate` has never run; an existing one is left to its owner, unless it is ours.

        The embedded server has nobody else who would make its months.
        """
        if self.embedded is not None or await schema_version(connection) is None:
            await migrate(connection)
        if self.embedded is not None:
            await make_months(connection, datetime.now(UTC).date())

    async def close(self) -> None:
        """Stop using the embedded server; after the last user it stops."""
        if self.embedded is not None:
            await asyncio.to_thread(self.embedded.stop)


def _embedded(state_path: Path, linger_s: float) -> "EmbeddedPostgres":
    from agent_trace_sidecar.postgres.embedded import EmbeddedPostgres  # noqa: PLC0415 - who names a server needs none of it

    return EmbeddedPostgres(state_path, linger_s=linger_s)


def can_be_embedded(environ: Mapping[str, str]) -> bool:
    """Whether this machine has PostgreSQL's programs, so that the embedded server can be started."""
    from agent_trace_sidecar.postgres.embedded.binaries import (  # noqa: PLC0415 - as above
        EmbeddedError,
        find_binaries,
    )

    try:
        return next(find_binaries(environ), None) is not None
    except EmbeddedError:
        return False


def has_data(state_path: Path) -> bool:
    """Whether the embedded server has been used here."""
    return any((state_path / "postgres").glob("[0-9][0-9]/PG_VERSION"))
