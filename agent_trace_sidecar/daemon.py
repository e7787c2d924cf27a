"""Joins the stages: `run` (stdin to Postgres through the spool) and `replay` (a finished log to Postgres).

The event loop owns the database side; the intake's threads own stdin and the spool's writing end. Stopping is part
of it: at stdin's end or on SIGTERM what is durable is delivered for a bounded time, and the rest waits in the spool
for the next sidecar.
"""

import asyncio
import contextlib
import os
import signal
import traceback
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, ParamSpec
from uuid import UUID
from weakref import WeakSet

import asyncpg

from agent_trace_sidecar import __version__, http
from agent_trace_sidecar.build import Builder, BuildSettings
from agent_trace_sidecar.config import Config, ConfigError, http_address
from agent_trace_sidecar.database import Database
from agent_trace_sidecar.health import HealthFile
from agent_trace_sidecar.intake import Intake
from agent_trace_sidecar.limits import ADOPT_GRACE_S, ADOPT_INTERVAL_S, DRAIN_DEADLINE_S, SPOOL_KEEP_S
from agent_trace_sidecar.log import Logger
from agent_trace_sidecar.logs import FileLog, SpoolLog
from agent_trace_sidecar.metrics import CONTENT_TYPE, Metrics
from agent_trace_sidecar.reading import Log
from agent_trace_sidecar.redaction import Funnel, RuleError, is_secret_path
from agent_trace_sidecar.rows import Counts
from agent_trace_sidecar.ship import NO_OTHERS, Others, Shipper
from agent_trace_sidecar.sinks.postgres import FencedError, PostgresSink, StoreError
from agent_trace_sidecar.spool import Spool
from agent_trace_sidecar.spools import SpoolBusyError, source_id, spool_folders
from agent_trace_sidecar.workspace import Observer, WatchedObserver
from agent_trace_sidecar.workspace.identity import Identity
from agent_trace_sidecar.workspace.scope import everywhere

P = ParamSpec("P")

SPOOL_FOLDER: Final = "spool"
_REPORT_S: Final = 1.0
"""How soon the health file tells that no line is taken."""


