"""What a site of pages consists of: all sessions, the repositories that they wrote in, and three periods.

A site is made again and again. So each page has a version: a digest of everything that it is made from, which is found
without making the page.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.report.cost import SessionFacts, Spent, every_session, spent
from agent_trace_sidecar.report.page import Links
from agent_trace_sidecar.report.repository import KNOWN
from agent_trace_sidecar.report.since import Places, checkouts, places, totals
from agent_trace_sidecar.workspace.checkout import Checkout, CheckoutError

MAX_SESSIONS: Final = 1_000
"""Sessions, each with its subagents, that have a page: the latest."""
PERIODS: Final = (7, 30, 90)
"""In days."""
_NAME_CHARS: Final = 80
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]+")

_WROTE: Final = """
SELECT project, max(repository) AS repository, sum(lines)::bigint AS lines, max(recorded_at) AS last_at,
       array_agg(DISTINCT session_id) FILTER (WHERE session_id IS NOT NULL) AS sessions
FROM agent_trace_lines WHERE contributor = 'ai' AND project IS NOT NULL GROUP BY project
"""
_RANGES: Final = """
SELECT project, count(*) AS rows, count(voided_at) AS voided FROM agent_trace_ranges
WHERE project IS NOT NULL GROUP BY project
"""
_CHANGES: Final = "SELECT project, count(*) AS rows, 0 AS voided FROM agent_trace_file_states GROUP BY project"
_MASKED: Final = "SELECT count(*) FROM agent_trace_masked"
_MASKED_AGAIN: Final = "SELECT max(updated_at) FROM agent_trace_sources WHERE kind = 'redact'"
_RUNS: Final = "SELECT DISTINCT session_id, source_id FROM agent_trace_events WHERE session_id IS NOT NULL"
_STATES: Final = "SELECT source_id, state::text FROM agent_trace_sources WHERE kind = 'instance'"
_LETTERS: Final = """
SELECT named.session_id, count(*) AS letters
FROM unnest($1::text[]) AS named (session_id)
JOIN agent_trace_dead_letters d ON position(convert_to(named.session_id, 'UTF8') IN d.line) > 0
GROUP BY 1
"""


class Family(NamedTuple):
    """A session that a person started, with its subagents."""

    root: SessionFacts
    members: list[SessionFacts]
    """The root first."""
    name: str
    """Of its page, without a suffix."""


class SiteRepository(NamedTuple):
    """A repository that the AI wrote in."""

    label: str
    """Its remote's URL, or its folder."""
    projects: list[str]
    """What its files are recorded under."""
    worktrees: list[str]
    checkout: Checkout | None
    """None where it is not on this machine: it has no page then."""
    lines: int
    """Written by the AI, each as often as it was written."""
    last_at: datetime
    spent: Spent
    """By the sessions that wrote there, and those that started them."""
    sessions: list[str]
    paths: list[str]
    """Of recorded files, where there is no git to list them."""
    state: str
    """A digest of its commit and files."""
    name: str


class Period(NamedTuple):
    """A number of days up to today."""

    days: int
    since: datetime
    spent: Spent
    lines: int

    @property
    def name(self) -> str:
        """Of its page, without a suffix."""
        return f"last-{self.days}-days"


class Stored(NamedTuple):
    """What of the store a page may depend on besides sessions' figures."""

    rows: dict[str, list[tuple[int, int]]]
    """By project: ranges and how many of them are undone, and file states."""
    masked: int
    masked_again_at: datetime | None
    """When `redact --stored` last went through."""


