"""Fixtures for every test: real Postgres servers, and an environment without the developer's own settings."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support import needs
from tests.support.chromium import Browser, chromium
from tests.support.envelopes import DATA, RECORDINGS
from tests.support.examples import load_profile
from tests.support.postgres import OwnServer, PostgresServers, guarded_folder, open_servers

_TAKEN = ("AGENT_TRACE_", "DATABASE_URL", "PG", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
_KEPT = {"AGENT_TRACE_PG_BIN"}

# A run that was started in the background ignores Ctrl-C, and so would every OpenCode that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

load_profile(ci=needs.on_ci())


_LEFT_OUT = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and see to it that nothing outlives this process: neither a sidecar nor a worker."""
    config.addinivalue_line("markers", "needs(*names): programs without which this test can't run")
    config.stash[_LEFT_OUT] = []
    stack = ExitStack()
    config.add_cleanup(stack.close)
    # Whatever is started from here on inherits the name, by which the folder's watchdog finds it.
    os.environ["TEST_RUN_FOLDER"] = f"{stack.enter_context(guarded_folder())}/"


@pytest.hookimpl(trylast=True)  # after `-k` and `-m` have chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Install what the tests need, and leave out those that can't have it."""
    config.stash[_LEFT_OUT] = needs.leave_out(config, items)
    if hasattr(config, "workeroutput"):  # a worker of pytest-xdist: its controller prints the summary
        config.workeroutput["left_out"] = config.stash[_LEFT_OUT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - a class of pytest-xdist
    """Take what a worker has left out; all of them leave out the same."""
    node.config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", [])  # one that crashed has none


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name what was left out."""
    for line in config.stash[_LEFT_OUT]:
        terminalreporter.write_line(line, yellow=True)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """Take the developer's own databases, settings and terminal out of reach of the tests and of what they start."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(_TAKEN) and name not in _KEPT:
                patch.delenv(name)
        patch.setenv("TERM", "xterm-256color")
        patch.setenv("AGENT_TRACE_PG_LINGER_S", "0")  # a server of a test ends with the test
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


@pytest.fixture(scope="module")
def recordings_url(postgres_servers: PostgresServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with all recordings in it, for a module."""
    with postgres_servers.database(migrated=True) as url:
        files = [str(DATA / "recordings" / f"{name}.jsonl") for name in RECORDINGS]
        subprocess.run(
            [sys.executable, "-m", "agent_trace_sidecar", "replay", *files],
            env={**os.environ, "DATABASE_URL": url, "AGENT_TRACE_STATE_DIR": str(tmp_path_factory.mktemp("state"))},
            check=True,
            capture_output=True,
        )
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for all tests of a module."""
    with chromium() as started:
        yield started


@pytest.fixture
def own_server(postgres_servers: PostgresServers) -> Iterator[OwnServer]:
    """A private server with the schema, which the test may stop, kill and freeze."""
    server = postgres_servers.own()
    yield server
    server.close()
