"""How far a replay is: a bar with rate and time left on a terminal, nothing elsewhere (the result is a line anyway)."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from agent_trace_sidecar.logs import FileLog
from agent_trace_sidecar.ship import Shipper

if TYPE_CHECKING:
    from tqdm import tqdm


class Progress:
    """One bar over the bytes of all files."""

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
            self._bar.set_postfix_str(f"{shipper.counts.stored} stored{hint}", refresh=False)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.close()