class Site(NamedTuple):
    """All that the index shows, and what the versions of the pages are made from."""

    sessions: dict[str, SessionFacts]
    families: list[Family]
    """The latest first."""
    left_out: int
    """Families beyond `MAX_SESSIONS`."""
    repositories: list[SiteRepository]
    """Those with the most lines first."""
    periods: list[Period]
    """Those in which something is recorded."""
    recorded: Places
    stored: Stored
    gaps: dict[str, list[tuple[tuple[int, int], ...]]]
    """By session the missing numbers of its runs."""
    letters: dict[str, int]
    """By session the dead letters that name it."""
    links: Links
    """From a page in a folder to those in others."""

    def session_version(self, family: Family) -> str:
        """What the page of a session depends on."""
        ids = [one.session_id for one in family.members]
        missing = [(self.gaps.get(one), self.letters.get(one)) for one in ids]
        home = self.links.repositories.get(family.root.worktree or "")
        return digest("session", family.members, missing, home, self.stored.masked_again_at)

    def repository_version(self, one: SiteRepository) -> str:
        """What the page of a repository depends on."""
        wrote = [self.sessions[name] for name in one.sessions if name in self.sessions]
        hrefs = [self.links.sessions.get(name) for name in one.sessions]
        rows = [self.stored.rows.get(project) for project in one.projects]
        return digest("repository", one.state, wrote, hrefs, rows, self.stored.masked_again_at)

    def period_version(self, period: Period, repositories: Iterable[str]) -> str:
        """What the page of a period depends on, given the versions of all repositories."""
        return digest("period", period, list(repositories), self.recorded, list(self.sessions.values()), self.stored)

    def index_version(self) -> str:
        """What the index depends on."""
        shown = [
            (one.label, one.lines, one.last_at, one.spent, one.name, one.checkout is None) for one in self.repositories
        ]
        return digest("index", list(self.sessions.values()), self.left_out, shown, self.periods)

    def notes(self) -> list[str]:
        """What has no page."""
        if not self.left_out:
            return []
        earlier = "1 earlier session has" if self.left_out == 1 else f"{self.left_out:,} earlier sessions have"
        return [f"{earlier} no page: a site has the latest {MAX_SESSIONS:,}; report --session shows any."]


async def gather(connection: asyncpg.Connection, folder: Path | None, now: datetime) -> Site:
    """Find out what there is.

    Args:
        connection: to the store.
        folder: a repository that is read besides those that were recorded on this machine.
        now: the end of the periods.
    """
    sessions = await every_session(connection)
    families = _families(sessions)
    kept = families[:MAX_SESSIONS]
    names = [one.session_id for family in kept for one in family.members]
    recorded = await places(connection, None)
    repositories = await _repositories(connection, sessions, recorded, folder)
    return Site(
        sessions,
        kept,
        len(families) - len(kept),
        repositories,
        [period for days in PERIODS if (period := await _period(connection, days, now)).spent.sessions or period.lines],
        recorded,
        await _stored(connection),
        await _gaps(connection),
        {row["session_id"]: row["letters"] for row in await connection.fetch(_LETTERS, names)},
        _links(kept, repositories),
    )


def _links(families: Iterable[Family], repositories: Iterable[SiteRepository]) -> Links:
    sessions = {one.session_id: f"../sessions/{own.name}.html" for own in families for one in own.members}
    found = dict[str, str]()
    for one in repositories:
        if one.checkout is not None:
            found |= dict.fromkeys([*one.projects, *one.worktrees], f"../repositories/{one.name}.html")
    return Links(sessions, found)


async def _stored(connection: asyncpg.Connection) -> Stored:
    rows: dict[str, list[tuple[int, int]]] = {}
    for statement in (_RANGES, _CHANGES):
        for row in await connection.fetch(statement):
            rows.setdefault(row["project"], []).append((row["rows"], row["voided"]))
    return Stored(rows, await connection.fetchval(_MASKED), await connection.fetchval(_MASKED_AGAIN))


