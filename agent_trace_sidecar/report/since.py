"""What the page of a span of time shows: figures of the views, and what `blame` finds of the lines today."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg

from agent_trace_sidecar.blame.blame import FileBlamer, placed, projects_of
from agent_trace_sidecar.report.cost import Spent
from agent_trace_sidecar.report.repository import KNOWN, Progress, content_of, searched
from agent_trace_sidecar.workspace.checkout import Checkout, CheckoutError, ManyFiles, checkout_of

_PLACES: Final = """
SELECT DISTINCT project, worktree FROM agent_trace_file_states
WHERE $1::timestamptz IS NULL OR recorded_at >= $1 ORDER BY project, worktree
"""
WRITTEN: Final = """SELECT day, coalesce(model_id, 'unknown') AS model, sum(lines)::bigint AS lines
FROM agent_trace_lines_by_day
WHERE contributor = 'ai' AND day >= DATE '{day}'
GROUP BY 1, 2 ORDER BY 1, 2"""
WRITTEN_THERE: Final = """SELECT day, coalesce(model_id, 'unknown') AS model, sum(lines)::bigint AS lines
FROM agent_trace_lines_by_day
WHERE contributor = 'ai' AND day >= DATE '{day}' AND project IN ({projects})
GROUP BY 1, 2 ORDER BY 1, 2"""
REPOSITORIES: Final = """SELECT project, max(repository) AS repository, sum(lines)::bigint AS lines
FROM agent_trace_lines_by_day
WHERE contributor = 'ai' AND day >= DATE '{day}'
GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT 200"""
SPENT: Final = """SELECT day, coalesce(model_id, 'unknown') AS model,
       sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0) + coalesce(reasoning_tokens, 0)
           + coalesce(cache_read_tokens, 0) + coalesce(cache_write_tokens, 0))::bigint AS tokens,
       sum(cost)::float8 AS cost, sum(unpriced_steps)::bigint AS unpriced_steps
FROM agent_trace_usage_by_day
WHERE day >= DATE '{day}'
GROUP BY 1, 2 ORDER BY 1, 2"""
PEOPLE: Final = """SELECT count(DISTINCT u.session_id) AS sessions, count(DISTINCT s.os_user) AS people
FROM agent_trace_usage u LEFT JOIN agent_trace_sources s ON s.source_id = u.source_id AND s.kind = 'instance'
WHERE u.finished_at >= TIMESTAMPTZ '{day} 00:00:00Z'"""
COSTS: Final = """SELECT coalesce(model_id, 'unknown') AS model, sum(cost)::float8 AS cost,
       count(part_id) FILTER (WHERE cost IS NULL) AS unpriced_steps
FROM agent_trace_requests
WHERE finished_at >= TIMESTAMPTZ '{day} 00:00:00Z' AND session_id IN (
    SELECT session_id FROM agent_trace_lines WHERE contributor = 'ai' AND project IN ({projects})
    UNION SELECT session_id FROM agent_trace_usage WHERE source_id IN (
        SELECT source_id FROM agent_trace_sources
        WHERE repositories <> '{{}}' AND repositories - ARRAY(
            SELECT worktree FROM agent_trace_file_states WHERE project IN ({projects})) = '{{}}'))
GROUP BY 1 ORDER BY 2 DESC NULLS LAST LIMIT 200"""
"""Of sessions that wrote in the repositories, and of all sessions of runs that worked nowhere else."""
FAILED: Final = """SELECT coalesce(tool, 'unknown') AS tool, sum(calls)::bigint AS calls, sum(failed)::bigint AS failed
FROM agent_trace_calls_by_day
WHERE day >= DATE '{day}'
GROUP BY 1 ORDER BY 3 DESC, 2 DESC, 1 LIMIT 200"""
SLOW: Final = """SELECT coalesce(tool, 'unknown') AS tool, sum(calls)::bigint AS calls,
       round(sum(mean_seconds * calls) / sum(calls), 3)::float8 AS mean_seconds, max(max_seconds)::float8 AS max_seconds
