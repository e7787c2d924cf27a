"""The shipping half of the sidecar in this process, with bounds small enough for tests: a spool, a shipper, a sink."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import asyncpg

from agent_trace_sidecar.pipeline.shipper import Shipper
from agent_trace_sidecar.postgres.failover import FailoverCheck
from agent_trace_sidecar.postgres.migrate import migrate, schema_version
from agent_trace_sidecar.postgres.sink import FencedError, PostgresSink
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.rows import Counts
from agent_trace_sidecar.redaction import Redacted
from agent_trace_sidecar.sources.spool_log import SpoolLog
from agent_trace_sidecar.spool.spool import Spool
from agent_trace_sidecar.telemetry.logging import logger
from tests.support.waiting import eventually_async, slowness


class Deadlines(NamedTuple):
    """How long the sink waits for the answer to a batch, and for a connection."""

    write_s: float
    connect_s: float


HURRIED: Final = Deadlines(1.0 * slowness(), 0.8 * slowness())
"""Where no answer comes. On a busy machine one that is on its way may miss them, too: its batch is sent again."""
UNHURRIED: Final = Deadlines(60.0, 60.0)
"""Everywhere else."""


class _Never(FailoverCheck):
    """It is never time."""

    def __init__(self) -> None:
        super().__init__()
        self._at = inf

    def postpone(self) -> None:
        """Stay where it is."""
        self._at = inf

    soon = postpone


class Shipping:
    """One spool on its way to the database at `url`; use it as an async context."""

    def __init__(
        self,
        folder: Path,
        url: str,
        *,
        batch_size: int = 10,
        segment_bytes: int = 4096,
        retry_max: int = 3,
        looks: bool = False,
        deadlines: Deadlines = UNHURRIED,
    ) -> None:
        """Open the spool in `folder`; nothing is shipped before the context is entered.

        With `looks` it looks at the database while idle. A test that waits for a lock in the loop's own thread would
        wait for ever for the locks of such a look.
        """
        self.url = url
        self.spool = Spool(folder, segment_bytes=segment_bytes)
        self.log = SpoolLog(self.spool, ended=False)
        self.causes: list[str] = []
        """Every failure's cause, in order."""
        self.was_unhealthy = False
        self._silence = os.open(os.devnull, os.O_WRONLY)
        sink = PostgresSink(
            self._url, _prepare, write_deadline_s=deadlines.write_s, connect_deadline_s=deadlines.connect_s
        )
        if not looks:
            sink.failover = _Never()
        self.shipper = Shipper(
            self.log,
            sink,
            lambda: Builder(BuildSettings()),
            logger(fd=self._silence),
            batch_size=batch_size,
            flush_ms=20,
            retry_max=retry_max,
            on_change=self._changed,
        )
        self._sink = sink

    async def _url(self) -> str:
        return self.url

    def _changed(self, shipper: Shipper) -> None:
        health = shipper.health
        if health.failures > len(self.causes) or (health.failures and health.cause != self.causes[-1]):
            self.causes.append(health.cause)
        self.was_unhealthy = self.was_unhealthy or health.unhealthy

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.shipper.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError, FencedError):
            await self.task
        await self._sink.close()
        self.spool.close()
        os.close(self._silence)

    @property
    def counts(self) -> Counts:
        """What became of the lines so far."""
        return self.shipper.counts

    def append(self, lines: Sequence[tuple[int, bytes]]) -> None:
        """Make these lines durable: from here on they are obligations."""
        for _, line in lines:
            self.spool.append([Redacted.from_spool(line)])
        self.spool.sync()
        self.log.grown()

    async def delivered(self, deadline_s: float = 20.0) -> None:
        """Wait until all that was appended is in the database."""

        async def is_delivered() -> bool:
            assert not self.task.done(), self.task
            return self.shipper.position == self.spool.durable

        await eventually_async(is_delivered, deadline_s, f"everything is delivered; failures so far: {self.causes}")

    async def failed(self, cause: str, deadline_s: float = 10.0) -> None:
        """Wait for a failure of this cause."""

        async def has_failed() -> bool:
            return cause in self.causes

        await eventually_async(has_failed, deadline_s, f"it fails with {cause}, not {self.causes}")


async def _prepare(connection: asyncpg.Connection) -> None:
    if await schema_version(connection) is None:
        await migrate(connection)
