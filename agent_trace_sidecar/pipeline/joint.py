"""What many files have gained, in one transaction: for `tail`, where each of thousands has a few lines at a time.

Nothing is tried again here. What fails is left to the shipper of a single file, which waits for the database and makes
its batches smaller; it ships the first of the files, and the others are tried together again. The positions, epochs and
states that were read before are forgotten then, since the shipper has changed some of them.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from agent_trace_sidecar.limits import BATCH_BYTES, BATCH_ROWS, TAIL_BATCH_FILES
from agent_trace_sidecar.pipeline.batcher import Parsed, Parser
from agent_trace_sidecar.pipeline.building import BatchBuilder, instances_of, position_in
from agent_trace_sidecar.postgres.checkpoints import MovedError
from agent_trace_sidecar.postgres.errors import StoreError
from agent_trace_sidecar.postgres.sink import PostgresSink
from agent_trace_sidecar.postgres.state import StaleError
from agent_trace_sidecar.records.rows import Batch, Checkpoint, Move
from agent_trace_sidecar.sources.tail import TailFile
from agent_trace_sidecar.sources.tail_log import Stay, TailLog
from agent_trace_sidecar.telemetry.logging import Logger
from agent_trace_sidecar.telemetry.metrics import Metrics

_LEAST_BYTES: Final = 16 * 1024
"""A batch does not shrink below this: what is too slow even then is for the shipper of a single file."""


class _Read(NamedTuple):
    """What was read of a file."""

    file: TailFile
    log: TailLog
    lines: list[Parsed]


class JointBatches:
    """Ships files together, a batch at a time."""

    def __init__(
        self,
        sink: PostgresSink,
        building: BatchBuilder,
        logger: Logger,
        metrics: Metrics,
        log_of: Callable[[TailFile, Stay], TailLog],
    ) -> None:
        """`log_of` makes the log of a file."""
        self._sink = sink
        self._building = building
        self._logger = logger
        self._metrics = metrics
        self._log_of = log_of
        self._parsed = Parser()
        self._room = BATCH_BYTES
        self._known: WeakKeyDictionary[TailFile, Checkpoint] = WeakKeyDictionary()
        """The checkpoints of the files that this process has opened, as the database has them."""

    async def ship(self, files: Sequence[TailFile]) -> Sequence[TailFile] | None:
        """Ship one batch of what stands in these files, and return those that are left of them.

        A file that fills a batch by itself ends the batch before it.

        Returns:
            The files that are still to be read, in order; None when the first one has to be shipped by itself.

        Raises:
            FencedError: another process took a file over.
        """
        try:
            await self._open(files[:TAIL_BATCH_FILES])
            reads, left = await self._read(files)
            if reads:
                await self._write(await self._build(reads), reads)
        except (StoreError, StaleError):
            self._room = max(self._room // 4, _LEAST_BYTES)
            self.forget()
            return None
        return left if len(left) < len(files) or reads else None

    def forget(self) -> None:
        """Read everything from the database again: another shipper has written."""
        self._known.clear()
        self._building.forget_all()

    async def _open(self, files: Sequence[TailFile]) -> None:
        """Take over the files that are new, or whose position is to be read again."""
        logs = {file: self._log(file) for file in files if not file.checked or file not in self._known}
        if not logs:
            return
        found = await self._sink.open_logs([log.name for log in logs.values()], datetime.now(UTC))
        self._building.forget_all()  # a database that knows less of a file than before knows less of its runs, too
        for file, log in logs.items():
            checkpoint = found[log.name.log_id]
            self._known[file] = checkpoint
            position = position_in(log, checkpoint, self._logger)
            if position < file.shipped:
                self._sink.failover.soon()  # what it has lost of this file it may have lost of others
            log.rewind(position)

    async def _read(self, files: Sequence[TailFile]) -> tuple[list[_Read], Sequence[TailFile]]:
        """Read lines of the first of these files until a batch is full; with the files that are left."""
        reads: list[_Read] = []
        room, rows = self._room, BATCH_ROWS
        for at, file in enumerate(files[:TAIL_BATCH_FILES]):
            if file.end - file.shipped >= BATCH_BYTES:
                return reads, files[at:]
            log = self._log(file)
            lines = list(map(self._parsed, log.read(file.shipped, room)[:rows])) if file.unread else []
            await asyncio.sleep(0)
            if lines:
                reads.append(_Read(file, log, lines))
                room -= lines[-1].source.end - file.shipped
                rows -= len(lines)
                if lines[-1].source.end < log.end and not file.replaced:
                    return reads, files[at:]
            if room <= 0 or rows <= 0:
                return reads, files[at + 1 :]
        return reads, files[TAIL_BATCH_FILES:]

    async def _build(self, reads: Sequence[_Read]) -> Batch:
        instances = instances_of(line for read in reads for line in read.lines)
        await self._building.know(instances, self._sink.load_states)
        batch = Batch([], datetime.now(UTC))
        for at, read in enumerate(reads):
            move = Move(read.log.name, self._known[read.file], read.file.shipped)
            batch.moves.append(move)
            self._building.add(batch, read.lines, at)
            move.check = read.log.check(move.new_position)
        self._building.finish(batch, instances)
        return batch

    async def _write(self, batch: Batch, reads: Sequence[_Read]) -> None:
        oldest = min((item.built.event.occurred_at for item in batch.items), default=batch.at)
        self._metrics.waiting(self, oldest.timestamp())
        began = time.monotonic()
        try:
            reached = await self._sink.write(batch)
        except MovedError:
            for move in batch.moves:
                await self._sink.resume_log(move.name, move.known.epoch, batch.at)
            raise StaleError from None
        finally:
            self._metrics.waiting(self, None)
        self._metrics.flushed(time.monotonic() - began)
        self._room = min(self._room * 2, BATCH_BYTES)
        self._building.committed(batch)
        for read, checkpoint in zip(reads, reached, strict=True):
            self._metrics.moved(self._known[read.file].counts, checkpoint.counts)
            self._known[read.file] = checkpoint
            read.log.release(checkpoint.position)
            read.file.waiting_since = None

    def _log(self, file: TailFile) -> TailLog:
        return self._log_of(file, _never)


async def _never() -> bool:
    """Wait for no more lines of a file: the others have their turn."""
    return False
