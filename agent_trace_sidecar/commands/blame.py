"""`blame`: who wrote each line of a file, for people, for programs that read `git blame --porcelain`, and as JSON."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from agent_trace_sidecar.blame.blame import Blame, BlameError, blame
from agent_trace_sidecar.blame.lines import Line
from agent_trace_sidecar.commands.chosen import nothing_recorded
from agent_trace_sidecar.commands.common import CommandError, UsageError
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import complain, local_time, page, say, say_json
from agent_trace_sidecar.commands.porcelain import porcelain
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits.text import counted, printable
from agent_trace_sidecar.workspace.checkout import MAX_FILE_BYTES, CheckoutError
from agent_trace_sidecar.workspace.line_ranges import lines_of
from agent_trace_sidecar.workspace.revision import common_dir

_COLOURS: Final = {"ai": "\x1b[36m", "mixed": "\x1b[35m", "human": "", "unknown": "\x1b[2m"}
_RESET: Final = "\x1b[0m"
_SHALLOW: Final = (
    "nothing is recorded of this shallow clone, whose first commit is missing: run `git fetch --unshallow`, then ask "
    "again."
)
_PATTERN: Final = re.compile(r"\^?[/:]|[^/:]*,/")
"""A range that is not of numbers alone."""
_ELSEWHERE: Final = (
    "{0} is recorded in {1}. If that is the same repository, and its first commit was amended or rebased since, give "
    "this clone the id that it had, by which OpenCode knows it too: echo {2} > {3}"
)
_MODEL_CHARS: Final = 24
_TITLE_CHARS: Final = 28
_TOOL_CHARS: Final = 11


def arguments(parser: argparse.ArgumentParser) -> None:
    """The file, and at which revision."""
    parser.add_argument("file", metavar="FILE", type=Path, help="file of a repository")
    parser.add_argument("--rev", metavar="REV", help="revision of the file (default: the working tree)")
    parser.add_argument("--contents", metavar="-", choices=["-"], help="read the file's contents from stdin")
    parser.add_argument(
        "-L",
        metavar="START,END",
        dest="ranges",
        action="append",
        default=[],
        help="only these lines: from START to END, both of which may be left out, or to START,+COUNT; /REGEX/ in the "
        "place of a number, or :FUNCTION, as in git blame; repeatable",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--porcelain", action="store_true", help="print the format of git blame --porcelain")
    form.add_argument("--line-porcelain", action="store_true", help="the same with all headers for each line")
    parser.add_argument(
        "--include-fallback", action="store_true", help="include ranges whose only evidence is that the file changed"
    )


def run(config: Config, given: argparse.Namespace) -> int:
    """Show who wrote each line of the file; exit code 1 where nothing is recorded of its repository."""
    ranges = [None if _PATTERN.match(text) else _range(text) for text in given.ranges]
    contents = _contents() if given.contents else None
    if contents is not None and given.rev is not None:
        raise UsageError("--contents and --rev exclude each other.")

    async def work(connection: asyncpg.Connection) -> Blame:
        fallback = given.include_fallback
        return await blame(connection, given.file, given.rev, contents=contents, include_fallback=fallback)

    try:
        found = with_database(config, work)
        lines = _chosen(found, ranges, given.ranges)
    except (BlameError, CheckoutError) as exc:
        raise CommandError(str(exc)) from None
    for_programs = given.porcelain or given.line_porcelain
    if given.json:
        say_json(msgspec.json.encode(lines).decode())
    elif for_programs:
        say(*porcelain(found, lines, given.rev, contents, every_line=given.line_porcelain))
    else:
        page(list(as_text(found, lines, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))))
    if given.json or found.is_recorded or any(line.contributor != "unknown" for line in found.lines):
        return 0
    complain(_SHALLOW if found.is_shallow else nothing_recorded(config, "this repository"))
    folder = common_dir(found.root) if found.root else None
    if found.elsewhere and folder:
        project, worktree = found.elsewhere
        complain(
            _ELSEWHERE.format(
                printable(found.path), printable(worktree), project, shlex.quote(str(folder / "opencode"))
            )
        )
    return 0 if for_programs else 1  # editors discard what a failed command prints


def _contents() -> bytes:
    """The file as it is in an editor, unsaved.

    Raises:
        CommandError: it is too large.
    """
    contents = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    if len(contents) > MAX_FILE_BYTES:
        raise CommandError(f"stdin is larger than {MAX_FILE_BYTES >> 20} MiB.")
    return contents


def _range(text: str) -> tuple[int, int | None]:
    """Read first and last line as `git blame -L` does; None is the file's last line.

    Raises:
        UsageError: `text` is not a range.
    """
    found = re.fullmatch(r"([1-9]\d*)?(?:,(?:([+-])?([1-9]\d*))?)?", text)
    if not text or found is None:
        raise UsageError(
            f"-L {text!r} is not a range of lines: give e.g. 10,20, 10,+5, 10, ,20, /REGEX/,+5 or :FUNCTION."
        )
    start, sign, number = int(found[1] or 1), found[2], int(found[3] or 0)
    if not number:
        return start, None
    if sign:
        return (start, start + number - 1) if sign == "+" else (max(1, start - number + 1), start)
    return min(start, number), max(start, number)


def _chosen(found: Blame, ranges: Sequence[tuple[int, int | None] | None], texts: Sequence[str]) -> list[Line]:
    """The lines of these ranges, all without one.

    Args:
        found: the answer.
        ranges: first and last lines; None for what only git can read.
        texts: the ranges as they were given.

    Raises:
        CommandError: a range begins behind the last line.
        CheckoutError: no line matches a pattern.
    """
    count = len(found.lines)
    known = [one for one in ranges if one is not None]
    if any(start > count for start, _ in known):
        raise CommandError(f"{found.path} has only {counted(count, 'line')}.")
    if len(known) == len(ranges):
        chosen = {at for start, end in known for at in range(start, (count if end is None else min(end, count)) + 1)}
    else:
        content = b"".join(line + b"\n" for line in found.text)
        chosen = lines_of(found.root or Path.cwd(), found.path, content, texts)
    return [line for line in found.lines if not ranges or line.line in chosen]


def as_text(found: Blame, lines: Sequence[Line], *, colour: bool) -> Iterator[str]:
    """Yield the lines: who, session, tool, time, number and text; only the first of equal neighbours has the author."""
    rows = [_row(line, found.titles) for line in lines]
    widths = [max((len(row[at]) for row in rows), default=0) for at in range(4)]
    digits = len(str(lines[-1].line)) if lines else 0
    for row, group in groupby(zip(lines, rows, strict=True), key=lambda one: one[1]):
        who = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width)
        for line, _ in group:
            before = _COLOURS[line.contributor] if colour else ""
            shown = found.text[line.line - 1].removesuffix(b"\r").decode(errors="replace")
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