FROM agent_trace_calls_by_day
WHERE day >= DATE '{day}' AND mean_seconds IS NOT NULL
GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT 200"""
SECRETS: Final = """SELECT rule, sum(secrets)::bigint AS secrets, sum(events)::bigint AS events
FROM (
    SELECT rule, max(masked) AS secrets, count(*) AS events FROM agent_trace_masked
    WHERE occurred_at >= TIMESTAMPTZ '{day} 00:00:00Z'
    GROUP BY rule, coalesce(session_id, event_id::text)
) sessions
GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 200"""
"""A session's secrets of a rule: as many as its event with the most of them holds, as events repeat each other."""


_TABLES: Final = {
    "written": WRITTEN,
    "written_there": WRITTEN_THERE,
    "repositories": REPOSITORIES,
    "spent": SPENT,
    "people": PEOPLE,
    "costs": COSTS,
    "failed": FAILED,
    "slow": SLOW,
    "secrets": SECRETS,
}

Places = dict[str, list[str]]
"""The worktrees in which each project was recorded."""


class Table(NamedTuple):
    """What a statement gave."""

    sql: str
    rows: list[dict[str, Any]]


class Surviving(NamedTuple):
    """The AI's lines of the span that stand today, in the repositories that could be read."""

    folders: dict[str, str]
    """Where each project was read."""
    recorded: dict[str, str]
    """Where each project was recorded."""
    lines: Counter[tuple[str, str, str]]
    """By day of writing, model and project."""

    def after(self, since: datetime, recorded: "Places") -> "Surviving":
        """Those of a shorter period, from the beginning of a day on, and the places that were recorded in it."""
        first = since.date().isoformat()
        return Surviving(
            {project: folder for project, folder in self.folders.items() if project in recorded},
            {project: worktrees[0] for project, worktrees in recorded.items()},
            Counter({key: count for key, count in self.lines.items() if key[0] >= first}),
        )


class Since(NamedTuple):
    """All that the page shows."""

    since: datetime
    written: Table
    written_there: Table
    """In the repositories that could be read."""
    repositories: Table
    spent: Table
    people: Table
    costs: Table
    """Of the repositories that could be read."""
    failed: Table
    slow: Table
    secrets: Table
    surviving: Surviving
    notes: list[str]

    @property
    def totals(self) -> Spent:
        """What everything recorded in the period used."""
        return _totals(self.spent, self.people)


async def gather(connection: asyncpg.Connection, since: datetime, folder: Path | None, progress: Progress) -> Since:
    """Read everything since the beginning of a day (UTC).

    Args:
        connection: to the store.
        since: the day.
        folder: a repository that is read for surviving lines besides those that were recorded on this machine.
        progress: called with the progress.

    Raises:
        CheckoutError: git failed.
    """
    recorded = await places(connection, since)
    readable = await checkouts(connection, recorded, folder)
    surviving, notes = await survivors(connection, since, recorded, readable, progress)
    return await figures(connection, since, surviving, notes)


async def figures(connection: asyncpg.Connection, since: datetime, surviving: Surviving, notes: list[str]) -> Since:
    """What the page shows, given the lines that survive."""
    tables = {name: await _table(connection, sql) for name, sql in statements(since, surviving.folders).items()}
    return Since(since=since, surviving=surviving, notes=notes, **tables)


async def totals(connection: asyncpg.Connection, since: datetime) -> tuple[Spent, int]:
    """What everything recorded since the beginning of a day used, and the lines that the AI wrote."""
    sql = statements(since, ())
    spent, people, written = [await _table(connection, sql[name]) for name in ("spent", "people", "written")]
    return _totals(spent, people), sum(row["lines"] for row in written.rows)


def _totals(spent: Table, people: Table) -> Spent:
    costs = [row["cost"] for row in spent.rows if row["cost"] is not None]
    (who,) = people.rows
    return Spent(
        sum(costs) if costs else None,
        sum(row["unpriced_steps"] for row in spent.rows),
        sum(row["tokens"] for row in spent.rows),
        who["sessions"],
        who["people"],
    )


async def _table(connection: asyncpg.Connection, sql: str) -> Table:
    return Table(sql, [dict(row) for row in await connection.fetch(sql)])


