"""`psql`: opens psql on the configured database; the embedded one is kept up meanwhile."""

import argparse
from typing import Final

from agent_trace_sidecar.commands.common import CommandError
from agent_trace_sidecar.commands.database import with_url
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits import processes
from agent_trace_sidecar.postgres.address import without_password

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
        shown, password = without_password(url)  # `ps` shows a command line to every user
        environment = processes.environment(*_FOR_PSQL) | ({"PGPASSWORD": password} if password is not None else {})
        return processes.interact([program, shown, *given.rest], env=environment)

    return with_url(config, work)
