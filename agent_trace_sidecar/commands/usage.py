"""`usage`: tokens and cost of the recorded requests to models, by day, model, repository and so on.

The figures are those of the view `agent_trace_requests`, in which a request counts once. Days, weeks and
months are UTC.
"""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg

from agent_trace_sidecar.commands.chosen import NO_SESSION, moment
from agent_trace_sidecar.commands.common import PROGRAM, CommandError
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import dollars, say_json
from agent_trace_sidecar.commands.tables import Column, show_table
from agent_trace_sidecar.config import Config

_OF_SESSION: Final = "LEFT JOIN agent_trace_titles s ON s.session_id = t.session_id"
_OF_TOOLS: Final = """LEFT JOIN (
    SELECT session_id, message_id, string_agg(DISTINCT tool, '+' ORDER BY tool) AS tools
    FROM agent_trace_ended_calls GROUP BY session_id, message_id
) c ON c.session_id = t.session_id AND c.message_id = t.message_id"""
_DAY: Final = "t.finished_at AT TIME ZONE 'UTC'"
GROUPS: Final = {
    "day": (f"to_char({_DAY}, 'YYYY-MM-DD')", "NULL", ""),
    "week": (f"to_char({_DAY}, 'IYYY-\"W\"IW')", "NULL", ""),
    "month": (f"to_char({_DAY}, 'YYYY-MM')", "NULL", ""),
    "model": ("coalesce(t.model_id, 'unknown')", "NULL", ""),
    "repository": ("coalesce(t.repository, t.worktree, 'unknown')", "NULL", ""),
    "user": ("coalesce(t.os_user, 'unknown')", "NULL", ""),
    "session": ("coalesce(t.session_id, 'unknown')", "max(s.title)", _OF_SESSION),
    "tool": ("coalesce(c.tools, 'none')", "NULL", _OF_TOOLS),
}
"""For each grouping: what names a group, its title, and what has to be joined. A request that called several tools
counts under all of them together, e.g. `edit+read`: its tokens can't be divided."""
_BY_TIME: Final = ("day", "week", "month")
_USAGE: Final = """
SELECT {name} AS name, {title} AS title, count(DISTINCT t.session_id) AS sessions, count(t.part_id) AS steps,
       coalesce(sum(t.input_tokens), 0)::bigint AS input_tokens,
       coalesce(sum(t.output_tokens), 0)::bigint AS output_tokens,
       coalesce(sum(t.reasoning_tokens), 0)::bigint AS reasoning_tokens,
       coalesce(sum(t.cache_read_tokens), 0)::bigint AS cache_read_tokens,
       coalesce(sum(t.cache_write_tokens), 0)::bigint AS cache_write_tokens,
       sum(t.cost)::float8 AS cost, count(t.part_id) FILTER (WHERE t.cost IS NULL) AS unpriced_steps
FROM agent_trace_requests t {joined}
WHERE $1::timestamptz IS NULL OR t.finished_at >= $1
GROUP BY 1 ORDER BY {order}
"""
_ID_CHARS: Final = 12
"""The end of a session's id is unique enough, and every command takes it."""
_NUMBERS: Final = {
    "sessions": "sessions",
    "steps": "steps",
    "input_tokens": "input",
    "output_tokens": "output",
    "reasoning_tokens": "reasoning",
    "cache_read_tokens": "cache\nread",
    "cache_write_tokens": "cache\nwrite",
}
"""The numbers of a row, and how they are called in the table."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to add up."""
    parser.add_argument("--by", choices=list(GROUPS), default="day", help="default: %(default)s; times are UTC")
    parser.add_argument("--since", metavar="AGE", help="only requests since, e.g. 30d, 36h or 2026-01-31")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV")


def run(config: Config, given: argparse.Namespace) -> int:
    """Show them."""
    since = moment("--since", given.since)

    async def work(connection: asyncpg.Connection) -> list[dict[str, Any]]:
        return await usage(connection, given.by, since)

    found = with_database(config, work)
    if given.json:
        say_json(json.dumps(found, ensure_ascii=False))
    elif given.csv:
        fields = [given.by, *(["title"] if given.by == "session" else []), *_NUMBERS, "cost", "unpriced_steps"]
        writer = csv.DictWriter(sys.stdout, fields, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(found)
    elif found:
        _show(given.by, found)
    else:
        period = f"no request to a model is recorded in this period: `{PROGRAM} sessions` lists all sessions."
        raise CommandError(period if since else NO_SESSION)
    return 0


async def usage(connection: asyncpg.Connection, by: str, since: datetime | None = None) -> list[dict[str, Any]]:
    """A row for each group: its name under `name` and under `by`, the numbers, and the cost in US dollars.

    The cost is None where OpenCode has a price for none of the steps; steps without one are in `unpriced_steps`.
    """
    found = []
    for row in await connection.fetch(statement(by), since):
        values = dict(row)
        shown = values.pop("title")
        found.append({by: values["name"], **({"title": shown} if by == "session" else {}), **values})
    return found


def statement(by: str) -> str:
    """The SQL of a grouping, one of `GROUPS`; its parameter is the time since when."""
    name, title, joined = GROUPS[by]
    order = "1" if by in _BY_TIME else "sum(t.cost) DESC NULLS LAST, count(*) DESC, 1"
    return _USAGE.format(name=name, title=title, joined=joined, order=order)


def _show(by: str, found: Sequence[dict[str, Any]]) -> None:
    is_short = sys.stdout.isatty()
    numbers = [key for key in _NUMBERS if key != "sessions" or by != "session"]
    name = Column(f"{by} (UTC)" if by in _BY_TIME else by, may_be_cut=True)
    columns = [name, *(Column(_NUMBERS[key], is_number=True) for key in numbers), Column("cost $", is_number=True)]
    rows = [[_label(row, is_short=is_short), *_cells(row, numbers)] for row in found]
    costs = [row["cost"] for row in found if row["cost"] is not None]
    total = {key: sum(row[key] for row in found) for key in (*numbers, "unpriced_steps")}
    total["cost"] = sum(costs) if costs else None
    last = ["all", *_cells(total, numbers)]
    if "sessions" in numbers:
        last[1] = ""  # one session may be in several groups
    show_table(columns, rows, last if len(found) > 1 else None)


def _label(row: dict[str, Any], *, is_short: bool) -> str:
    """A group's name; of a session its title too, and on a terminal the end of its id, which every command takes."""
    if "title" not in row:
        return str(row["name"])
    return f"{row['name'][-_ID_CHARS:] if is_short else row['name']}  {row['title'] or ''}"


def _cells(row: dict[str, Any], numbers: Sequence[str]) -> list[str]:
    return [*(f"{row[key]:,}" for key in numbers), dollars(row["cost"], row["unpriced_steps"])]
