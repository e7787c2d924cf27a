"""`stats`: the AI-written lines of a repository, or of what a range of commits adds (`--range`)."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from agent_trace_sidecar.blame.blame import BlameError
from agent_trace_sidecar.blame.stats import Group, Stats, stats
from agent_trace_sidecar.commands import range_arguments
from agent_trace_sidecar.commands.chosen import check_recorded
from agent_trace_sidecar.commands.common import CommandError
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import dollars, say, say_json
from agent_trace_sidecar.commands.tables import Column, show_table
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits.text import counted
from agent_trace_sidecar.workspace.checkout import CheckoutError

_BY: Final = "model"
_ID_CHARS: Final = 12
_TITLES: Final = "SELECT session_id, title FROM agent_trace_sessions WHERE session_id = ANY($1::text[])"
_HEADS: Final = ("written", "surviving", "changed", "lost", "tokens", "cost $", "$ per\nsurviving line")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which lines, and how they are grouped."""
    parser.add_argument("paths", metavar="PATH", type=Path, nargs="*", help="only these files and folders")
    parser.add_argument("--rev", metavar="REV", help="lines at this revision (default: the working tree)")
    parser.add_argument("--by", choices=["model", "session", "path", "tool", "day"], help=f"default: {_BY}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    range_arguments.arguments(parser)


def run(config: Config, given: argparse.Namespace) -> int:
    """Summarise the AI-written lines."""
    if range_arguments.is_asked(given):
        from agent_trace_sidecar.commands import range_stats  # noqa: PLC0415 - only a range needs it

        return range_stats.run(config, given)
    project: Path = given.paths[0].resolve() if given.paths else Path.cwd()

    async def work(connection: asyncpg.Connection) -> tuple[Stats, dict[str, str]]:
        if not given.json:
            await check_recorded(config, connection, project / "x")
        found = await stats(connection, given.paths, given.rev, given.by or _BY)
        return found, await _titles(connection, found)

    try:
        found, titles = with_database(config, work)
    except (BlameError, CheckoutError) as exc:
        raise CommandError(str(exc)) from None
    if given.json:
        say_json(as_json(found))
    else:
        show(found, titles)
    return 0


def as_json(found: Stats) -> str:
    """One JSON object."""
    return msgspec.json.encode(found).decode()


def show(found: Stats, titles: Mapping[str, str]) -> None:
    """Print the table for a person; sessions with their titles, by id."""
    is_short = sys.stdout.isatty()
    columns = [Column(found.by, may_be_cut=True), *(Column(head, is_number=True) for head in _HEADS)]
    rows = [[_label(one.name, titles, is_short=is_short), *_cells(one)] for one in found.groups]
    show_table(columns, rows, [found.total.name, *_cells(found.total)])
    whole = sum(found.lines.values())
    authors = ", ".join(f"{count} {name}" for name, count in found.lines.items() if count)
    say("", f"{counted(whole, 'line')} in {counted(found.files, 'file')}: {authors or 'none'}")


def _label(name: str, titles: Mapping[str, str], *, is_short: bool) -> str:
    """A group's name; of a session its title too, and on a terminal the end of its id, which every command takes."""
    if name not in titles:
        return name
    return f"{name[-_ID_CHARS:] if is_short else name}  {titles[name]}"


async def _titles(connection: asyncpg.Connection, found: Stats) -> dict[str, str]:
    if found.by != "session":
        return {}
    rows = await connection.fetch(_TITLES, [one.name for one in found.groups])
    return {row["session_id"]: row["title"] or "" for row in rows}


def _cells(group: Group) -> tuple[str, ...]:
    return (
        str(group.written),
        str(group.living),
        str(group.changed),
        str(group.lost),
        "" if group.tokens is None else f"{group.tokens:,}",
        dollars(group.cost, group.unpriced_steps),
        dollars(group.cost_per_living_line, group.unpriced_steps, 6) if group.cost_per_living_line is not None else "",
    )
