"""`blame`: who wrote each line of a file, for people, for programs that read `git blame --porcelain`, and as JSON."""

import argparse
import os
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from agent_trace_sidecar.blame.blame import Blame, BlameError, Line, blame
from agent_trace_sidecar.commands.chosen import nothing_recorded
from agent_trace_sidecar.commands.common import CommandError, UsageError
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import complain, local_time, page, say, say_json
from agent_trace_sidecar.commands.porcelain import porcelain
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits.text import printable
from agent_trace_sidecar.workspace.checkout import MAX_FILE_BYTES, CheckoutError

_COLOURS: Final = {"ai": "\x1b[36m", "mixed": "\x1b[35m", "human": "", "unknown": "\x1b[2m"}
_RESET: Final = "\x1b[0m"
_SHALLOW: Final = (
    "nothing is recorded of this shallow clone, whose first commit is missing: run `git fetch --unshallow`, then ask "
    "again."
)
_MODEL_CHARS: Final = 24
_TITLE_CHARS: Final = 28
_TOOL_CHARS: Final = 11


def arguments(parser: argparse.ArgumentParser) -> None:
    """The file, and at which revision."""
    parser.add_argument("file", metavar="FILE", type=Path, help="file of a repository")
    parser.add_argument("--rev", metavar="REV", help="revision of the file (default: the working tree)")
    parser.add_argument("--contents", metavar="-", choices=["-"], help="read the file's contents from stdin")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--porcelain", action="store_true", help="print the format of git blame --porcelain")
    parser.add_argument(
        "--include-fallback", action="store_true", help="include ranges whose only evidence is that the file changed"
    )


def run(config: Config, given: argparse.Namespace) -> int:
    """Show who wrote each line of the file; exit code 1 where nothing is recorded of its repository."""
    contents = _contents() if given.contents else None
    if contents is not None and given.rev is not None:
        raise UsageError("--contents and --rev exclude each other.")

    async def work(connection: asyncpg.Connection) -> Blame:
        fallback = given.include_fallback
        return await blame(connection, given.file, given.rev, contents=contents, include_fallback=fallback)

    try:
        found = with_database(config, work)
    except (BlameError, CheckoutError) as exc:
        raise CommandError(str(exc)) from None
    if given.json:
        say_json(as_json(found))
    elif given.porcelain:
        say(*porcelain(found, given.rev, contents))
    else:
        page(list(as_text(found, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))))
    if given.json or found.is_recorded or any(line.contributor != "unknown" for line in found.lines):
        return 0
    complain(_SHALLOW if found.is_shallow else nothing_recorded(config, "this repository"))
    return 0 if given.porcelain else 1  # editors discard what a failed command prints


def _contents() -> bytes:
    """The file as it is in an editor, unsaved.

    Raises:
        CommandError: it is too large.
    """
    contents = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    if len(contents) > MAX_FILE_BYTES:
        raise CommandError(f"stdin is larger than {MAX_FILE_BYTES >> 20} MiB.")
    return contents


def as_json(found: Blame) -> str:
    """A JSON array with an object for each line."""
    return msgspec.json.encode(found.lines).decode()


def as_text(found: Blame, *, colour: bool) -> Iterator[str]:
    """Yield the lines: who, session, tool, time, number and text; only the first of equal neighbours has the author."""
    rows = [_row(line, found.titles) for line in found.lines]
    widths = [max((len(row[at]) for row in rows), default=0) for at in range(4)]
    digits = len(str(len(rows)))
    numbered = zip(found.lines, rows, found.text, strict=True)
    for row, group in groupby(numbered, key=lambda one: one[1]):
        who = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width)
        for line, _, text in group:
            before = _COLOURS[line.contributor] if colour else ""
            shown = text.removesuffix(b"\r").decode(errors="replace")
            yield f"{before}{who}{_RESET if before else ''}  {line.line:>{digits}}) {printable(shown)}"
            who = " " * len(who)


def _row(line: Line, titles: dict[str, str]) -> tuple[str, str, str, str]:
    if line.record_id is None:
        return line.contributor, "", "", ""
    model = (line.model_id or "").rpartition("/")[2]
    who = f"{line.contributor} {_short(model, _MODEL_CHARS)}".rstrip()
    session = titles.get(line.session_id or "", line.session_id or "")
    at = local_time(line.at) if line.at else ""
    tool = _short(line.tool or "", _TOOL_CHARS)
    return printable(who), printable(_short(session, _TITLE_CHARS)), printable(tool), at


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
