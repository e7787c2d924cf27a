"""Tables for people: room for each column, on a terminal and in a pipe."""

import os
import sys

import pytest

from agent_trace_sidecar.commands.tables import Column, table_lines
from tests.support.terminal import on_terminal

COLUMNS = (Column("name", may_be_cut=True), Column("lines\nwritten", is_number=True))
ROWS = (("a" * 30, "7"), ("\u6f22\u5b57", "1,234"), ("e\u0301", "5"), ("\x1b[2J", ""))


def test_a_pipe_gets_every_cell_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers at the right; a letter of East Asia takes two columns of a terminal, a mark upon a letter none."""
    assert not capsys.readouterr().out
    assert table_lines(COLUMNS, ROWS, ("total", "1,246")) == [
        "name                              lines",
        "                                written",
        "a" * 30 + "        7",
        "\u6f22\u5b57" + " " * 26 + "    1,234",
        "e\u0301" + " " * 29 + "        5",
        "\\x1b[2J",
        "total                             1,246",
    ]


@pytest.mark.parametrize(("columns", "first"), [(80, "a" * 30 + "        7"), (24, "a" * 14 + "\u2026        7")])
def test_a_terminal_gets_what_fits_and_bold_heads(columns: int, first: str) -> None:
    """Only what may be cut is cut."""
    code = f"""
from agent_trace_sidecar.commands.tables import Column, show_table
show_table([Column("name", may_be_cut=True), Column("lines\\nwritten", is_number=True)], {ROWS!r}, ("total", "9"))
"""
    shown = on_terminal([sys.executable, "-c", code], os.environ, columns=columns).splitlines()
    assert shown[0].startswith("\x1b[1mname ")
    assert shown[0].endswith("lines\x1b[0m")
    assert shown[2] == first
    assert shown[-1].startswith("\x1b[1mtotal ")
