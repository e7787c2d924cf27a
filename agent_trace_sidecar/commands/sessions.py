"""`sessions`: the recorded sessions, the latest first, with what each did and cost."""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg
import msgspec

from agent_trace_sidecar.commands.chosen import NO_SESSION, moment
from agent_trace_sidecar.commands.common import PROGRAM, CommandError
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import dollars, say, say_json
from agent_trace_sidecar.commands.recording import project_of
from agent_trace_sidecar.commands.tables import Column, show_table
from agent_trace_sidecar.config import Config

_ID_CHARS: Final = 12
_IDS: Final = """
SELECT session_id FROM agent_trace_events WHERE session_id IS NOT NULL
GROUP BY session_id HAVING $1::timestamptz IS NULL OR max(occurred_at) >= $1
ORDER BY min(occurred_at) DESC, session_id LIMIT $2
"""
"""From the index alone; the view reads every event of the sessions that it is asked for."""
_FEW: Final = 100
"""Up to so many sessions are read one by one, which takes the server less than reading all of them."""
_COMPLETED: Final = 500
"""Ids that are offered for completion."""
_SESSIONS: Final = """
SELECT s.session_id, s.parent_session_id, s.title, s.started_at, s.last_event_at, m.models[1] AS model_id,
       s.repository, s.worktree, s.os_user, s.host, s.steps, s.calls, s.ai_lines, s.cost::float8 AS cost,
       s.unpriced_steps
FROM agent_trace_sessions s
LEFT JOIN (
    SELECT session_id, array_agg(model_id ORDER BY steps DESC, model_id) AS models
    FROM (
        SELECT session_id, model_id, count(*) AS steps FROM agent_trace_requests
        WHERE model_id IS NOT NULL GROUP BY session_id, model_id
    ) counted
    GROUP BY session_id
) m ON m.session_id = s.session_id
WHERE ($7::text[] IS NULL OR s.session_id = ANY($7)) AND ($1::timestamptz IS NULL OR s.last_event_at >= $1)
  AND ($2::text IS NULL OR strpos(lower(concat_ws(' ', s.repository, s.worktree)), lower($2)) > 0)
  AND ($3::text IS NULL OR s.os_user = $3)
  AND ($4::text IS NULL OR strpos(lower(array_to_string(m.models, ' ')), lower($4)) > 0)
  AND ($5::text IS NULL OR strpos(lower(s.title), lower($5)) > 0 OR strpos(s.session_id, $5) > 0 OR s.session_id IN (
      SELECT session_id FROM agent_trace_prompts WHERE strpos(lower(prompt), lower($5)) > 0
  ))
ORDER BY s.started_at DESC, s.session_id
LIMIT $6
"""


class Session(msgspec.Struct, frozen=True):
    """A session; what is not known is None."""

    session_id: str
    title: str | None
    started_at: datetime
    last_event_at: datetime
    model_id: str | None
    """The one of most of its steps."""
    repository: str | None
    """The URL of the git remote."""
    worktree: str | None
    user: str | None
    host: str | None
    steps: int
    calls: int
    lines_written: int
    cost: float | None
    """US dollars; None where OpenCode has no price for any step."""
    unpriced_steps: int
    parent_session_id: str | None


class Wanted(NamedTuple):
    """Which sessions; what is None does not matter."""

    since: datetime | None = None
    repository: str | None = None
    user: str | None = None
    model: str | None = None
    search: str | None = None
    limit: int | None = None


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which sessions."""
    parser.add_argument("--since", metavar="AGE", help="only sessions active since, e.g. 30d, 36h or 2026-01-31")
    parser.add_argument(
        "--repository", metavar="REPOSITORY", help="only of this repository: part of its URL or path, or . for this one"
    )
    parser.add_argument("--user", metavar="NAME", help="only of this user of the operating system")
    parser.add_argument("--model", metavar="MODEL", help="only with a model whose name contains this")
    parser.add_argument("--search", metavar="TEXT", help="only with this in title, prompt or id")
    parser.add_argument("--limit", metavar="N", type=_number, help="only the latest N")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--ids", action="store_true", help="print ids only, one per line; for completion")


def _number(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1.")
    return int(text)


def run(config: Config, given: argparse.Namespace) -> int:
    """List them."""
    if given.ids:
        say(*with_database(config, lambda connection: _ids(connection, None, _COMPLETED)))
        return 0
    wanted = Wanted(
        moment("--since", given.since),
        _repository(given.repository),
        given.user,
        given.model,
        given.search,
        given.limit,
    )

    async def work(connection: asyncpg.Connection) -> list[Session]:
        return await sessions(connection, wanted)

    found = with_database(config, work)
    if given.json:
        say_json(msgspec.json.encode(found).decode())
    elif found:
        _show(found)
    else:
        is_all = not any(wanted)
        raise CommandError(NO_SESSION if is_all else f"no recorded session matches: `{PROGRAM} sessions` lists all.")
    return 0


async def sessions(connection: asyncpg.Connection, wanted: Wanted) -> list[Session]:
    """The sessions, the latest first."""
    ids = None
    if wanted.limit and wanted.limit <= _FEW and wanted == Wanted(since=wanted.since, limit=wanted.limit):
        ids = await _ids(connection, wanted.since, wanted.limit)
    return [
        Session(
            row["session_id"],
            row["title"],
            row["started_at"].astimezone(UTC),
            row["last_event_at"].astimezone(UTC),
            row["model_id"],
            row["repository"],
            row["worktree"],
            row["os_user"],
            row["host"],
            row["steps"],
            row["calls"],
            int(row["ai_lines"]),
            row["cost"],
            row["unpriced_steps"],
            row["parent_session_id"],
        )
        for row in await connection.fetch(_SESSIONS, *wanted, ids)
    ]


async def _ids(connection: asyncpg.Connection, since: datetime | None, limit: int | None) -> list[str]:
    return [row["session_id"] for row in await connection.fetch(_IDS, since, limit)]


def _repository(text: str | None) -> str | None:
    """A folder that is there means its repository's root, as it is recorded."""
    if text and Path(text).is_dir():
        return str(project_of(Path(text)))
    return text


def _show(found: Sequence[Session]) -> None:
    zone = found[0].started_at.astimezone().tzname()
    columns = (
        Column("session"),
        Column(f"started ({zone})"),
        Column("title", may_be_cut=True),
        Column("model", may_be_cut=True),
        Column("calls", is_number=True),
        Column("lines", is_number=True),
        Column("cost $", is_number=True),
    )
    is_terminal = sys.stdout.isatty()
    show_table(columns, [_cells(one, is_short=is_terminal) for one in found])


def _cells(one: Session, *, is_short: bool) -> tuple[str, ...]:
    """The cells of a row; on a terminal the end of an id is enough: every command takes it."""
    return (
        one.session_id[-_ID_CHARS:] if is_short else one.session_id,
        one.started_at.astimezone().strftime("%b %d %H:%M" if is_short else "%Y-%m-%d %H:%M"),
        ("  " if one.parent_session_id else "") + (one.title or ""),
        (one.model_id or "").rpartition("/")[2],
        str(one.calls),
        str(one.lines_written),
        dollars(one.cost, one.unpriced_steps),
    )
