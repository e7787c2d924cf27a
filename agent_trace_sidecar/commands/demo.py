"""`demo`: records a bundled log of a real OpenCode session into the embedded Postgres, and shows what is there."""

import argparse
import asyncio
import json
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from agent_trace_sidecar.commands.output import say
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.pipeline.replay import replay
from agent_trace_sidecar.postgres.connection import connect
from agent_trace_sidecar.postgres.database import Database
from agent_trace_sidecar.telemetry import logging as log

_PLACES: Final = (
    Path(__file__).parents[1] / "_data" / "demo.jsonl",  # in the wheel
    Path(__file__).parents[2] / "tests" / "data" / "recordings" / "basic-edit-write-bash.jsonl",  # in a checkout
)
_EVENTS: Final = "SELECT event_name, count(*) AS n FROM agent_trace_events GROUP BY 1 ORDER BY 2 DESC, 1"
_CALLS: Final = """
SELECT to_char(occurred_at AT TIME ZONE 'UTC', 'HH24:MI:SS') AS at, tool,
       payload #>> '{input,event,properties,part,state,status}' AS status,
       payload #>> '{input,event,properties,part,state,title}' AS title
FROM agent_trace_events
WHERE event_name = 'message.part.updated' AND tool IS NOT NULL
  AND payload #>> '{input,event,properties,part,state,status}' IN ('completed', 'error')
ORDER BY occurred_at, seq
"""
_RECORD: Final = "SELECT record::text FROM agent_trace_records WHERE tool_name IS NOT NULL ORDER BY recorded_at LIMIT 1"
_LINES: Final = """
SELECT path, coalesce(model_id, '?') AS model, sum(end_line - start_line + 1) AS lines,
       string_agg(start_line || '-' || end_line || ' (' || method || ')', ', '
                  ORDER BY recorded_at, start_line) AS ranges
FROM agent_trace_ranges GROUP BY 1, 2 ORDER BY 1, 2
"""


def arguments(_: argparse.ArgumentParser) -> None:
    """It has none."""


def run(config: Config, _: argparse.Namespace) -> int:
    """Record, show, and say how to look further; return the exit code."""
    config = msgspec.structs.replace(config, database_url=None, state_dir=str(config.state_path / "demo"))
    source = next(path for path in _PLACES if path.is_file())
    done = asyncio.run(replay(config, log.logger(), [source], lambda *_: None))
    say(*(replayed.sentence() for replayed in done))
    asyncio.run(_show(config))
    variable = f"AGENT_TRACE_STATE_DIR={config.state_dir} "
    say("", "Look further:", f"  {variable}agent-trace-sidecar psql", f"  {variable}agent-trace-sidecar export")
    return 0


async def _show(config: Config) -> None:
    database = Database(config.database_url, config.state_path)
    try:
        connection = await connect(await database.url())
        try:
            await _show_tables(connection)
        finally:
            await connection.close()
    finally:
        await database.close()


async def _show_tables(connection: asyncpg.Connection) -> None:
    say("", "Events stored, each once (agent_trace_events):")
    for row in await connection.fetch(_EVENTS):
        say(f"  {row['n']:4}  {row['event_name']}")
    say("", "What the agent did:")
    for row in await connection.fetch(_CALLS):
        say(f"  {row['at']}  {row['tool']:<12} {row['status']:<10} {' '.join((row['title'] or '').split())[:70]}")
    say("", "Lines that the AI wrote, by file and model (agent_trace_ranges):")
    for row in await connection.fetch(_LINES):
        say(f"  {row['path']:<14} {row['model']:<14} {row['lines']:3} lines: {row['ranges']}")
    record = await connection.fetchval(_RECORD)
    if record:
        say("", "One Agent Trace record (agent_trace_records):")
        say(*(f"  {line}" for line in json.dumps(json.loads(record), indent=2).split("\n")))
