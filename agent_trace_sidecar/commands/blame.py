"""The answer of `blame` for people: a line of text for each line of the file, like `git blame`; pure."""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from agent_trace_sidecar.blame.blame import Blame, BlameError, Line, blame
from agent_trace_sidecar.commands.chosen import check_recorded
from agent_trace_sidecar.commands.common import CommandError
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import say, say_json
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits.text import printable

_COLOURS: Final = {"ai": "\x1b[36m", "mixed": "\x1b[35m", "human": "", "unknown": "\x1b[2m"}
_RESET: Final = "\x1b[0m"
_MODEL_CHARS: Final = 24
_SESSION_CHARS: Final = 12
_TOOL_CHARS: Final = 11


def arguments(parser: argparse.ArgumentParser) -> None:
    """The file, and at which revision."""
    parser.add_argument("file", metavar="FILE", type=Path, help="file of a repository")
    parser.add_argument("--rev", metavar="REV", help="revision of the file (default: the working tree)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--include-fallback", action="store_true", help="include ranges whose only evidence is that the file changed"
    )


def run(config: Config, given: argparse.Namespace) -> int:
    """Show who wrote each line of the file."""

    async def work(connection: asyncpg.Connection) -> Blame:
        found = await blame(connection, given.file, given.rev, include_fallback=given.include_fallback)
        if not given.json:
            await check_recorded(connection, given.file.resolve())
        return found

    try:
        found = with_database(config, work)
    except BlameError as exc:
        raise CommandError(str(exc)) from None
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    if given.json:
        say_json(as_json(found))
    else:
        say(*as_text(found, colour=colour))
    return 0


def as_json(found: Blame) -> str:
    """A JSON array with an object for each line."""
    return msgspec.json.encode(found.lines).decode()


def as_text(found: Blame, *, colour: bool) -> Iterator[str]:
    """Yield the lines: who, session, tool, time, number and text."""
    rows = [_row(line) for line in found.lines]
    widths = [max((len(row[at]) for row in rows), default=0) for at in range(4)]
    digits = len(str(len(rows)))
    for line, row, text in zip(found.lines, rows, found.text, strict=True):
        who = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width)
        before = _COLOURS[line.contributor] if colour else ""
        after = _RESET if before else ""
        shown = text.removesuffix(b"\r").decode(errors="replace")
        yield f"{before}{who}{after}  {line.line:>{digits}}) {printable(shown)}"


def _row(line: Line) -> tuple[str, str, str, str]:
    if line.record_id is None:
        return line.contributor, "", "", ""
    model = (line.model_id or "").rpartition("/")[2]
    who = f"{line.contributor} {_short(model, _MODEL_CHARS)}".rstrip()
    session = (line.session_id or "")[-_SESSION_CHARS:]
    at = line.at.strftime("%Y-%m-%d %H:%M") if line.at else ""
    return printable(who), printable(session), printable(_short(line.tool or "", _TOOL_CHARS)), at


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
