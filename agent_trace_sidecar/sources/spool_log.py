"""A spool as the log of a shipper."""

import asyncio
import socket

from agent_trace_sidecar.records.rows import LogName
from agent_trace_sidecar.sources.log import LogLine
from agent_trace_sidecar.spool.spool import Spool


class SpoolLog:
    """A spool as the log of a shipper. Its writer, if it lives, reports what has become durable."""

    def __init__(self, spool: Spool, *, ended: bool) -> None:
        self._spool = spool
        self._ended = ended
        self._changed = asyncio.Event()
        self._known_to = spool.recovered
        self.name = LogName(*spool.log_key, "stdin", socket.gethostname(), spool.folder.name)

    @property
    def start(self) -> int:
        """The first position that can still be read."""
        return self._spool.start

    @property
    def end(self) -> int:
        """The position after the last durable line."""
        return self._spool.durable

    def grown(self) -> None:
        """Something became durable."""
        self._changed.set()

    def finish(self) -> None:
        """Nothing will be appended any more."""
        self._ended = True
        self._changed.set()

    def read(self, position: int, max_bytes: int) -> list[LogLine]:
        """Durable lines from `position` on."""
        lines = [LogLine(*line) for line in self._spool.read(position, max_bytes)]
        self._known_to = max(self._known_to, lines[-1].end if lines else 0)
        return lines

    async def more(self, position: int) -> bool:
        """Wait until something durable stands after `position`; False when there never will be."""
        while self._spool.durable <= position:
            if self._ended:
                return False
            self._changed.clear()
            if self._spool.durable <= position and not self._ended:
                await self._changed.wait()
        return True

    def check(self, position: int) -> str:
        """Nothing to compare in general: the spool's name is its own, and its lines carry checksums.

        But a position which the database got before the spool was opened, and which lies beyond what was left of it
        then, stands for lines that a damaged disk has lost: those that now stand there are others.
        """
        return "" if position <= self._known_to else "lost"

    def release(self, position: int) -> None:
        """Everything before `position` is in the database."""
        self._spool.release(position)

    def rewind(self, position: int) -> None:
        """The database fell back to `position`."""
        self._spool.rewind(position)
