"""The commands that ask about lines: who wrote them, and what became of them."""

import argparse
import os
import sys

import asyncpg

from agent_trace_sidecar.command import CommandError
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.database import with_database
from agent_trace_sidecar.query import blame_text, stats_text
from agent_trace_sidecar.query.blame import Blame, BlameError
from agent_trace_sidecar.query.blame import blame as ask_blame
from agent_trace_sidecar.query.stats import Stats
from agent_trace_sidecar.query.stats import stats as ask_stats
from agent_trace_sidecar.workspace.checkout import CheckoutError


def blame(config: Config, arguments: argparse.Namespace) -> int:
    """Say for every line of a file who wrote it."""

    async def work(connection: asyncpg.Connection) -> Blame:
        return await ask_blame(connection, arguments.file, arguments.rev, include_fallback=arguments.include_fallback)

    try:
        found = with_database(config, work)
    except BlameError as exc:
        raise CommandError(str(exc)) from None
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(blame_text.as_json(found) if arguments.json else "\n".join(blame_text.as_text(found, colour=colour)))
    return 0


def stats(config: Config, arguments: argparse.Namespace) -> int:
    """Say what became of the AI's lines."""

    async def work(connection: asyncpg.Connection) -> Stats:
        return await ask_stats(connection, arguments.paths, arguments.rev, arguments.by)

    try:
        found = with_database(config, work)
    except (BlameError, CheckoutError) as exc:
        raise CommandError(str(exc)) from None
    print(stats_text.as_json(found) if arguments.json else "\n".join(stats_text.as_text(found)))
    return 0
