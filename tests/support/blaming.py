"""What `blame --json` prints, without the start of a program for each file: simulations ask for hundreds."""

import json
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from agent_trace_sidecar.blame.blame import Blame, blame
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.config import load


def blamed_lines(url: str, file: Path, rev: str | None = None) -> list[dict[str, Any]]:
    """Each line of a file, at a revision or as it stands, with what the database knows of it."""

    async def work(connection: asyncpg.Connection) -> Blame:
        return await blame(connection, file, rev, contents=None, include_fallback=False)

    found = with_database(load({"AGENT_TRACE_DATABASE_URL": url}), work)
    answer: list[dict[str, Any]] = json.loads(msgspec.json.encode(found.lines))
    return answer
