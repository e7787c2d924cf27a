"""How far a replay or a report is: a bar with the time left on a terminal, little or nothing elsewhere."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from agent_trace_sidecar.limits.text import printable
from agent_trace_sidecar.pipeline.shipper import Shipper
from agent_trace_sidecar.sources.file_log import FileLog

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_LINE_EVERY_S: Final = 5.0
"""Without a terminal a line is printed so often: nothing for what is quick, and a log that stays short."""


class _Drawn:
    """A bar on stderr, if that is a terminal."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._bar: tuple[Bar, TaskID] | None = None

    def draw(self, title: str, done: int, total: int) -> None:
        """Show it, from the first call on."""
        if self._bar is None:
            self._bar = self._stack.enter_context(_progress_bar(title))
        bar, task = self._bar
        bar.update(task, description=printable(title), completed=done, total=total)

    def close(self) -> None:
        """Take it off the screen."""
        self._stack.close()


@contextmanager
def _progress_bar(title: str) -> "Iterator[tuple[Bar, TaskID]]":
    """A bar on stderr, which is gone after the block; give it and its task. NO_COLOR is respected by rich."""
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
    from rich.progress import (  # noqa: PLC0415 - as above
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    where = Console(stderr=True, markup=False, highlight=False, emoji=False)
    with Progress(*columns, console=where, transient=True) as progress:
        yield progress, progress.add_task(printable(title), total=None)


class Reached(NamedTuple):
    """How far the replay of one log is."""

    position: int
    stored: int
    waiting: str
    """Why it waits for the database; empty when it does not."""

    @classmethod
    def of(cls, shipper: Shipper) -> Self:
        """How far a shipper is."""
        return cls(shipper.position, shipper.counts.stored, shipper.health.hint if shipper.health.failures else "")


class Progress:
    """One bar over the bytes of all files; nothing without a terminal, as the result is a line anyway."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._drawn = _Drawn()
        self._logs: dict[str, Reached] = {}
        self._total = sum(path.stat().st_size for path in files if path.is_file()) if sys.stderr.isatty() else 0

    def update(self, log: FileLog, shipper: Shipper) -> None:
        """Called after each commit."""
        self.reached(log.name.label, Reached.of(shipper))

    def reached(self, label: str, reached: Reached) -> None:
        """The same for a log that another process replays."""
        if self._total:
            self._logs[label] = reached
            logs = self._logs.values()
            hint = f", waiting: {reached.waiting}" if reached.waiting else ""
            title = f"replay: {sum(one.stored for one in logs)} stored{hint}"
            self._drawn.draw(title, sum(one.position for one in logs), self._total)

    def close(self) -> None:
        """Take the bar off the screen."""
        self._drawn.close()


class Counting:
    """Counts through one thing after the other: a bar, without a terminal a line now and then."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._drawn = _Drawn()
        self._said_at = time.monotonic()

    def update(self, what: str, done: int, total: int) -> None:
        """Called with the name of what is being done, how much is done, and how much there is."""
        if sys.stderr.isatty():
            self._drawn.draw(f"{self._title}: {what}", done, total)
        elif time.monotonic() - self._said_at >= _LINE_EVERY_S:
            self._said_at = time.monotonic()
            print(f"{self._title}: {done} of {total} {printable(what)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar off the screen."""
        self._drawn.close()
