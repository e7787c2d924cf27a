"""From a durable log to the database: batches, thresholds, retry, checkpoint, dead letters.

One `Shipper` moves one log. It reads lines from the log's position, builds rows, and hands the sink a batch when
enough lines wait or the oldest has waited long enough; while a batch is on its way the log grows, so the next one is
larger by itself. The log is the only buffer: during an outage one batch waits here, the lines of the next one are read,
and the rest stays where it is.

After an error the position is read from the database, and it decides: the batch was committed after
all, it is sent again, or the log is read again from there (a fail-over to a replica that lags, a restored database).

Two shippers may deliver lines of one run of a shim (the spool of a dead sidecar beside that of a new one). Each batch
is built on what the database knows of the run at its commit: the second one builds anew on what the first one left.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar

from agent_trace_sidecar.limits import BACKOFF_MAX_S
from agent_trace_sidecar.pipeline.batcher import Parsed, Reader
from agent_trace_sidecar.pipeline.building import BatchBuilder, instances_of, position_in
from agent_trace_sidecar.postgres.checkpoints import MovedError
from agent_trace_sidecar.postgres.errors import Fate, StoreError, Verdict
from agent_trace_sidecar.postgres.sink import FencedError, PostgresSink
from agent_trace_sidecar.postgres.state import StaleError
from agent_trace_sidecar.records.build import Builder
from agent_trace_sidecar.records.rows import Batch, Built, Checkpoint, Counts, LogKey, Move
from agent_trace_sidecar.sources.log import Log
from agent_trace_sidecar.telemetry.health import Health
from agent_trace_sidecar.telemetry.logging import Logger
from agent_trace_sidecar.telemetry.metrics import Metrics

T = TypeVar("T")

_BACKOFF_FIRST_S: Final = 0.1
_PATIENCE_MAX: Final = 16.0
"""So many times the usual deadline for a line that does not get through."""
_RACED: Final = Verdict(Fate.RETRY, "raced", "The checkpoint was locked by another process; retrying.")


class DeliveredLogs(Protocol):
    """Delivered logs that could be sent again; an idle shipper checks that the database still has them."""

    def positions(self) -> dict[LogKey, int]:
        """How far the database has confirmed each log, by its key."""

    def resend(self, keys: Collection[LogKey]) -> None:
        """The database has lost some of these: send them again."""


class NoDeliveredLogs:
    """Where a shipper is the only one."""

    def positions(self) -> dict[LogKey, int]:
        """None."""
        return {}

    def resend(self, keys: Collection[LogKey]) -> None:
        """There is nothing to send."""


class Shipper:
    """Move one log into the database, for ever or until the log ends."""

    def __init__(
        self,
        log: Log,
        sink: PostgresSink,
        make_builder: Callable[[], Builder],
        logger: Logger,
        *,
        batch_size: int,
        flush_ms: int,
        retry_max: int,
        metrics: Metrics | None = None,
        delivered: DeliveredLogs | None = None,
        on_stored: Callable[[Iterable[Built]], None] = lambda _: None,
        on_change: Callable[["Shipper"], None] = lambda _: None,
        gives_up: bool = False,
    ) -> None:
        """Make one.

        Args:
            log: what to move.
            sink: where to.
            make_builder: makes an empty builder.
            logger: takes the log entries.
            batch_size: flush when this many events are queued.
            flush_ms: flush at the latest after this time.
            retry_max: after this many failures in a row the shipper is unhealthy.
            metrics: counts what happens.
            delivered: delivered logs that could be sent again.
            on_stored: called after each commit with what was stored.
            on_change: called after each commit and whenever the health changes.
            gives_up: for a command that a person waits for: raise StoreError where only a person can help, or where
                the database was never reached.
        """
        self._log = log
        self._sink = sink
        self._logger = logger
        self._reader = Reader(log, batch_size=batch_size, flush_s=flush_ms / 1000)
        self._retry_max = retry_max
        self._metrics = metrics or Metrics()
        self._delivered = delivered or NoDeliveredLogs()
        self._on_change = on_change
        self._gives_up = gives_up
        self._building = BatchBuilder(make_builder, self._metrics, on_stored)
        self._checkpoint = Checkpoint(0, 0, Counts(), "")
        self._too_slow = False
        self._patience = 1.0
        self.health = Health()
        self.counts_before = Counts()
        self.position = 0

    @property
    def counts(self) -> Counts:
        """The counts of the log's lines so far, from the database."""
        return self._checkpoint.counts

    async def run(self) -> None:
        """Ship until the log has ended and everything of it is committed.

        Raises:
            FencedError: another process took the log over.
            StoreError: it `gives_up`.
        """
        self._metrics.waiting(self, time.time())
        try:
            found = await self._retrying(lambda: self._sink.open_log(self._log.name, _now()))
            self._metrics.waiting(self, None)
            self.counts_before = found.counts
            self._start_at(found)
            while await self._more():
                await self._deliver(await self._next_batch(await self._reader.gather(self.position)))
        except FencedError:
            self.health.fenced = True
            self._logger.warning("log_taken_over", log=self._log.name.label)
            raise
        finally:
            self._metrics.waiting(self, None)

    # -- nothing to do ---------------------------------------------------------------------------------------

    async def _more(self) -> bool:
        """Wait for the next line; False when there never will be one. Meanwhile the database is checked."""
        while True:
            try:
                async with self._sink.failover.until_due():
                    return await self._log.more(self.position)
            except TimeoutError:
                await self._check_failover()

    async def _check_failover(self) -> None:
        """Send again what the database has lost, by a fail-over or an older backup. One that is away can wait."""
        self._sink.failover.postpone()
        own = self._log.name.key
        positions = self._delivered.positions() | ({own: self.position} if self._log.start < self.position else {})
        if not positions:
            return
        with contextlib.suppress(StoreError):
            lost = await self._sink.logs_behind(positions)
            self._delivered.resend(lost - {own})
            if own in lost:
                self._start_at(await self._sink.resume_log(self._log.name, self._checkpoint.epoch, _now()))

    # -- a batch ---------------------------------------------------------------------------------------------

    async def _next_batch(self, lines: list[Parsed]) -> Batch:
        """Build the rows of these lines."""
        instances = instances_of(lines)
        await self._building.know(instances, lambda ids: self._retrying(lambda: self._sink.load_states(ids)))
        move = Move(self._log.name, self._checkpoint, self.position)
        batch = Batch([move], _now(), patience=self._patience)
        self._building.add(batch, lines)
        self._building.finish(batch, instances)
        move.check = self._log.check(move.new_position)
        oldest = batch.items[0].built.event.occurred_at if batch.items else batch.at
        self._metrics.waiting(self, oldest.timestamp())
        return batch

    # -- delivery --------------------------------------------------------------------------------------------

    async def _deliver(self, batch: Batch) -> None:
        """Write the batch until it is committed, or until the database turns out to be elsewhere.

        Meanwhile the next lines are read, masked and parsed, but not built: what is built depends on this batch.
        """
        writing = asyncio.create_task(self._retrying(lambda: self._write(batch)))
        try:
            await self._reader.read_ahead(batch.moves[0].new_position, writing.done)
            written = await writing
        finally:
            if not writing.done():
                writing.cancel()
                await asyncio.wait({writing})
        if written is None:
            return
        self._building.committed(batch)
        self._metrics.moved(self.counts, written.counts)
        self._metrics.waiting(self, None)
        self._checkpoint = written
        self.position = written.position
        self._log.release(self.position)
        self._on_change(self)

    async def _write(self, batch: Batch) -> Checkpoint | None:
        """One attempt; None when the log must be read again, or from another position.

        Raises:
            StoreError: try again.
        """
        (move,) = batch.moves
        try:
            if self.health.failures:
                await self._sink.resume_log(self._log.name, move.known.epoch, _now())
            if self._too_slow:
                self._make_it_easier(batch)
                return None
            return await self._commit(batch)
        except StaleError:
            self._building.forget_all()
            return None
        except MovedError:
            found = await self._sink.resume_log(self._log.name, move.known.epoch, _now())
        if found.position == move.new_position and found.counts.read:
            return found
        if found.position == move.known.position:
            raise StoreError(_RACED)
        self._start_at(found)
        return None

    async def _commit(self, batch: Batch) -> Checkpoint:
        began = time.monotonic()
        try:
            (written,) = await self._sink.write(batch)
        except StoreError as exc:
            self._too_slow = exc.verdict.fate is Fate.SLOW
            raise
        took = time.monotonic() - began
        self._metrics.flushed(took)
        if took * 4 < self._sink.write_deadline_s:  # twice as much has room to spare
            self._reader.grow()
        self._patience = 1.0
        return written

    def _make_it_easier(self, batch: Batch) -> None:
        """The database answers, but has not taken the batch in time: send less at once, or wait longer for one line."""
        self._too_slow = False
        if len(batch.items) + len(batch.dead) > 1:
            self._reader.shrink()
        else:
            self._patience = min(self._patience * 2, _PATIENCE_MAX)
        self._building.forget_all()

    def _start_at(self, found: Checkpoint) -> None:
        """Read the log from where the database is; its own memory of what came before counts, not ours."""
        position = position_in(self._log, found, self._logger)
        if position < self.position:
            self._sink.failover.soon()  # what it has lost of this log it may have lost of others
        self._building.forget_all()
        self._checkpoint = found
        self.position = position
        self._log.rewind(position)

    async def _retrying(self, attempt: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Repeat `attempt` until it succeeds, with full jitter between the tries; only the caller's end stops it."""
        pauses = _pauses()
        while True:
            try:
                result = await attempt()
            except StoreError as exc:
                self._failed(exc.verdict)
                if self._gives_up and self._is_hopeless(exc.verdict):
                    raise
                await asyncio.sleep(next(pauses))
            else:
                if self.health.failures:
                    self._logger.info("database_back", log=self._log.name.label, after_failures=self.health.failures)
                    self.health = Health()
                    self._on_change(self)
                return result

    def _is_hopeless(self, found: Verdict) -> bool:
        if found.fate in (Fate.RETRY, Fate.SLOW):
            return self.health.unhealthy and not self._checkpoint.epoch
        return True

    def _failed(self, found: Verdict) -> None:
        self._metrics.retried(found.cause)
        health = self.health
        first_of_its_kind = health.cause != found.cause
        health.failures += 1
        health.cause, health.hint = found.cause, found.hint
        loud = found.fate not in (Fate.RETRY, Fate.SLOW)
        turned = not health.unhealthy and (health.failures > self._retry_max or loud)
        health.unhealthy = health.unhealthy or turned
        if first_of_its_kind or turned:
            log = self._logger.error if loud or turned else self._logger.warning
            log(
                "database_failed",
                log=self._log.name.label,
                cause=found.cause,
                hint=found.hint,
                failures=health.failures,
            )
        self._on_change(self)


def _now() -> datetime:
    return datetime.now(UTC)


def _pauses() -> Iterator[float]:
    """Seconds between tries, up to the longest back-off."""
    import backoff  # noqa: PLC0415 - only a failure needs it

    longest = backoff.expo(base=2, factor=_BACKOFF_FIRST_S, max_value=BACKOFF_MAX_S)
    next(longest)
    yield from map(backoff.full_jitter, longest)
