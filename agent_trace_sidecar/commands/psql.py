"""`psql`: opens psql on the configured database; the embedded one is kept up meanwhile."""

import argparse
from typing import Final

from agent_trace_sidecar.commands.common import CommandError
from agent_trace_sidecar.commands.database import with_url
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits import processes

_FOR_PSQL: Final = (
    "PG*",
    "PSQL*",
    "PAGER",
    "LESS*",
    "EDITOR",
    "VISUAL",
    "INPUTRC",
    "SHELL",
    "KRB5*",
    "COLUMNS",
    "LINES",
    "COLORTERM",
    "NO_COLOR",
)
"""The variables that psql itself reads."""


def arguments(_: argparse.ArgumentParser) -> None:
    """All of them are psql's."""


def run(config: Config, given: argparse.Namespace) -> int:
    """Run psql, and return its exit code."""
    program = processes.find("psql")
    if program is None:
        raise CommandError("psql is not on PATH: install PostgreSQL's client programs.")

    async def work(url: str) -> int:
        return processes.interact([program, url, *given.rest], env=processes.environment(*_FOR_PSQL))

    return with_url(config, work)
