"""Fixtures for every test: real Postgres servers, and an environment without the developer's own settings."""

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

from tests.support.postgres import OwnServer, PostgresServers, open_servers

_KEPT = {"AGENT_TRACE_PG_BIN"}

# A run that was started in the background ignores Ctrl-C, and so would every OpenCode that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says something about the machine's other work, not about what is tested.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """Take the developer's own databases and settings out of reach of the tests and of what they start."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AGENT_TRACE_", "DATABASE_URL", "PG")) and name not in _KEPT:
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def postgres_servers() -> Iterator[PostgresServers]:
    """The servers of this test run, made at first use: `.own(...)` starts a private one."""
    with open_servers() as servers:
        yield servers


@pytest.fixture
def database_url(postgres_servers: PostgresServers) -> Iterator[str]:
    """An empty database of this test's own."""
    with postgres_servers.database(migrated=False) as url:
        yield url


@pytest.fixture
def migrated_url(postgres_servers: PostgresServers) -> Iterator[str]:
    """A database of this test's own, with the schema."""
    with postgres_servers.database(migrated=True) as url:
        yield url


@pytest.fixture
def own_server(postgres_servers: PostgresServers) -> Iterator[OwnServer]:
    """A private server with the schema, which the test may stop, kill and freeze."""
    server = postgres_servers.own()
    yield server
    server.close()
