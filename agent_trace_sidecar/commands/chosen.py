"""How every command reads which session and which period is meant."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, overload

import asyncpg

from agent_trace_sidecar.blame.blame import placed, projects_of
from agent_trace_sidecar.commands.common import PROGRAM, CommandError, UsageError
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits.text import counted

LATEST: Final = "latest"
NO_SESSION: Final = (
    f"no session is recorded yet: `{PROGRAM} init` in a project records there from the next start of OpenCode, and "
    f"`{PROGRAM} backfill` stores earlier sessions. `{PROGRAM} status` shows whether it works."
)
_AGE: Final = re.compile(r"([1-9][0-9]{0,4})([hdw])")
_HOURS: Final = {"h": 1, "d": 24, "w": 7 * 24}
_SHOWN: Final = 5

_LAST: Final = """
SELECT session_id FROM agent_trace_events WHERE session_id IS NOT NULL ORDER BY occurred_at DESC LIMIT 1
"""
_PARENT: Final = "SELECT parent_session_id FROM agent_trace_sessions WHERE session_id = $1"
_EXACT: Final = """
SELECT EXISTS (SELECT FROM agent_trace_events WHERE session_id = $1)
    OR EXISTS (SELECT FROM agent_trace_records WHERE session_id = $1)
"""
_PART: Final = """
SELECT session_id FROM agent_trace_events WHERE strpos(session_id, $1) > 0
UNION SELECT session_id FROM agent_trace_records WHERE strpos(session_id, $1) > 0
ORDER BY session_id LIMIT $2
"""


_REWRITTEN: Final = (
    f" If the first commit was amended or rebased since, `{PROGRAM} blame FILE` names the id that the repository had."
)
_RECORDED: Final = """
SELECT EXISTS (SELECT FROM agent_trace_file_states WHERE project = ANY($1::text[]))
    OR EXISTS (SELECT FROM agent_trace_ranges WHERE project = ANY($1::text[]))
    OR EXISTS (SELECT FROM agent_trace_events WHERE payload ->> 'worktree' = $2)
"""


async def session_of(connection: asyncpg.Connection, text: str) -> str:
    """The id of a recorded session.

    Args:
        connection: to the database.
        text: its id, any part that only this id has, or `latest`: the one with the last event, or whose subagent has.

    Raises:
        CommandError: no session or several are meant.
    """
    if text == LATEST:
        return await _latest(connection)
    if await connection.fetchval(_EXACT, text):
        return text
    found = [row["session_id"] for row in await connection.fetch(_PART, text, _SHOWN + 1)] if text else []
    if len(found) == 1:
        return str(found[0])
    if not found:
        raise CommandError(f"no recorded session has {text!r} in its id: `{PROGRAM} sessions` lists them.")
    more = ", ..." if len(found) > _SHOWN else ""
    raise CommandError(
        f"{text!r} is part of several sessions' ids: {', '.join(found[:_SHOWN])}{more}. Give more of one."
    )


async def _latest(connection: asyncpg.Connection) -> str:
    session: str | None = await connection.fetchval(_LAST)
    if session is None:
        raise CommandError(NO_SESSION)
    seen = {session}
    while (parent := await connection.fetchval(_PARENT, session)) and parent not in seen:
        session = str(parent)
        seen.add(session)
    return session


async def check_recorded(config: Config, connection: asyncpg.Connection, place: Path) -> None:
    """See to it that there is something to answer from.

    Args:
        config: names the state folder, whose spools may hold what is not stored yet.
        connection: to the database.
        place: a file of the repository; any name in a folder will do.

    Raises:
        CommandError: nothing is recorded or imported of the repository.
        CheckoutError: it can't be read.
    """
    checkout = await placed(connection, place)
    if not await connection.fetchval(_RECORDED, await projects_of(connection, checkout), str(checkout.root)):
        raise CommandError(f"{nothing_recorded(config, str(checkout.root))}{_REWRITTEN if checkout.is_git else ''}")


def nothing_recorded(config: Config, repository: str) -> str:
    """Say that nothing is stored of a repository, and what to do about it."""
    from agent_trace_sidecar.commands.status import undelivered_events  # noqa: PLC0415 - only where nothing is stored

    if undelivered := undelivered_events(config):
        return (
            f"nothing is stored of {repository} yet; not delivered from this machine: {counted(undelivered, 'event')}. "
            f"`{PROGRAM} status` shows when all are."
        )
    return (
        f"nothing is recorded of {repository}: `{PROGRAM} init` records new sessions in it, and "
        f"`{PROGRAM} backfill` stores earlier ones."
    )


@overload
def moment(option: str, text: str) -> datetime: ...
@overload
def moment(option: str, text: None) -> None: ...
def moment(option: str, text: str | None) -> datetime | None:
    """When a period begins: an age (36h, 30d, 12w), a date or an ISO 8601 time; without a zone it is UTC.

    Raises:
        UsageError: it is none of these.
    """
    if text is None:
        return None
    try:
        if age := _AGE.fullmatch(text):
            return datetime.now(UTC) - timedelta(hours=int(age[1]) * _HOURS[age[2]])
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(f"{option} {text!r} is neither an age nor a time, e.g. 30d, 36h or 2026-01-31.") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