def digest(*parts: object) -> str:
    """A short name for these values and no others."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:32]


def file_name(text: str) -> str:
    """A name for a file, which no other text has."""
    plain = _NOT_IN_NAMES.sub("-", text)[:_NAME_CHARS].strip("-")
    if plain and plain == text:
        return plain
    return f"{plain}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}".strip("-")


def _families(sessions: Mapping[str, SessionFacts]) -> list[Family]:
    """By the session that started the others; one whose parent is not recorded started itself."""
    members: dict[str, list[SessionFacts]] = {}
    for one in sessions.values():
        root, seen = one, {one.session_id}
        while (parent := sessions.get(root.parent_session_id or "")) is not None and parent.session_id not in seen:
            root = parent
            seen.add(root.session_id)
        members.setdefault(root.session_id, []).append(one)
    return [
        Family(sessions[name], sorted(own, key=lambda one: (one.session_id != name, one.session_id)), file_name(name))
        for name, own in members.items()
    ]


async def _repositories(
    connection: asyncpg.Connection, sessions: Mapping[str, SessionFacts], recorded: Places, folder: Path | None
) -> list[SiteRepository]:
    """One for each checkout, and for each project that can't be read."""
    readable = await checkouts(connection, recorded, folder)
    groups: dict[str, list[asyncpg.Record]] = {}
    for row in await connection.fetch(_WROTE):
        checkout = readable.get(row["project"])
        groups.setdefault(str(checkout.root) if checkout else row["project"], []).append(row)
    found = []
    for rows in groups.values():
        one = _repository(rows, sessions, recorded, readable)
        if one.checkout is not None and not one.checkout.is_git:
            known = await connection.fetch(KNOWN, one.projects)
            one = one._replace(paths=sorted(row["path"] for row in known))
        found.append(_with_state(one))
    return sorted(found, key=lambda one: (-one.lines, one.label))


def _repository(
    rows: list[asyncpg.Record],
    sessions: Mapping[str, SessionFacts],
    recorded: Places,
    readable: Mapping[str, Checkout],
) -> SiteRepository:
    projects = sorted(row["project"] for row in rows)
    worktrees = [place for project in projects for place in recorded.get(project, [])]
    checkout = readable.get(projects[0])
    url = next((row["repository"] for row in rows if row["repository"]), None)
    label = str(url or (checkout and checkout.root) or (worktrees or projects)[0])
    wrote = _with_parents({name for row in rows for name in row["sessions"] or ()}, sessions)
    return SiteRepository(
        label,
        projects,
        worktrees,
        checkout,
        sum(row["lines"] for row in rows),
        max(row["last_at"] for row in rows),
        spent(sessions[name] for name in wrote),
        wrote,
        [],
        "",
        file_name(f"{checkout.root.name if checkout else 'repository'}-{digest(projects)[:8]}"),
    )


def _with_parents(names: Iterable[str], sessions: Mapping[str, SessionFacts]) -> list[str]:
    found, waiting = set[str](), list(names)
    while waiting:
        one = sessions.get(waiting.pop())
        if one is not None and one.session_id not in found:
            found.add(one.session_id)
            waiting.append(one.parent_session_id or "")
    return sorted(found)


async def _period(connection: asyncpg.Connection, days: int, now: datetime) -> Period:
    first = (now - timedelta(days=days - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return Period(days, first, *await totals(connection, first))


async def _gaps(connection: asyncpg.Connection) -> dict[str, list[tuple[tuple[int, int], ...]]]:
    missing: dict[UUID, tuple[tuple[int, int], ...]] = {}
    for row in await connection.fetch(_STATES):
        builder = Builder(BuildSettings())
        builder.load(row["source_id"], (row["state"] or "").encode())
        missing[row["source_id"]] = builder.summary(row["source_id"]).gaps
    found: dict[str, list[tuple[tuple[int, int], ...]]] = {}
    for row in sorted(await connection.fetch(_RUNS), key=lambda row: str(row["source_id"])):
        if missing.get(row["source_id"]):
            found.setdefault(row["session_id"], []).append(missing[row["source_id"]])
    return found


def _with_state(one: SiteRepository) -> SiteRepository:
    """With a digest of what its checkout holds, found without reading the files; one that has none has no page."""
    if one.checkout is None:
        return one
    try:
        names = one.checkout.files(None) if one.checkout.is_git else one.paths
    except CheckoutError:
        names = []
    if not names:
        return one._replace(checkout=None)
    try:
        commit = one.checkout.commit("HEAD")
    except CheckoutError:  # no commit yet, or no repository
        commit = ""
    return one._replace(state=digest(commit, [(name, *_touched(one.checkout.root / name)) for name in names]))


def _touched(file: Path) -> tuple[int, int]:
    try:
        status = file.lstat()
    except (OSError, ValueError):
        return -1, 0
    return status.st_size, status.st_mtime_ns
