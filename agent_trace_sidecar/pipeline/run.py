"""`run`: stdin to Postgres through the spool.

The event loop owns the database side; the intake's threads own stdin and the spool's writing end. Stopping is part
of it: at stdin's end or on SIGTERM what is durable is delivered for a bounded time, and the rest waits in the spool
for the next sidecar.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Collection
from functools import partial
from typing import Final, ParamSpec

from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits import DRAIN_DEADLINE_S
from agent_trace_sidecar.pipeline.adopt import Adoption
from agent_trace_sidecar.pipeline.daemon import Daemon
from agent_trace_sidecar.pipeline.intake import Intake
from agent_trace_sidecar.pipeline.shipper import Shipper
from agent_trace_sidecar.postgres.errors import StoreError
from agent_trace_sidecar.postgres.sink import FencedError
from agent_trace_sidecar.records.rows import LogKey
from agent_trace_sidecar.sources.spool_log import SpoolLog
from agent_trace_sidecar.spool.folders import SPOOL_FOLDER
from agent_trace_sidecar.spool.spool import Spool
from agent_trace_sidecar.telemetry.health import HealthFile
from agent_trace_sidecar.telemetry.logging import Logger

P = ParamSpec("P")

_REPORT_S: Final = 1.0
"""How soon the health file reports that no event is taken."""


class Run(Daemon):
    """The stdin daemon."""

    def __init__(self, config: Config, logger: Logger) -> None:
        super().__init__(config, logger)
        self._root = config.state_path / SPOOL_FOLDER
        self._loop = asyncio.get_running_loop()
        self._opened = asyncio.Event()
        self._ended = asyncio.Event()
        self._spool: Spool | None = None
        self._log: SpoolLog | None = None
        self._adoption = Adoption(
            self._root,
            logger,
            own_folder=lambda: self._spool.folder if self._spool is not None else None,
            ship=self._ship,
            is_blocked=lambda: bool(self._intake.blocked),
        )
        self._report: Callable[[], None] | None = None
        self._intake = Intake(
            self._root,
            self.redactor,
            self.observer(),
            logger,
            denies=self.denies,
            on_spool=lambda spool: self._call(self._on_spool, spool),
            on_durable=lambda: self._call(self._on_durable),
            on_end=lambda: self._call(self._on_end),
        )

    async def run(self, stdin_fd: int = 0, stdout_fd: int = 1) -> int:
        """Record until stdin ends or SIGTERM comes; return the exit code."""
        self._handle_signals()
        warm = asyncio.create_task(self._warm_up())
        self._intake.start(stdin_fd, stdout_fd)
        own = asyncio.create_task(self._ship_own())
        adopting = asyncio.create_task(self._adoption.adopt_forever(self._opened))
        reporting = asyncio.create_task(self._report_forever())
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({ended, own}, return_when=asyncio.FIRST_COMPLETED)
            if not self._ended.is_set():
                return self._failed(own)
            return await self._drain(own, adopting)
        finally:
            tasks = (own, adopting, warm, reporting, ended)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._spool is not None:
                self._spool.close()
            await asyncio.to_thread(self.redactor.settle)
            await self.database.close()

    def trouble(self) -> str:
        """As of every daemon; also a disk that takes no more lines."""
        return self._intake.blocked or super().trouble()

    def log_bytes(self) -> tuple[int, int]:
        """Bytes of our own spool, and those of them that are not in the database."""
        spool = self._spool
        return (spool.end - spool.start, spool.unshipped_bytes) if spool is not None else (0, 0)

    def positions(self) -> dict[LogKey, int]:
        """Those of the orphaned spools; our own is the shipper's."""
        return self._adoption.positions()

    def resend(self, keys: Collection[LogKey]) -> None:
        """Adoption delivers them again."""
        self._adoption.resend(keys)

    async def _drain(self, own: asyncio.Task[None], adopting: asyncio.Task[None]) -> int:
        """Deliver what is there, ours first, then what dead sidecars left; give up at the deadline."""
        adopting.cancel()
        try:
            async with asyncio.timeout(DRAIN_DEADLINE_S):
                if self._opened.is_set():
                    await own
                await asyncio.wait({adopting})
                await self._adoption.adopt_all(grace_s=0)
        except TimeoutError:
            left = self._spool.unshipped_bytes if self._spool is not None else 0
            self.logger.warning("drain_gave_up", bytes_left=left, hint="the next sidecar to start delivers them")
        except FencedError:
            return 1
        return int(self._intake.failed)

    def _failed(self, own: asyncio.Task[None]) -> int:
        """Shipping has ended by itself, so taking lines makes no sense: the shim starts another sidecar."""
        if not isinstance(own.exception(), FencedError):
            self.logger.error("shipping_failed", error=type(own.exception()).__name__)
        return 1

    # -- our own spool ---------------------------------------------------------------------------------------

    async def _ship_own(self) -> None:
        await self._opened.wait()
        assert self._spool is not None  # noqa: S101 - set before the event
        assert self._log is not None  # noqa: S101 - as above
        await self._ship(self._spool, self._log)

    async def _ship(self, spool: Spool, log: SpoolLog) -> None:
        """Ship one spool to its end, and mark it as shipped."""
        health = HealthFile(spool.folder)
        own = spool is self._spool

        def report(shipper: Shipper) -> None:
            blocked = self._intake.blocked if own else ""
            health.write(shipper.health, shipper.position, spool.end, shipper.counts, blocked)

        shipper, sink = self.shipper(log, report)
        if own:
            self._report = partial(report, shipper)
        try:
            await shipper.run()
            health.mark_shipped(spool.end)
        finally:
            await sink.close()

    async def _report_forever(self) -> None:
        """Report when the intake is blocked, or no longer: the shipper reports only what it sees itself."""
        said = ""
        while True:
            await asyncio.sleep(_REPORT_S)
            if self._report is not None and (blocked := self._intake.blocked) != said:
                self._report()
                said = blocked

    def _on_spool(self, spool: Spool) -> None:
        self._spool, self._log = spool, SpoolLog(spool, ended=False)
        self._opened.set()

    def _on_durable(self) -> None:
        if self._log is not None:
            self._log.grown()

    def _on_end(self) -> None:
        if self._log is not None:
            self._log.finish()
        self._ended.set()

    # -- the rest --------------------------------------------------------------------------------------------

    async def _warm_up(self) -> None:
        """Start the embedded server before the first line needs it; a failure shows where it is needed."""
        with contextlib.suppress(StoreError):
            await self.database.url()

    def _handle_signals(self) -> None:
        """Ctrl-C and a closing terminal reach the whole process group, but stdin's end is what stops us."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._loop.add_signal_handler(signal.SIGTERM, self._terminate)

    def _terminate(self) -> None:
        """The first SIGTERM drains, the second one ends at once: the spool holds what is not delivered."""
        if self._intake.stopping:
            os._exit(1)
        self._intake.stop()
        # A full disk or spool must not keep us: the shim, if it lives, still has what is not acknowledged.
        self._loop.call_later(DRAIN_DEADLINE_S, self._ended.set)

    def _call(self, function: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run `function` in the event loop, from one of the intake's threads; the loop may be closed already."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(lambda: function(*args, **kwargs))
