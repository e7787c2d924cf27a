"""What `run`, `tail` and `replay` share: database, redactor, health, metrics, and how a shipper is made."""

import asyncio
import os
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec
from weakref import WeakSet

import asyncpg

from agent_trace_sidecar import __version__
from agent_trace_sidecar.config import Config, ConfigError, http_address
from agent_trace_sidecar.pipeline.building import BatchBuilder
from agent_trace_sidecar.pipeline.shipper import Shipper
from agent_trace_sidecar.postgres.database import Database
from agent_trace_sidecar.postgres.sink import PostgresSink
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.rows import Built, LogKey
from agent_trace_sidecar.redaction import Redactor, RuleError, is_secret_path
from agent_trace_sidecar.sources.cursor import Denies, nothing
from agent_trace_sidecar.sources.log import Log
from agent_trace_sidecar.telemetry import http_server as http
from agent_trace_sidecar.telemetry.logging import Logger
from agent_trace_sidecar.telemetry.metrics import CONTENT_TYPE, Metrics
from agent_trace_sidecar.telemetry.otlp import MissingError, Otlp
from agent_trace_sidecar.workspace.identity import Identity
from agent_trace_sidecar.workspace.repository_rules import RepositoryRules
from agent_trace_sidecar.workspace.scope import everywhere

if TYPE_CHECKING:
    from agent_trace_sidecar.workspace.watched import WatchedObserver

P = ParamSpec("P")


class Daemon:
    """What `run`, `tail` and `replay` have in common: settings, database, redactor, and how to make a shipper."""

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
            logger: takes the log entries.
            recorder: False where the events may come from another machine and user.
            allows: whether a worktree may be read.
        """
        self.config = config
        self.logger = logger
        self.database = Database(config.database_url, config.state_path, config.pg_linger_s)
        self.redactor = make_redactor(config, logger)
        self.identity = Identity(recorder=recorder, environ=os.environ, allows=allows)
        self.metrics = Metrics(healthy=lambda: not self.trouble(), spool_bytes=self.log_bytes, otlp=self._otlp_counts)
        self.rules = RepositoryRules(config.repositories, allows=allows)
        self.denies: Denies = self.rules.denies_line if config.repositories else nothing
        self._otlp: Otlp | None = None
        self._allows = allows
        self._shippers: WeakSet[Shipper] = WeakSet()
        asyncio.get_running_loop().set_exception_handler(self._complain)

    def sink(self, prepare: Callable[[asyncpg.Connection], Awaitable[None]]) -> PostgresSink:
        """A connection; `prepare` runs on it whenever it is made."""
        return PostgresSink(self.database.url, prepare, identity=self.identity, rules_version=self.redactor.version)

    def shipper(
        self,
        log: Log,
        on_change: Callable[[Shipper], None] = lambda _: None,
        sink: PostgresSink | None = None,
        *,
        gives_up: bool = False,
    ) -> tuple[Shipper, PostgresSink]:
        """A shipper of its own connection, unless it is given one; for `gives_up` see `Shipper`."""
        sink = sink or self.sink(self.database.prepare)
        shipper = Shipper(
            log,
            sink,
            self._new_builder,
            self.logger,
            batch_size=self.config.batch_size,
            flush_ms=self.config.flush_ms,
            retry_max=self.config.retry_max,
            metrics=self.metrics,
            delivered=self,
            on_stored=self._measure,
            on_change=on_change,
            gives_up=gives_up,
        )
        self._shippers.add(shipper)
        return shipper, sink

    def building(self) -> BatchBuilder:
        """Makes batches, for who ships them by other means than a shipper."""
        return BatchBuilder(self._new_builder, self.metrics, self._measure)

    def _new_builder(self) -> Builder:
        return Builder(BuildSettings(self.config.spec_version, self.config.tool_name, self.config.tool_version))

    def observer(self) -> "WatchedObserver":
        """Reads the repositories that events are about."""
        from agent_trace_sidecar.workspace.observer import Observer  # noqa: PLC0415 - `replay` observes nothing
        from agent_trace_sidecar.workspace.watched import WatchedObserver  # noqa: PLC0415 - as above

        hint = "a repository did not answer in time; its changes are recorded as the tools report them"
        return WatchedObserver(
            partial(Observer, self.redactor.holds_secret, is_secret_path=is_secret_path, allows=self._allows),
            on_late=lambda: self.logger.warning("observer_late", hint=hint),
            on_error=lambda error: self.logger.error("observer_failed", error=type(error).__name__),
            is_excused=self.redactor.is_loading,
        )

    def trouble(self) -> str:
        """Why lines don't reach the database at the moment, for probes; empty when they do."""
        ill = (shipper.health for shipper in self._shippers if shipper.health.unhealthy)
        return next((f"{health.cause}: {health.hint}" for health in ill), "")

    def log_bytes(self) -> tuple[int, int]:
        """Bytes of the log, and those of them that are not in the database; for metrics."""
        return (0, 0)

    def positions(self) -> dict[LogKey, int]:
        """How far the database has confirmed the logs that could be sent again; see `DeliveredLogs`."""
        return {}

    def resend(self, keys: Collection[LogKey]) -> None:
        """Send these logs again: the database has lost some of them."""

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """During the block, health and metrics are served at AGENT_TRACE_HTTP and sent to AGENT_TRACE_OTLP_ENDPOINT.

        Raises:
            ConfigError: what sends them is not installed.
        """
        address = http_address(self.config.http) if self.config.http else None
        pages = {"/livez": _livez, "/readyz": self._readyz, "/metrics": self._scrape}
        self._otlp = _exporter(self.config, self.logger)
        async with http.serving(address, pages, self.logger):
            try:
                yield
            finally:
                if self._otlp is not None:
                    await self._otlp.close()

    def _measure(self, built: Iterable[Built]) -> None:
        if self._otlp is not None:
            self._otlp.stored(built)

    def _otlp_counts(self) -> tuple[int, int]:
        return (self._otlp.failures, self._otlp.dropped) if self._otlp is not None else (0, 0)

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


def _exporter(config: Config, logger: Logger) -> Otlp | None:
    if config.otlp_endpoint is None:
        return None
    try:
        return Otlp(config.otlp_endpoint, __version__, logger)
    except MissingError as exc:
        raise ConfigError(f"AGENT_TRACE_OTLP_ENDPOINT: {exc}") from None


def _livez() -> http.Page:
    """Alive is what answers."""
    return http.Page(200, b"ok\n")


def make_redactor(config: Config, logger: Logger | None = None) -> Redactor:
    """The one redactor of this process.

    Raises:
        ConfigError: a rule of the user's file is wrong.
    """
    try:
        return Redactor(
            enabled=config.redaction,
            capture=config.capture,
            rules_file=Path(config.redaction_rules) if config.redaction_rules else None,
            cache_dir=config.state_path,
            environ=os.environ,
            on_problem=lambda hint: logger.warning("rules_missing", hint=hint) if logger else None,
        )
    except RuleError as exc:
        raise ConfigError(f"AGENT_TRACE_REDACTION_RULES: {exc}") from None
