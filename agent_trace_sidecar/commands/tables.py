"""What people see: tables, colour, width and progress, by rich. Only commands for people import this.

On a terminal a table fits its width, and the columns that may be cut end in an ellipsis; in a pipe nothing is cut or
coloured. Foreign text reaches neither rich's markup nor the terminal: every cell is made printable first.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from agent_trace_sidecar.commands.output import page
from agent_trace_sidecar.limits.text import printable

_GAP: Final = 2
_CUT_TO: Final = 8
"""Characters that stay of a cell at least."""
_PIPE_WIDTH: Final = 100_000
"""Wider than any table: what is piped is for programs and files."""


class Column(NamedTuple):
    """How a column is shown."""

    head: str
    is_number: bool = False
    may_be_cut: bool = False


def console(*, stderr: bool = False) -> Console:
    """Where to print; NO_COLOR and TERM=dumb are respected by rich."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(stderr=stderr, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], total: Sequence[str] | None = None) -> None:
    """Print a table, through a pager where it is longer than the screen; `total` is its last row."""
    page(table_lines(columns, rows, total))


def table_lines(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], total: Sequence[str] | None = None
) -> list[str]:
    """The lines of a table, as wide as stdout; `total` is its last row."""
    where = console()
    widths = _widths(columns, [*rows, *([total] if total is not None else [])], where.width)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        table.add_column(column.head, justify=justify, no_wrap=True, overflow="ellipsis", width=width)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    if total is not None:
        table.add_row(*(Text(printable(cell), style="bold") for cell in total))
    with where.capture() as captured:
        where.print(table)
    return [line.rstrip() for line in captured.get().rstrip("\n").split("\n")]


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], most: int) -> list[int]:
    """Room for each column; where all of it is too much, the longest of those that may be cut gives."""
    widths = [
        max(*(len(row[at]) for row in rows), *map(len, column.head.split("\n"))) for at, column in enumerate(columns)
    ]
    cut = [at for at, column in enumerate(columns) if column.may_be_cut]
    excess = sum(widths) + _GAP * (len(widths) - 1) - most
    while excess > 0 and cut:
        longest = max(cut, key=widths.__getitem__)
        if widths[longest] <= _CUT_TO:
            break
        widths[longest] -= 1
        excess -= 1
    return widths


@contextmanager
def progress_bar(title: str) -> Iterator[tuple[Progress, TaskID]]:
    """A bar on stderr, which is gone after the block; give it and its task."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        yield progress, progress.add_task(printable(title), total=None)
