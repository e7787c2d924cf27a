"""The log protocol: what the shipper reads, whichever of the three kinds of log stands behind it."""

import zlib
from typing import Final, Protocol

import msgspec

from agent_trace_sidecar.records.rows import LogName
from agent_trace_sidecar.redaction import Redacted

CHECK_BYTES: Final = 1024
"""A position in a file is checked by this much of what stands before it."""


class LogLine(msgspec.Struct, frozen=True, gc=False):
    """One line of a log: `end` is the position after it; `line` is None where bytes were damaged or are gone."""

    line: Redacted | None
    end: int
    damaged: bytes = b""


class Log(Protocol):
    """A durable, ordered sequence of lines with byte positions; a spool or a file."""

    @property
    def name(self) -> LogName: ...  # noqa: D102

    @property
    def start(self) -> int:
        """The first position that can still be read."""

    @property
    def end(self) -> int:
        """The position after the last line that may be shipped."""

    def read(self, position: int, max_bytes: int) -> list[LogLine]:
        """Lines from `position` on, about `max_bytes` of them; empty only at the end."""

    async def more(self, position: int) -> bool:
        """Wait until there is something after `position`; False when there never will be."""

    def check(self, position: int) -> str:
        """Evidence that `position` still belongs to the log that the database knows; empty when there is none."""

    def release(self, position: int) -> None:
        """Everything before `position` is in the database."""

    def rewind(self, position: int) -> None:
        """The database fell back to `position`."""


def checksum(data: bytes) -> str:
    """What `Log.check` returns for the bytes before a position."""
    return f"{zlib.crc32(data):08x}"
