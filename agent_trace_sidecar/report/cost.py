"""What the pages show of sessions and of the prompts behind calls, from the views."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple

import asyncpg
import msgspec

_SESSIONS: Final = """
SELECT session_id, parent_session_id, title, host, os_user, worktree, repository, started_at, last_event_at, events,
       messages, steps, calls, failed_calls, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens,
       cache_write_tokens, cost::float8 AS cost, unpriced_steps, records, files, ai_lines, source_id
FROM agent_trace_sessions
"""
_SESSION: Final = f"{_SESSIONS}WHERE session_id = $1"
_PROMPTS: Final = """
SELECT message_id, prompt FROM agent_trace_prompts WHERE session_id = $1 AND prompt IS NOT NULL
"""
_ANSWERS: Final = """
SELECT DISTINCT message_id, payload #>> '{input,event,properties,info,parentID}' AS prompt FROM agent_trace_events
WHERE session_id = $1 AND event_name IN ('message.created', 'message.updated')
  AND payload #>> '{input,event,properties,info,parentID}' IS NOT NULL
"""


class SessionFacts(msgspec.Struct, frozen=True):
    """A row of `agent_trace_sessions`; what is not known is None."""

    session_id: str
    parent_session_id: str | None = None
    title: str | None = None
    host: str | None = None
    os_user: str | None = None
    worktree: str | None = None
    repository: str | None = None
    started_at: datetime | None = None
    last_event_at: datetime | None = None
    events: int = 0
    messages: int = 0
    steps: int = 0
    calls: int = 0
    failed_calls: int = 0
    tokens: int = 0
    """Of all kinds."""
    cost: float | None = None
    unpriced_steps: int = 0
    """Steps that the cost leaves out."""
    records: int = 0
    files: int = 0
    ai_lines: int = 0
    source_id: str = ""


class Spent(NamedTuple):
    """What sessions used together."""

    cost: float | None
    """US dollars; None where no step has a price."""
    unpriced_steps: int
    tokens: int
    sessions: int
    people: int
    """Users of the operating system; 0 where none is known."""


_TOKENS: Final = ("input_tokens", "output_tokens", "reasoning_tokens", "cache_read_tokens", "cache_write_tokens")


async def session_facts(connection: asyncpg.Connection, session_id: str) -> SessionFacts | None:
    """What the views know of a session; None where there is none of that name."""
    row = await connection.fetchrow(_SESSION, session_id)
    return _facts(row) if row is not None else None


async def every_session(connection: asyncpg.Connection) -> dict[str, SessionFacts]:
    """All recorded sessions by id, those with the newest events first."""
    rows = await connection.fetch(f"{_SESSIONS}ORDER BY last_event_at DESC, session_id")
    return {row["session_id"]: _facts(row) for row in rows}


def _facts(row: asyncpg.Record) -> SessionFacts:
    known = {name: row[name] for name in SessionFacts.__struct_fields__ if name not in {"tokens", "source_id"}}
    tokens = sum(int(row[name] or 0) for name in _TOKENS)
    return SessionFacts(**known, tokens=tokens, source_id=str(row["source_id"] or ""))


def spent(sessions: Iterable[SessionFacts]) -> Spent:
    """The sums over sessions, each with its own part of the cost."""
    every = list(sessions)
    costs = [one.cost for one in every if one.cost is not None]
    return Spent(
        sum(costs) if costs else None,
        sum(one.unpriced_steps for one in every),
        sum(one.tokens for one in every),
        len(every),
        len({one.os_user for one in every if one.os_user}),
    )


async def sessions_of(connection: asyncpg.Connection, wanted: Iterable[str]) -> dict[str, SessionFacts]:
    """The sessions of these names and those that started them."""
    found: dict[str, SessionFacts] = {}
    waiting = sorted(set(wanted))
    while waiting:
        session = waiting.pop()
        facts = await session_facts(connection, session)
        found[session] = facts or SessionFacts(session)
        parent = found[session].parent_session_id
        if parent and parent not in found and parent not in waiting:
            waiting.append(parent)
    return found


async def prompts_of(connection: asyncpg.Connection, session_id: str) -> dict[str, str]:
    """The prompts, by the assistant's message that answers each, and by their own."""
    prompts = {row["message_id"]: row["prompt"] for row in await connection.fetch(_PROMPTS, session_id)}
    answers = await connection.fetch(_ANSWERS, session_id)
    return prompts | {row["message_id"]: prompts[row["prompt"]] for row in answers if row["prompt"] in prompts}
