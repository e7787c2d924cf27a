"""`replay`: finished logs to Postgres, one after the other."""

import errno
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from agent_trace_sidecar.config import Config
from agent_trace_sidecar.pipeline.daemon import Daemon
from agent_trace_sidecar.pipeline.shipper import Shipper
from agent_trace_sidecar.records.rows import Counts
from agent_trace_sidecar.sources.file_log import FileLog
from agent_trace_sidecar.telemetry.logging import Logger

_TRUNCATED: Final = "it was truncated while it was read; the events before are stored"


class Replayed(NamedTuple):
    """The result of one file."""

    label: str
    bytes: int
    counts: Counts
    before: Counts
    incomplete_bytes: int

    def sentence(self) -> str:
        """For a person."""
        now = Counts(*(a - b for a, b in zip(self.counts, self.before, strict=True)))
        if not now.read and self.before.read:
            text = f"{self.label}: nothing new, all {self.before.read - self.before.denied} events are already stored"
            return text + (f", {self.before.denied} denied" if self.before.denied else "")
        text = f"{self.label}: {now.read} events read, {now.stored} stored, {now.duplicate} duplicate, {now.dead} dead"
        if now.denied:
            text += f", {now.denied} denied by AGENT_TRACE_REPOSITORIES"
        if self.incomplete_bytes:
            text += f"; its last line is incomplete ({self.incomplete_bytes} bytes) and left for a later replay"
        return text


async def replay(
    config: Config,
    logger: Logger,
    paths: Sequence[Path],
    progress: Callable[[FileLog, Shipper], None],
    observe: Callable[[bytes], bytes | None] | None = None,
) -> list[Replayed]:
    """Ship finished logs one after the other; each continues where an earlier replay of it stopped.

    Args:
        config: the settings.
        logger: for what happens on the way.
        paths: the logs.
        progress: called after each batch.
        observe: the observation of a line, where one is known; those in the logs themselves are not trusted.

    Raises:
        FencedError: another replay of the same file took over.
        OSError: a file can't be read.
        StoreError: the database can't be reached, or refuses what only a person can change.
    """
    daemon = Daemon(config, logger, recorder=False)
    done: list[Replayed] = []
    try:
        for path in paths:
            with FileLog(path, daemon.redactor, observe, denies=daemon.denies) as log:
                shipper, sink = daemon.shipper(log, partial(progress, log), gives_up=True)
                try:
                    await shipper.run()
                finally:
                    await sink.close()
                if log.is_truncated:
                    raise OSError(errno.ESTALE, _TRUNCATED, str(path))
                done.append(Replayed(str(path), log.end, shipper.counts, shipper.counts_before, log.incomplete_bytes))
    finally:
        await daemon.database.close()
    return done
