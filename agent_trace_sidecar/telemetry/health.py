"""A running sidecar's report, in two small files beside its spool, for `status` on the same machine.

They are there when the database is not: `health.json` is replaced whenever something changes, `shipped` holds up to
which position the spool is in the database.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from agent_trace_sidecar.limits.files import read_whole, write_whole

if TYPE_CHECKING:  # `status` reads a report without the types of rows
    from agent_trace_sidecar.records.rows import Counts

_MAX_BYTES: Final = 64 * 1024


class Health(msgspec.Struct):
    """How the shipping goes, for status and for the exit code."""

    failures: int = 0
    """In a row; 0 after each success."""
    cause: str = ""
    hint: str = ""
    unhealthy: bool = False
    fenced: bool = False


class HealthReport(msgspec.Struct, frozen=True):
    """The content of `health.json`. Times are seconds since the epoch, positions bytes of the spool."""

    pid: int
    updated_at: float
    position: int
    end: int
    read: int
    stored: int
    duplicate: int
    dead: int
    failures: int = 0
    cause: str = ""
    hint: str = ""
    unhealthy: bool = False
    blocked: str = ""
    """Why no line is taken from stdin, if so."""


class HealthFile:
    """The two files in one spool's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def now() -> float:
        """Seconds since the epoch."""
        return time.time()

    def write(self, health: Health, position: int, end: int, counts: "Counts", blocked: str) -> None:
        """Replace the report; a disk that is full must not stop the shipping."""
        report = HealthReport(
            pid=os.getpid(),
            updated_at=self.now(),
            position=position,
            end=end,
            read=counts.read,
            stored=counts.stored,
            duplicate=counts.duplicate,
            dead=counts.dead,
            failures=health.failures,
            cause=health.cause,
            hint=health.hint,
            unhealthy=health.unhealthy,
            blocked=blocked,
        )
        self._replace("health.json", msgspec.json.encode(report))
        self._mark_blocked(blocked)

    def blocked(self) -> str:
        """Why no line is taken; also when the disk had no room for a new report."""
        try:
            return str((self._folder / "blocked").readlink())
        except OSError:
            return ""

    def _mark_blocked(self, why: str) -> None:
        """The reason as the target of a link: that fits into the folder's entry, and needs no room on a full disk."""
        if why == self.blocked():
            return
        with contextlib.suppress(OSError):
            (self._folder / "blocked").unlink(missing_ok=True)
            if why:
                (self._folder / "blocked").symlink_to(why)

    def read(self) -> HealthReport | None:
        """The last report, None when there is none that can be read."""
        try:
            return msgspec.json.decode(read_whole(self._folder / "health.json", _MAX_BYTES).data, type=HealthReport)
        except (OSError, ValueError):
            return None

    def mark_shipped(self, position: int) -> None:
        """Record that everything up to `position` is in the database."""
        self._replace("shipped", b"%d" % position)

    def shipped_to(self) -> int | None:
        """The last position of `mark_shipped`."""
        try:
            return int(read_whole(self._folder / "shipped", _MAX_BYTES).data)
        except (OSError, ValueError):
            return None

    def unmark_shipped(self) -> None:
        """Record that the database has lost some of it: it is to be shipped again."""
        with contextlib.suppress(OSError):
            (self._folder / "shipped").unlink()

    def _replace(self, name: str, data: bytes) -> None:
        with contextlib.suppress(OSError):
            write_whole(self._folder / name, data, durable=False)
