"""`psql`: opens psql on the configured database; the embedded one is kept up meanwhile."""

import argparse
import shutil
import subprocess

from agent_trace_sidecar.commands.common import CommandError
from agent_trace_sidecar.commands.database import with_url
from agent_trace_sidecar.config import Config


def arguments(_: argparse.ArgumentParser) -> None:
    """All of them are psql's."""


def run(config: Config, given: argparse.Namespace) -> int:
    """Run psql, and return its exit code."""
    program = shutil.which("psql")
    if program is None:
        raise CommandError("psql is not on PATH: install PostgreSQL's client programs.")

    async def work(url: str) -> int:
        return subprocess.run([program, url, *given.rest], check=False).returncode  # noqa: ASYNC221

    return with_url(config, work)