class Daemon:
    """What `run`, `tail` and `replay` have in common: settings, database, funnel, and how to make a shipper."""

    def __init__(
        self,
        config: Config,
        logger: Logger,
        *,
        recorder: bool = True,
        allows: Callable[[Path], bool] = everywhere,
    ) -> None:
        """Make one.

        Args:
            config: the settings.
            logger: takes the log lines.
            recorder: False where the lines may come from another machine and user.
            allows: whether a worktree may be looked at.
        """
        self.config = config
        self.logger = logger
        self.database = Database(config)
        self.funnel = make_funnel(config, logger)
        self.identity = Identity(recorder=recorder, environ=os.environ, allows=allows)
        self.metrics = Metrics()
        self.metrics.healthy = lambda: not self.trouble()
        self._allows = allows
        self._shippers: WeakSet[Shipper] = WeakSet()
        self.others = NO_OTHERS
        asyncio.get_running_loop().set_exception_handler(self._complain)

    def sink(self, prepare: Callable[[asyncpg.Connection], Awaitable[None]]) -> PostgresSink:
        """A connection; `prepare` runs on it whenever it is made."""
        return PostgresSink(self.database.url, prepare, identity=self.identity, rules_version=self.funnel.version)

    def shipper(
        self, log: Log, on_change: Callable[[Shipper], None] = lambda _: None, sink: PostgresSink | None = None
    ) -> tuple[Shipper, PostgresSink]:
        """A shipper of its own connection, unless it is given one."""
        sink = sink or self.sink(self.database.prepare)
        settings = BuildSettings(self.config.spec_version, self.config.tool_name, self.config.tool_version)
        shipper = Shipper(
            log,
            sink,
            lambda: Builder(settings),
            self.logger,
            batch_size=self.config.batch_size,
            flush_ms=self.config.flush_ms,
            retry_max=self.config.retry_max,
            metrics=self.metrics,
            others=self.others,
            on_change=on_change,
        )
        self._shippers.add(shipper)
        return shipper, sink

    def observer(self) -> WatchedObserver:
        """Looks at the repositories that lines are about."""
        make = partial(Observer, self.funnel.holds_secret, is_secret_path=is_secret_path, allows=self._allows)
        return WatchedObserver(make, self.logger)

    def trouble(self) -> str:
        """Why lines don't reach the database at the moment, for probes; empty when they do."""
        ill = (shipper.health for shipper in self._shippers if shipper.health.unhealthy)
        return next((f"{health.cause}: {health.hint}" for health in ill), "")

    def watched(self) -> AbstractAsyncContextManager[None]:
        """During the block, health and metrics are served at AGENT_TRACE_HTTP, if that is set."""
        address = http_address(self.config.http) if self.config.http else None
        return http.serving(address, {"/livez": _livez, "/readyz": self._readyz, "/metrics": self._scrape}, self.logger)

    def _complain(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What asyncio would print to stderr, which may block, and with texts that can hold a row's content."""
        fault = context.get("exception")
        frames = traceback.extract_tb(fault.__traceback__) if fault is not None else []
        where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
        self.logger.warning("unexpected", error=type(fault).__name__, where=where)

    def _readyz(self) -> http.Page:
        trouble = self.trouble()
        return http.Page(503 if trouble else 200, f"{trouble or 'ok'}\n".encode())

    def _scrape(self) -> http.Page:
        return http.Page(200, self.metrics.render(__version__), CONTENT_TYPE)


def _livez() -> http.Page:
    """Alive is what answers."""
    return http.Page(200, b"ok\n")


def make_funnel(config: Config, logger: Logger | None = None) -> Funnel:
    """The one funnel of this process.

    Raises:
        ConfigError: a rule of the user's file is wrong.
    """
    try:
        return Funnel(
            enabled=config.redaction,
            capture=config.capture,
            rules_file=Path(config.redaction_rules) if config.redaction_rules else None,
            cache_dir=config.state_path,
            environ=os.environ,
            on_problem=lambda hint: logger.warning("rules_missing", hint=hint) if logger else None,
        )
    except RuleError as exc:
        raise ConfigError(f"AGENT_TRACE_REDACTION_RULES: {exc}") from None


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
        self.metrics.spool_bytes = self._spool_bytes
        self.others = Others(self._told, self._send_again)
        self._report: Callable[[], None] | None = None
        self._intake = Intake(
            self._root,
            self.funnel,
            self.observer(),
            logger,
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
        adopting = asyncio.create_task(self._adopt_for_ever())
        reporting = asyncio.create_task(self._report_for_ever())
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
            await asyncio.to_thread(self.funnel.settle)
            await self.database.close()

    def trouble(self) -> str:
        """As of every daemon; also a disk that takes no more lines."""
        return self._intake.blocked or super().trouble()

    def _spool_bytes(self) -> tuple[int, int]:
        spool = self._spool
        return (spool.end - spool.start, spool.unshipped_bytes) if spool is not None else (0, 0)

    async def _drain(self, own: asyncio.Task[None], adopting: asyncio.Task[None]) -> int:
        """Deliver what is there, ours first, then what dead sidecars left; give up at the deadline."""
        adopting.cancel()
        try:
            async with asyncio.timeout(DRAIN_DEADLINE_S):
                if self._opened.is_set():
                    await own
                await asyncio.wait({adopting})
                await self._adopt_all(grace_s=0)
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

    async def _report_for_ever(self) -> None:
        """Tell when the intake is blocked, or no longer: the shipper reports only what it sees itself."""
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

    # -- spools of dead sidecars -----------------------------------------------------------------------------

    async def _adopt_for_ever(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ADOPT_GRACE_S):
                await self._opened.wait()  # our own shim's last spool is not to be adopted but gone on with
        while True:
            young = await self._adopt_all(grace_s=ADOPT_GRACE_S)
            await asyncio.sleep(ADOPT_GRACE_S if young else ADOPT_INTERVAL_S)

    async def _adopt_all(self, grace_s: float) -> bool:
        """Ship all of them, one after the other; whether one was too young yet."""
        young = False
        for folder in spool_folders(self._root):
            if self._spool is None or folder != self._spool.folder:
                try:
                    spool = Spool(folder)
                except (SpoolBusyError, OSError):
                    continue
                try:
                    young |= not await self._adopt(spool, grace_s)
                except Exception as exc:  # noqa: BLE001 - what a dead sidecar left must not stop the living one
                    self.logger.error("adoption_failed", spool=folder.name, error=type(exc).__name__)
                finally:
                    spool.close()
        return young

    async def _adopt(self, spool: Spool, grace_s: float) -> bool:
        """Ship what is left of a spool whose owner is dead; delete it once it is old enough. False: it is too young."""
        age = HealthFile.now() - spool.last_write_at
        if 0 <= age < grace_s:  # a time in the future is a clock that was set back, and says nothing
            return HealthFile(spool.folder).shipped_to() == spool.end
        if HealthFile(spool.folder).shipped_to() != spool.end:
            self.logger.info("spool_adopted", spool=spool.folder.name, bytes=spool.end - spool.start)
            with contextlib.suppress(FencedError):
                await self._ship(spool, SpoolLog(spool, ended=True))
        if (age > SPOOL_KEEP_S or self._intake.blocked) and HealthFile(spool.folder).shipped_to() == spool.end:
            spool.remove()
        return True

    def _told(self) -> dict[UUID, int]:
        """The spools that dead sidecars have shipped to their end, and that are kept for the case of a fail-over."""
        marks = ((folder, HealthFile(folder).shipped_to()) for folder in spool_folders(self._root))
        own = self._spool.folder if self._spool is not None else None
        return {source_id(folder): mark for folder, mark in marks if mark and folder != own}

    def _send_again(self, lost: Collection[UUID]) -> None:
        """Adoption ships what is not marked as shipped."""
        for folder in spool_folders(self._root):
            if source_id(folder) in lost:
                HealthFile(folder).unmark_shipped()

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


class Replayed(NamedTuple):
    """What became of one file."""

    label: str
    bytes: int
    counts: Counts
    before: Counts
    incomplete_bytes: int

    def sentence(self) -> str:
        """For a person."""
        now = Counts(*(a - b for a, b in zip(self.counts, self.before, strict=True)))
        if not now.read and self.before.read:
            return f"{self.label}: nothing new, its {self.before.read} lines were stored before"
        text = f"{self.label}: {now.read} lines read, {now.stored} stored, {now.duplicate} duplicate, {now.dead} dead"
        if self.incomplete_bytes:
            text += f"; its last line is incomplete ({self.incomplete_bytes} bytes) and left for a later replay"
        return text


async def replay(
    config: Config,
    logger: Logger,
    paths: Sequence[Path],
    progress: Callable[[FileLog, Shipper], None],
) -> list[Replayed]:
    """Ship finished logs one after the other; each goes on where an earlier replay of it stopped.

    Args:
        config: the settings.
        logger: for what happens on the way.
        paths: the logs.
        progress: called after each batch.

    Raises:
        FencedError: another replay of the same file took over.
        OSError: a file can't be read.
    """
    daemon = Daemon(config, logger, recorder=False)
    done: list[Replayed] = []
    try:
        for path in paths:
            with FileLog(path, daemon.funnel) as log:
                shipper, sink = daemon.shipper(log, partial(progress, log))
                try:
                    await shipper.run()
                finally:
                    await sink.close()
                done.append(Replayed(str(path), log.end, shipper.counts, shipper.counts_before, log.incomplete_bytes))
    finally:
        await daemon.database.close()
    return done
