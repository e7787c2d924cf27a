"""What people see: tables, bold heads and width. Only commands for people import this.

On a terminal a table fits its width, and the columns that may be cut end in an ellipsis; in a pipe nothing is cut or
bold. Foreign text does not reach the terminal: every cell is made printable first.
"""

import os
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

from agent_trace_sidecar.commands.output import page, screen_size
from agent_trace_sidecar.limits.text import printable

_GAP: Final = 2
_CUT_TO: Final = 8
"""Characters that stay of a cell at least."""
_ELLIPSIS: Final = "\u2026"


class Column(NamedTuple):
    """How a column is shown."""

    head: str
    is_number: bool = False
    may_be_cut: bool = False


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], total: Sequence[str] | None = None) -> None:
    """Print a table, through a pager where it is longer than the screen; `total` is its last row."""
    page(table_lines(columns, rows, total))


def table_lines(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], total: Sequence[str] | None = None
) -> list[str]:
    """The lines of a table, as wide as stdout; `total` is its last row."""
    is_screen = sys.stdout.isatty()
    heads = [column.head.split("\n") for column in columns]
    head_rows = [[head[at] if at < len(head) else "" for head in heads] for at in range(max(map(len, heads)))]
    body = [[printable(cell) for cell in row] for row in rows]
    last = [] if total is None else [[printable(cell) for cell in total]]
    widths = _widths(columns, [*head_rows, *body, *last], screen_size()[0] if is_screen else None)

    def line(row: Sequence[str]) -> str:
        cells = [_fitted(cell, column, width) for cell, column, width in zip(row, columns, widths, strict=True)]
        return (" " * _GAP).join(cells).rstrip()

    bold = "\x1b[1m{}\x1b[0m" if is_screen and _takes_bold() else "{}"
    return [
        *(bold.format(line(row)) for row in head_rows),
        *(line(row) for row in body),
        *(bold.format(line(row)) for row in last),
    ]


def _takes_bold() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}


def _fitted(cell: str, column: Column, width: int) -> str:
    """The cell in exactly its room."""
    size = _cells(cell)
    if size > width:
        while size > width - 1 and cell:
            size -= _cells(cell[-1])
            cell = cell[:-1]
        cell, size = cell + _ELLIPSIS, size + 1
    room = " " * (width - size)
    return room + cell if column.is_number else cell + room


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], most: int | None) -> list[int]:
    """Room for each column; where all of it is too much, the longest of those that may be cut gives."""
    widths = [max(_cells(row[at]) for row in rows) for at in range(len(columns))]
    if most is None:
        return widths
    cut = [at for at, column in enumerate(columns) if column.may_be_cut]
    excess = sum(widths) + _GAP * (len(widths) - 1) - most
    while excess > 0 and cut:
        longest = max(cut, key=widths.__getitem__)
        if widths[longest] <= _CUT_TO:
            break
        widths[longest] -= 1
        excess -= 1
    return widths


def _cells(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - few tables need it

    return cell_len(text)
