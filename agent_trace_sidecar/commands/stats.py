"""`stats`: the AI-written lines of a repository, or of what a range of commits adds (`--range`)."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import msgspec

from agent_trace_sidecar.blame.blame import BlameError
from agent_trace_sidecar.blame.stats import Group, Stats, stats
from agent_trace_sidecar.commands import range_stats
from agent_trace_sidecar.commands.common import CommandError
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import say, say_json
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits.text import printable
from agent_trace_sidecar.workspace.checkout import CheckoutError

_BY = "model"
_HEADS = ("written", "surviving", "changed", "lost", "tokens", "cost $", "$ per surviving line")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which lines, and how they are grouped."""
    parser.add_argument("paths", metavar="PATH", type=Path, nargs="*", help="only these files and folders")
    parser.add_argument("--rev", metavar="REV", help="lines at this revision (default: the working tree)")
    parser.add_argument("--by", choices=["model", "session", "path", "tool", "day"], help=f"default: {_BY}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    range_stats.arguments(parser)


def run(config: Config, given: argparse.Namespace) -> int:
    """Summarise the AI-written lines."""
    if range_stats.is_asked(given):
        return range_stats.run(config, given)

    async def work(connection: asyncpg.Connection) -> Stats:
        return await stats(connection, given.paths, given.rev, given.by or _BY)

    try:
        found = with_database(config, work)
    except (BlameError, CheckoutError) as exc:
        raise CommandError(str(exc)) from None
    if given.json:
        say_json(as_json(found))
    else:
        say(*as_text(found))
    return 0


def as_json(found: Stats) -> str:
    """One JSON object."""
    return msgspec.json.encode(found).decode()


def as_text(found: Stats) -> Iterator[str]:
    """Yield the lines of the table."""
    rows = [(found.by, *_HEADS), *(_cells(one) for one in (*found.groups, found.total))]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEADS) + 1)]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()
    whole = sum(found.lines.values())
    authors = ", ".join(f"{count} {name}" for name, count in found.lines.items() if count)
    yield ""
    yield f"{whole} lines in {found.files} files: {authors or 'none'}"


def _cells(group: Group) -> tuple[str, ...]:
    return (
        printable(group.name),
        str(group.written),
        str(group.living),
        str(group.changed),
        str(group.lost),
        "" if group.tokens is None else str(group.tokens),
        "" if group.cost is None else f"{group.cost:.4f}",
        "" if group.cost_per_living_line is None else f"{group.cost_per_living_line:.6f}",
    )
