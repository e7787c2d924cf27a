"""`migrate`: creates the tables, or brings them up to date."""

import argparse
from datetime import UTC, datetime

import asyncpg

from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import say
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.postgres.explain import wrong
from agent_trace_sidecar.postgres.migrate import migrate
from agent_trace_sidecar.postgres.partitions import make_months
from agent_trace_sidecar.postgres.schema_check import check_shape


def arguments(_: argparse.ArgumentParser) -> None:
    """It has none."""


def run(config: Config, _: argparse.Namespace) -> int:
    """Apply what is not applied yet, make sure that the columns are as created, and create the coming months."""

    async def work(connection: asyncpg.Connection) -> list[str]:
        applied = [f"applied {version}" for version in await migrate(connection)]
        await check_shape(connection)
        made = await make_months(connection, datetime.now(UTC).date())
        return applied + [f"created {month}" for month in made.months] + made.notes + await wrong(connection)

    say(*with_database(config, work, prepare=False) or ["the tables are up to date"])
    return 0
