"""`watch`: what is recorded, line by line, as the database gets it."""

import argparse
import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from agent_trace_sidecar.commands.chosen import session_of
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import say
from agent_trace_sidecar.config import Config

_POLL_S: Final = 1.0
_LATE: Final = timedelta(seconds=60)
"""Events arrive in any order; one that is this much older than the latest is not shown any more."""
_CHARS: Final = 100
_EVENTS: Final = """
SELECT event_id::text AS id, occurred_at AS at, session_id, event_name, tool,
       coalesce(payload #>> '{input,event,properties,part,state,status}', payload #>> '{input,status}') AS status,
       coalesce(payload #>> '{input,event,properties,part,state,title}', payload #>> '{input,input,path}',
                payload #>> '{input,input,command}') AS what,
       payload #>> '{input,event,properties,part,type}' AS part,
       coalesce(payload #>> '{input,event,properties,info,title}',
                payload #>> '{input,event,properties,title}') AS title,
       coalesce(agent_trace_prompt(payload #> '{output,parts}'),
                payload #>> '{input,event,properties,item,payload,text}') AS prompt,
       coalesce(agent_trace_number(payload #> '{input,event,properties,part,cost}'),
                agent_trace_number(payload #> '{input,event,properties,cost}'))::float8 AS cost,
       coalesce(agent_trace_number(payload #> '{input,event,properties,part,tokens,output}'),
                agent_trace_number(payload #> '{input,event,properties,tokens,output}'))::bigint AS output_tokens
FROM agent_trace_events
WHERE occurred_at > $1 AND ($2::text IS NULL OR session_id = $2) AND session_id IS NOT NULL
ORDER BY occurred_at, seq
"""
_RANGES: Final = """
SELECT record_id::text || path || min(start_line) AS id, recorded_at AS at, session_id, 'lines' AS event_name,
       path AS what, sum(end_line - start_line + 1) AS lines, min(model_id) AS model
FROM agent_trace_ranges
WHERE recorded_at > $1 AND ($2::text IS NULL OR session_id = $2) AND session_id IS NOT NULL AND voided_at IS NULL
GROUP BY record_id, recorded_at, session_id, path
ORDER BY recorded_at, path
"""
_ENDS: Final = {"session.idle", "session.execution.succeeded", "session.execution.interrupted"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which session."""
    parser.add_argument(
        "session",
        metavar="SESSION",
        nargs="?",
        help="only this session, from its beginning: its id, a part of it, or latest (default: all, from now on)",
    )


def run(config: Config, given: argparse.Namespace) -> int:
    """Show it until Ctrl-C."""

    async def work(connection: asyncpg.Connection) -> None:
        session = await session_of(connection, given.session) if given.session else None
        since = datetime(1970, 1, 1, tzinfo=UTC) if session else datetime.now(UTC) - timedelta(seconds=2)
        say(f"Watching {session or 'all sessions'}. Ctrl-C ends it.")
        async for line in watched(connection, session, since):
            say(line)

    try:
        with_database(config, work)
    except KeyboardInterrupt:
        return 0
    return 0


async def watched(connection: asyncpg.Connection, session: str | None, since: datetime) -> AsyncIterator[str]:
    """Yield a line for each thing that is worth one, without an end."""
    seen: dict[str, datetime] = {}
    latest = since
    while True:
        rows = [*await connection.fetch(_EVENTS, since, session), *await connection.fetch(_RANGES, since, session)]
        for row in sorted(rows, key=lambda row: row["at"]):
            if row["id"] not in seen:
                seen[row["id"]] = row["at"]
                latest = max(latest, row["at"])
                if text := _text(dict(row)):
                    at = row["at"].astimezone().strftime("%H:%M:%S")
                    yield f"{at}  {row['session_id'][-8:]}  {text}"
        since = max(since, latest - _LATE)
        seen = {id_: at for id_, at in seen.items() if at > since}
        await asyncio.sleep(_POLL_S)


def _text(row: Mapping[str, Any]) -> str:
    """What happened, in one line; empty for what is not shown."""
    name = row["event_name"]
    if name == "lines":
        return f"{'':8}{row['lines']} lines of {row['what']}, by {row['model'] or 'an unknown model'}"
    if name == "session.created":
        return f"started {_short(row['title'])}"
    if row["prompt"]:
        return f"prompt  {_short(row['prompt'])}"
    if row["tool"] and row["status"] in ("completed", "error"):
        return f"{'failed' if row['status'] == 'error' else 'call':8}{row['tool']} {_short(row['what'])}"
    if row["part"] == "step-finish" or name in ("session.step.ended", "session.step.failed"):
        cost = f"${row['cost']:.4f}" if row["cost"] else "no price"
        return f"step    {row['output_tokens'] or 0} output tokens, {cost}"
    return "idle" if name in _ENDS else ""


def _short(text: str | None) -> str:
    line = " ".join((text or "").split())
    return line if len(line) <= _CHARS else line[: _CHARS - 1] + "…"
