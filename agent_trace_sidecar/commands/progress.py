"""How far a replay or a report is: a bar with rate and time left on a terminal, little or nothing elsewhere."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from agent_trace_sidecar.limits.text import printable
from agent_trace_sidecar.pipeline.shipper import Shipper
from agent_trace_sidecar.sources.file_log import FileLog

if TYPE_CHECKING:
    from tqdm import tqdm

_LINE_EVERY_S: Final = 5.0
"""Without a terminal a line is printed so often: nothing for what is quick, and a log that stays short."""


class Progress:
    """One bar over the bytes of all files; nothing without a terminal, as the result is a line anyway."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._bar: tqdm[NoReturn] | None = None
        self._before: dict[str, int] = {}
        if sys.stderr.isatty():
            from tqdm import tqdm as bar  # noqa: PLC0415 - only a terminal needs it

            total = sum(path.stat().st_size for path in files if path.is_file())
            self._bar = bar(total=total, unit="B", unit_scale=True, desc="replay", leave=False)

    def update(self, log: FileLog, shipper: Shipper) -> None:
        """Called after each commit."""
        if self._bar is not None:
            self._bar.update(shipper.position - self._before.get(log.name.label, 0))
            self._before[log.name.label] = shipper.position
            hint = f" waiting: {shipper.health.hint}" if shipper.health.failures else ""
            self._bar.set_postfix_str(printable(f"{shipper.counts.stored} stored{hint}"), refresh=False)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.close()


class Counting:
    """Counts through one thing after the other: a bar for each, without a terminal a line now and then."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: tqdm[NoReturn] | None = None
        self._what = ""
        self._said_at = time.monotonic()

    def update(self, what: str, done: int, total: int) -> None:
        """Called with the name of what is being done, how much is done, and how much there is."""
        if sys.stderr.isatty():
            self._draw(what, done, total)
        elif time.monotonic() - self._said_at >= _LINE_EVERY_S:
            self._said_at = time.monotonic()
            print(f"{self._title}: {done} of {total} {printable(what)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.close()

    def _draw(self, what: str, done: int, total: int) -> None:
        if self._bar is None or what != self._what:
            from tqdm import tqdm as bar  # noqa: PLC0415 - only a terminal needs it

            self.close()
            self._what = what
            self._bar = bar(total=total, unit="", desc=f"{self._title}: {printable(what)}", leave=False)
        self._bar.update(done - self._bar.n)
