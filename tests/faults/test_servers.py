"""Servers that are away, die, freeze, fall back, or are not as they should be. Real servers, in-process shipping."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from agent_trace_sidecar.postgres.errors import Fate, verdict
from tests.support.oracle import Oracle
from tests.support.postgres import OwnServer, PostgresServers, connected, execute, executed, fetch, with_database
from tests.support.proxy import Break, Proxy
from tests.support.shipping import HURRIED, Shipping
from tests.support.sidecar import ShimDouble, sidecar_env
from tests.support.waiting import eventually

ANOTHER = "another"


@pytest.fixture
def server(postgres_servers: PostgresServers) -> Iterator[OwnServer]:
    """A private server with the schema, over TCP as well."""
    made = postgres_servers.own()
    yield made
    made.close()


def check(oracle: Oracle, url: str) -> None:
    """The oracle finds nothing wrong."""
    assert oracle.check(url, []).problems == []


@pytest.mark.parametrize("how", ["fast", "immediate", "kill"])
async def test_the_server_stops_and_comes_back(server: OwnServer, tmp_path: Path, how: str) -> None:
    """Four rounds of each: down in the middle of a stream of batches, up again a moment later."""
    oracle = Oracle(50)
    stops: dict[str, Callable[[], None]] = {
        "fast": lambda: server.stop("fast"),
        "immediate": lambda: server.stop("immediate"),
        "kill": server.kill,
    }
    async with Shipping(tmp_path / "spool", server.url) as shipping:
        for _ in range(4):
            shipping.append([oracle.line() for _ in range(60)])
            await asyncio.to_thread(stops[how])
            shipping.append([oracle.line() for _ in range(20)])
            await asyncio.to_thread(server.start)
            await shipping.delivered()
        assert shipping.causes
    check(oracle, server.url)


async def test_the_server_is_killed_in_mid_copy(server: OwnServer, tmp_path: Path) -> None:
    """Four rounds: rows are on their way when the postmaster and all backends are killed by force."""
    oracle = Oracle(51)
    with Proxy(server.url) as proxy:
        async with Shipping(tmp_path / "spool", proxy.url, deadlines=HURRIED) as shipping:
            for round_ in range(4):
                proxy.arm("copy_data", Break.BLACK_HOLE)
                shipping.append([oracle.line() for _ in range(30)])
                await asyncio.to_thread(_reached, proxy, round_ + 1)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                await shipping.delivered()
    check(oracle, server.url)


def _reached(proxy: Proxy, hits: int) -> None:
    eventually(lambda: proxy.hits.total() == hits, 10)


def test_the_server_is_down_at_the_start(server: OwnServer, tmp_path: Path) -> None:
    """Lines are taken and acknowledged at once; they are in the database soon after it has come up."""
    oracle = Oracle(52)
    server.stop()
    with ShimDouble(sidecar_env(tmp_path / "state", server.url, flush_ms="30"), log=tmp_path / "log") as shim:
        for _ in range(50):
            shim.send(*oracle.line())
        shim.drained(10)
        server.start()
        query = "SELECT count(*) AS n FROM agent_trace_events"
        eventually(lambda: fetch(server.url, query)[0]["n"] > 0, 10, "the first rows are there")
        assert shim.close() == 0
    check(oracle, server.url)


async def test_a_backend_freezes_under_copy(server: OwnServer, tmp_path: Path) -> None:
    """SIGSTOP while COPY streams more than the socket holds: cut at the deadline, and delivered by another backend."""
    oracle = Oracle(53)
    async with Shipping(tmp_path / "spool", server.url, batch_size=1000, deadlines=HURRIED) as shipping:
        shipping.append([oracle.line("small")])
        await shipping.delivered()
        pids = _backends(server)
        assert pids
        _send(pids, signal.SIGSTOP)
        try:
            shipping.append([oracle.line("large") for _ in range(30)])
            await shipping.failed("too_slow")
            await shipping.delivered()
        finally:
            _send(pids, signal.SIGCONT)
    check(oracle, server.url)


def _backends(server: OwnServer) -> list[int]:
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'agent-trace-sidecar'"
    return [row["pid"] for row in fetch(server.url, query)]


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)


async def test_the_whole_server_freezes(server: OwnServer, tmp_path: Path) -> None:
    """Nothing answers, not even to a new connection: tried again until it does."""
    oracle = Oracle(54)
    async with Shipping(tmp_path / "spool", server.url, deadlines=HURRIED) as shipping:
        shipping.append([oracle.line()])
        await shipping.delivered()
        server.freeze()
        try:
            shipping.append([oracle.line() for _ in range(20)])
            await shipping.failed("connection")
        finally:
            server.thaw()
        await shipping.delivered()
    check(oracle, server.url)


REQUIRED = """
ALTER TABLE agent_trace_events ADD COLUMN x int NOT NULL DEFAULT 1;
ALTER TABLE agent_trace_events ALTER COLUMN x DROP DEFAULT
"""
HARMS = {
    "table missing": (
        "ALTER TABLE agent_trace_events RENAME TO away",
        "ALTER TABLE away RENAME TO agent_trace_events",
        "42P01",
    ),
    "gate missing": (
        "ALTER TABLE agent_trace_dedupe RENAME TO away",
        "ALTER TABLE away RENAME TO agent_trace_dedupe",
        "42P01",
    ),
    "column missing": (
        "ALTER TABLE agent_trace_events RENAME COLUMN tool TO away",
        "ALTER TABLE agent_trace_events RENAME COLUMN away TO tool",
        "42703",
    ),
    "column added": (
        REQUIRED,
        "ALTER TABLE agent_trace_events DROP COLUMN x",
        "42703",
    ),
    "type changed": (
        "ALTER TABLE agent_trace_events ALTER COLUMN seq TYPE text",
        "ALTER TABLE agent_trace_events ALTER COLUMN seq TYPE bigint USING seq::bigint",
        "42703",
    ),
    "privilege revoked": (
        "REVOKE INSERT ON agent_trace_events FROM writer",
        "GRANT INSERT ON agent_trace_events TO writer",
        "42501",
    ),
    "not allowed to log in": ("ALTER ROLE writer NOLOGIN", "ALTER ROLE writer LOGIN", "28000"),
    "no connection left": ("ALTER ROLE writer CONNECTION LIMIT 0", "ALTER ROLE writer CONNECTION LIMIT -1", "53300"),
    "read-only": (
        "ALTER ROLE writer SET default_transaction_read_only = on",
        "ALTER ROLE writer RESET default_transaction_read_only",
        "25006",
    ),
}
LOUD = {"42P01", "42703", "42501", "28000", "25006"}


@pytest.mark.parametrize("harm", HARMS)
async def test_the_database_is_not_as_it_should_be(server: OwnServer, tmp_path: Path, harm: str) -> None:
    """Under a live connection: it waits, says what to do, dead-letters nothing, and delivers all when it is mended."""
    oracle = Oracle(55, hostile=False)
    do, undo, cause = HARMS[harm]
    await executed(
        server.url,
        "CREATE ROLE writer LOGIN",
        "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO writer",
    )
    async with Shipping(tmp_path / "spool", server.url.replace("agent_trace@", "writer@"), retry_max=1000) as shipping:
        shipping.append([oracle.line() for _ in range(10)])
        await shipping.delivered()
        await executed(server.url, do)
        if "ROLE" in do:
            fetch(server.url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'writer'")
        shipping.append([oracle.line() for _ in range(10)])
        await shipping.failed(cause)
        assert shipping.was_unhealthy == (cause in LOUD)
        await executed(server.url, undo)
        fetch(server.url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'writer'")
        await shipping.delivered()
        assert shipping.counts == (20, 20, 0, 0, 0)
    check(oracle, server.url)


async def test_a_partition_is_missing(migrated_url: str) -> None:
    """Postgres gives it the code of a violated check, but no row is to blame."""
    await executed(migrated_url, "CREATE TABLE parted (id int CHECK (id > 0)) PARTITION BY RANGE (id)")
    async with connected(migrated_url) as connection:
        with pytest.raises(asyncpg.CheckViolationError) as missing:
            await connection.copy_records_to_table("parted", records=[(1,)])
        await executed(migrated_url, "CREATE TABLE parted_default PARTITION OF parted DEFAULT")
        with pytest.raises(asyncpg.CheckViolationError) as violated:
            await connection.copy_records_to_table("parted", records=[(0,)])
    assert verdict(missing.value).fate is Fate.OPERATOR
    assert verdict(violated.value).fate is Fate.ROW


async def test_the_password_is_wrong_and_then_right(server: OwnServer, tmp_path: Path) -> None:
    """Nothing is lost while the operator mends it."""
    oracle = Oracle(56, hostile=False)
    await executed(
        server.url, "CREATE ROLE writer LOGIN PASSWORD 'right'", "GRANT ALL ON ALL TABLES IN SCHEMA public TO writer"
    )
    _ask_for_a_password(server)
    async with Shipping(tmp_path / "spool", server.url.replace("agent_trace@", "writer:wrong@")) as shipping:
        shipping.append([oracle.line() for _ in range(10)])
        await shipping.failed("28P01")
        assert shipping.was_unhealthy
        await executed(server.url, "ALTER ROLE writer PASSWORD 'wrong'")
        await shipping.delivered()
    check(oracle, server.url)


def _ask_for_a_password(server: OwnServer) -> None:
    hba = Path(fetch(server.url, "SHOW hba_file")[0]["hba_file"])
    hba.write_text("local all writer scram-sha-256\n" + hba.read_text())
    execute(server.url, "SELECT pg_reload_conf()")


# -- a database that knows less than we do -----------------------------------------------------------------------


async def test_the_database_is_emptied(server: OwnServer, tmp_path: Path) -> None:
    """Under a live connection: everything that the spool still holds is there again."""
    oracle = Oracle(57)
    tables = (
        "agent_trace_events, agent_trace_dedupe, agent_trace_sources, agent_trace_dead_letters, agent_trace_records"
    )
    async with Shipping(tmp_path / "spool", server.url) as shipping:
        shipping.append([oracle.line() for _ in range(50)])
        await shipping.delivered()
        await executed(server.url, f"TRUNCATE {tables}")
        shipping.append([oracle.line() for _ in range(5)])
        await shipping.delivered()
    check(oracle, server.url)


async def test_the_schema_is_dropped(server: OwnServer, tmp_path: Path) -> None:
    """The next connection makes it anew, and everything that the spool still holds is there again."""
    oracle = Oracle(58)
    async with Shipping(tmp_path / "spool", server.url) as shipping:
        shipping.append([oracle.line() for _ in range(50)])
        await shipping.delivered()
        await executed(server.url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        shipping.append([oracle.line() for _ in range(5)])
        await shipping.delivered()
    check(oracle, server.url)


async def test_the_database_is_dropped_and_made_anew(server: OwnServer, tmp_path: Path) -> None:
    """Under a live connection, with lines on their way: it waits, makes the tables, and sends everything again."""
    oracle = Oracle(62)
    admin = server.url.replace("/migrated?", "/postgres?")
    async with Shipping(tmp_path / "spool", server.url) as shipping:
        shipping.append([oracle.line() for _ in range(50)])
        await shipping.delivered()
        await executed(admin, "DROP DATABASE migrated WITH (FORCE)")
        shipping.append([oracle.line() for _ in range(20)])
        await shipping.failed("3D000")
        await executed(admin, "CREATE DATABASE migrated")
        await shipping.delivered()
    check(oracle, server.url)


async def test_fail_over_to_a_replica_that_lags(server: OwnServer, tmp_path: Path) -> None:
    """The new primary has not seen the last batches: they are sent again from the spool, without a gap or a double."""
    oracle = Oracle(59)
    with Proxy(server.url) as proxy:
        async with Shipping(tmp_path / "spool", proxy.url) as shipping:
            shipping.append([oracle.line() for _ in range(40)])
            await shipping.delivered()
            _swap(server, proxy, ANOTHER, copy=True)
            shipping.append([oracle.line() for _ in range(40)])
            await shipping.delivered()
            _swap(server, proxy, ANOTHER, copy=False)
            shipping.append([oracle.line() for _ in range(10)])
            await shipping.delivered()
    check(oracle, server.url)


def _swap(server: OwnServer, proxy: Proxy, name: str, *, copy: bool) -> None:
    """With `copy`, make a copy of the present state; without, put it in the database's place."""
    admin = server.url.replace("/migrated?", "/postgres?")
    proxy.refuse(on=True)
    proxy.cut()
    _until_done(admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'migrated'")
    if copy:
        execute(admin, f"CREATE DATABASE {name} TEMPLATE migrated")
    else:
        execute(admin, "ALTER DATABASE migrated RENAME TO ahead", f"ALTER DATABASE {name} RENAME TO migrated")
    proxy.refuse(on=False)


def _until_done(url: str, query: str) -> None:
    eventually(lambda: not fetch(url, query), 10, "nobody is connected")


async def test_an_older_backup_is_restored_after_a_restart(server: OwnServer, tmp_path: Path) -> None:
    """As a fail-over, but the sidecar is another one when it finds out."""
    oracle = Oracle(60)
    admin = with_database(server.url, "postgres").replace("/migrated?", "/postgres?")
    async with Shipping(tmp_path / "spool", server.url) as shipping:
        shipping.append([oracle.line() for _ in range(20)])
        await shipping.delivered()
    await executed(admin, f"CREATE DATABASE {ANOTHER} TEMPLATE migrated")
    async with Shipping(tmp_path / "spool", server.url) as shipping:
        shipping.append([oracle.line() for _ in range(20)])
        await shipping.delivered()
    await executed(admin, "ALTER DATABASE migrated RENAME TO ahead", f"ALTER DATABASE {ANOTHER} RENAME TO migrated")
    async with Shipping(tmp_path / "spool", server.url) as shipping:
        await shipping.delivered()
    check(oracle, server.url)


async def test_a_connection_that_cannot_be_prepared_is_given_back(migrated_url: str, tmp_path: Path) -> None:
    """The schema can't be read or made: the sidecar tries again with a new connection, and leaves none open."""
    oracle = Oracle(62, hostile=False)
    made: list[asyncpg.Connection] = []

    async def prepare(connection: asyncpg.Connection) -> None:
        made.append(connection)
        if len(made) < 4:
            raise (asyncpg.InsufficientPrivilegeError, asyncpg.LockNotAvailableError, OSError)[len(made) - 1]("no")

    async with Shipping(tmp_path / "spool", migrated_url) as shipping:
        shipping._sink._prepare = prepare
        shipping.append([oracle.line("small") for _ in range(5)])
        await shipping.delivered()
        assert [one.is_closed() for one in made] == [True, True, True, False]
    check(oracle, migrated_url)


async def test_a_spool_that_lost_its_end_goes_on(migrated_url: str, tmp_path: Path) -> None:
    """A damaged disk took lines that were stored; new ones stand in their place in the file, and none is skipped."""
    oracle = Oracle(61, hostile=False)
    folder = tmp_path / "spool"
    async with Shipping(folder, migrated_url, segment_bytes=1 << 20) as shipping:
        shipping.append([oracle.line("small") for _ in range(20)])
        await shipping.delivered()
    next(folder.glob("*.jsonl")).write_bytes(b"")
    shipping = Shipping(folder, migrated_url, segment_bytes=1 << 20)
    shipping.append([oracle.line("small") for _ in range(40)])
    async with shipping:
        await shipping.delivered()
    check(oracle, migrated_url)