def statements(since: datetime, projects: Iterable[str]) -> dict[str, str]:
    """The SQL of each table of `Since`; `projects` are those that could be read."""
    places = {"day": since.date().isoformat(), "projects": ", ".join(map(quoted, projects)) or "''"}
    return {name: sql.format(**places) for name, sql in _TABLES.items()}


def quoted(text: str) -> str:
    """A text as a literal of SQL, also for a reader who has switched standard_conforming_strings off."""
    plain = text.replace("'", "''")
    return "E'" + plain.replace("\\", "\\\\") + "'" if "\\" in text else f"'{plain}'"


async def places(connection: asyncpg.Connection, since: datetime | None) -> Places:
    """Where the projects of a period were recorded, or of all time."""
    found: Places = {}
    for row in await connection.fetch(_PLACES, since):
        found.setdefault(row["project"], []).append(row["worktree"])
    return found


async def checkouts(connection: asyncpg.Connection, recorded: Places, folder: Path | None) -> dict[str, Checkout]:
    """The projects that can be read on this machine, in `folder` before where they were recorded."""
    given = await placed(connection, folder / "x") if folder is not None else None
    found = {project: _readable(project, worktrees, given) for project, worktrees in recorded.items()}
    return {project: checkout for project, checkout in found.items() if checkout is not None}


async def survivors(
    connection: asyncpg.Connection,
    since: datetime,
    recorded: Places,
    readable: Mapping[str, Checkout],
    progress: Progress,
) -> tuple[Surviving, list[str]]:
    """The lines of the period that stand today, and what was not counted.

    Raises:
        CheckoutError: git failed.
    """
    found, notes, counted = Surviving({}, {}, Counter()), list[str](), set[Path]()
    for project, worktrees in recorded.items():
        found.recorded[project] = worktrees[0]
        if project not in readable:
            continue
        checkout = readable[project]
        found.folders[project] = str(checkout.root)
        if checkout.root in counted:  # under another of its names
            continue
        counted.add(checkout.root)
        lines, cut = await _surviving_there(connection, checkout, since, progress)
        notes += cut
        for (day, model), count in lines.items():
            found.lines[day, model, project] = count
    return found, notes


def _readable(project: str, worktrees: Sequence[str], given: Checkout | None) -> Checkout | None:
    """A checkout of a project on this machine, the requested one before those that were recorded."""
    for checkout in (given, *(_there(worktree) for worktree in worktrees)):
        try:
            if checkout is not None and project in checkout.projects():
                return checkout
        except CheckoutError:
            continue
    return None


def _there(worktree: str) -> Checkout | None:
    try:
        folder = Path(worktree)
        if not folder.is_absolute() or not folder.is_dir():
            return None
    except (OSError, ValueError):
        return None
    found = checkout_of(folder / "x")
    return found if found.is_git else Checkout(folder, is_git=False)


async def _surviving_there(
    connection: asyncpg.Connection, checkout: Checkout, since: datetime, progress: Progress
) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Count the lines of a checkout that stand, by day of writing and model; each once, however often it was copied."""
    lines, seen = Counter[tuple[str, str]](), set()
    projects = await projects_of(connection, checkout)
    known = {row["path"] for row in await connection.fetch(KNOWN, projects)}
    with ManyFiles(checkout, None) as contents:
        asking = FileBlamer(connection, contents, projects, None)
        there = checkout.files(None) if checkout.is_git else sorted(known)
        files = await searched(asking, contents, there, known, progress)
        for at, path in enumerate(files.chosen):
            progress("files checked for surviving lines", at, len(files.chosen))
            content = content_of(contents, path)
            if content is None or b"\0" in content:
                continue
            for line in (await asking.about(path, content)).lines:
                origin = (line.record_id, line.origin_path, line.origin_line)
                if line.contributor != "ai" or line.at is None or line.at < since or origin in seen:
                    continue
                seen.add(origin)
                lines[line.at.date().isoformat(), line.model_id or "unknown"] += 1
    return lines, [f"{note.partition(':')[0]}; their lines count as lost." for note in files.notes]
