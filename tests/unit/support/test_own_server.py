"""What the fault tests rely on: a private server stops, dies, freezes and vanishes as it is told to."""

import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.support.postgres import OwnServer, PostgresServers, connected, execute, fetch, is_running
from tests.support.waiting import Deadline, eventually

KILLED_RUN = """
from tests.support.postgres import open_servers
with open_servers() as servers:
    own = servers.own()
    print(servers.scratch, *own.processes(), flush=True)
    own.freeze()
    print("frozen", flush=True)
    input()
"""


def test_a_private_server_is_there_soon(postgres_servers: PostgresServers) -> None:
    """It has the schema, and TCP when asked."""
    deadline = Deadline(10)
    server = postgres_servers.own(tcp=True)
    late = deadline.passed()
    try:
        assert server.tcp_url is not None
        for url in (server.url, server.tcp_url):
            assert fetch(url, "SELECT count(*) FROM agent_trace_events")[0][0] == 0
        assert not late
    finally:
        server.close()
    assert not server.state_dir.exists()


def test_it_can_be_without_the_schema_and_with_other_settings(postgres_servers: PostgresServers) -> None:
    """A test chooses what its server is like."""
    server = postgres_servers.own(migrated=False, settings={"max_connections": "7"})
    try:
        assert fetch(server.url, "SHOW max_connections")[0][0] == "7"
        assert fetch(server.url, "SELECT to_regclass('agent_trace_events')")[0][0] is None
    finally:
        server.close()


def test_it_comes_back_at_the_same_url_after_every_way_to_go(own_server: OwnServer) -> None:
    """Fast, immediate and killed: what was committed is there again."""
    execute(own_server.url, "CREATE TABLE kept (n integer)")
    ways = [own_server.stop, lambda: own_server.stop("smart"), lambda: own_server.stop("immediate"), own_server.kill]
    for number, go in enumerate(ways, start=1):
        execute(own_server.url, f"INSERT INTO kept VALUES ({number})")
        go()
        assert own_server.pid is None
        with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
            fetch(own_server.url, "SELECT 1")
        own_server.start()
        assert fetch(own_server.url, "SELECT count(*) FROM kept")[0][0] == number


async def test_a_frozen_server_answers_again_when_thawed(own_server: OwnServer) -> None:
    """Open connections survive, and wait meanwhile."""
    async with connected(own_server.url) as connection:
        own_server.freeze()
        with pytest.raises(TimeoutError):
            await asyncpg.connect(own_server.url, timeout=0.3)
        own_server.thaw()
        assert await connection.fetchval("SELECT 1") == 1


def test_a_killed_run_leaves_neither_servers_nor_files(postgres_servers: PostgresServers) -> None:
    """Not even a frozen server outlives the run which made it, and other runs are left alone."""
    command = [sys.executable, "-c", KILLED_RUN]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as run:
        assert run.stdout is not None
        folder, *pids = run.stdout.readline().split()
        assert run.stdout.readline() == "frozen\n"
        run.kill()
    assert len(pids) > 1
    eventually(lambda: not any(is_running(int(pid)) for pid in pids), 10, "the server is gone")
    eventually(lambda: not Path(folder).exists(), 10, "its files are gone")
    assert postgres_servers.scratch.exists()
