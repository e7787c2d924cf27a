"""Takes over orphaned spools: what a sidecar left that was killed, or that ended while the database was away."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from agent_trace_sidecar.limits import ADOPT_GRACE_S, ADOPT_INTERVAL_S, SPOOL_KEEP_S
from agent_trace_sidecar.postgres.sink import FencedError
from agent_trace_sidecar.records.rows import LogKey
from agent_trace_sidecar.sources.spool_log import SpoolLog
from agent_trace_sidecar.spool.folders import SpoolBusyError, log_key, spool_folders
from agent_trace_sidecar.spool.spool import Spool
from agent_trace_sidecar.telemetry.health import HealthFile
from agent_trace_sidecar.telemetry.logging import Logger


class Adoption:
    """The spools below one root, but for our own."""

    def __init__(
        self,
        root: Path,
        logger: Logger,
        *,
        own_folder: Callable[[], Path | None],
        ship: Callable[[Spool, SpoolLog], Awaitable[None]],
        is_blocked: Callable[[], bool],
    ) -> None:
        """Take over the orphaned spools below `root`.

        Args:
            root: the folder of the spools.
            logger: takes the log lines.
            own_folder: our own spool, once there is one.
            ship: delivers a spool to its end, and marks it as shipped.
            is_blocked: whether our own spool can't be written; then shipped ones make room at once.
        """
        self._root = root
        self._logger = logger
        self._own_folder = own_folder
        self._ship = ship
        self._is_blocked = is_blocked

    async def adopt_forever(self, opened: asyncio.Event) -> None:
        """Take them over again and again, after our own spool is `opened`: a shim's last spool is not orphaned."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ADOPT_GRACE_S):
                await opened.wait()
        while True:
            young = await self.adopt_all(grace_s=ADOPT_GRACE_S)
            await asyncio.sleep(ADOPT_GRACE_S if young else ADOPT_INTERVAL_S)

    async def adopt_all(self, grace_s: float) -> bool:
        """Take over every orphaned spool, one after the other; return whether one was too young yet."""
        young = False
        for folder in self._orphans():
            try:
                spool = Spool(folder)
            except (SpoolBusyError, OSError):
                continue
            try:
                young |= not await self._adopt(spool, grace_s)
            except Exception as exc:  # noqa: BLE001 - what a dead sidecar left must not stop the running one
                self._logger.error("adoption_failed", spool=folder.name, error=type(exc).__name__)
            finally:
                spool.close()
        return young

    async def _adopt(self, spool: Spool, grace_s: float) -> bool:
        """Ship what is left of a spool whose owner is dead; delete it once it is old enough. False: it is too young."""
        health = HealthFile(spool.folder)
        age = HealthFile.now() - spool.last_write_at
        if 0 <= age < grace_s:  # a time in the future is a clock that was set back, and is no evidence
            return health.shipped_to() == spool.end
        if health.shipped_to() != spool.end:
            self._logger.info("spool_adopted", spool=spool.folder.name, bytes=spool.end - spool.start)
            with contextlib.suppress(FencedError):
                await self._ship(spool, SpoolLog(spool, ended=True))
        if (age > SPOOL_KEEP_S or self._is_blocked()) and health.shipped_to() == spool.end:
            spool.remove()
        return True

    def positions(self) -> dict[LogKey, int]:
        """How far the database has the orphaned spools that are shipped, and kept in case of a fail-over."""
        marks = ((folder, HealthFile(folder).shipped_to()) for folder in self._orphans())
        return {log_key(folder): mark for folder, mark in marks if mark}

    def resend(self, keys: Collection[LogKey]) -> None:
        """Unmark these as shipped: the next round delivers them again."""
        for folder in spool_folders(self._root):
            if log_key(folder) in keys:
                HealthFile(folder).unmark_shipped()

    def _orphans(self) -> list[Path]:
        own = self._own_folder()
        return [folder for folder in spool_folders(self._root) if folder != own]
