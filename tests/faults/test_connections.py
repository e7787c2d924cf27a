"""A connection that breaks at any step of a batch, in any way: the batch is there once, soon after."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.oracle import Oracle
from tests.support.postgres import PostgresServers, executed, fetch
from tests.support.proxy import PHASES, Break, Error, Proxy
from tests.support.shipping import HURRIED, UNHURRIED, Deadlines, Shipping
from tests.support.waiting import patient

BREAKS = [
    *((phase, Break.RESET) for phase in PHASES),
    *((phase, Break.BLACK_HOLE) for phase in PHASES),
    *((phase, Break.HALF_OPEN) for phase in PHASES if phase != "connect"),
    *((phase, Break.STALLED) for phase in PHASES if phase != "connect"),
    *((phase, Break.ANSWER_LOST) for phase in PHASES if phase not in ("connect", "startup")),
]


@pytest.fixture
def proxy(migrated_url: str) -> Iterator[Proxy]:
    """The test's database, behind a proxy."""
    with Proxy(migrated_url) as made:
        yield made


@pytest.fixture
def oracle(request: pytest.FixtureRequest, migrated_url: str) -> Iterator[Oracle]:
    """What issues the lines; the database must agree with it when the test is over."""
    made = Oracle(len(request.node.name))
    yield made
    assert made.check(migrated_url, []).problems == []


@pytest.fixture
async def nothing_unretrieved() -> AsyncIterator[None]:
    """No future or task that fails is left to asyncio to complain of."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    yield
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


@pytest.mark.usefixtures("nothing_unretrieved")
@pytest.mark.parametrize(("phase", "how"), BREAKS, ids=[f"{phase}-{how.value}" for phase, how in BREAKS])
async def test_a_connection_breaks(tmp_path: Path, proxy: Proxy, oracle: Oracle, phase: str, how: Break) -> None:
    """At each phase: reset, black-holed, half-open, its buffers full, or the answer is lost."""
    proxy.arm(phase, how)
    noticed = how in (Break.RESET, Break.ANSWER_LOST)
    async with Shipping(tmp_path / "spool", proxy.url, deadlines=UNHURRIED if noticed else HURRIED) as shipping:
        shipping.append([oracle.line("very large")] if how is Break.STALLED else [oracle.line() for _ in range(30)])
        await shipping.delivered()
        silent = "connection" if phase in ("connect", "startup") else "too_slow"
        # Where a deadline is hurried it may be missed before and after, too.
        assert len(shipping.causes) == 1 if noticed else silent in shipping.causes
    assert proxy.hits == {f"{phase}:{how.value}": 1}


REFUSALS = ["57P03", "53300", "57P01", "28P01", "28000", "3D000", "08006", "25006", "53100", "57014"]


@pytest.mark.parametrize("sqlstate", REFUSALS)
async def test_a_server_refuses_the_connection(tmp_path: Path, proxy: Proxy, oracle: Oracle, sqlstate: str) -> None:
    """Starting up, full, password or database wrong: it waits, says why, and delivers when the server relents."""
    proxy.arm("startup", Error(sqlstate), times=2)
    async with Shipping(tmp_path / "spool", proxy.url) as shipping:
        shipping.append([oracle.line() for _ in range(10)])
        await shipping.delivered()
        assert sqlstate in shipping.causes
        assert shipping.was_unhealthy == (sqlstate[:2] in ("28", "3D"))


ERRORS = ["57014", "55P03", "40P01", "40001", "53100", "53200", "25006", "58030", "XX000", "0A000", "42501", "P0001"]


@pytest.mark.parametrize("sqlstate", ERRORS)
async def test_a_batch_is_refused(tmp_path: Path, migrated_url: str, oracle: Oracle, sqlstate: str) -> None:
    """Whatever the server says of the moment, not of a row: nothing is dead-lettered, all is there afterwards."""
    await executed(
        migrated_url,
        f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE '{sqlstate}'; END $$",
        "CREATE TRIGGER refuse BEFORE UPDATE ON agent_trace_sources EXECUTE FUNCTION refuse()",
    )
    oracle.hostile = False
    async with Shipping(tmp_path / "spool", migrated_url) as shipping:
        shipping.append([oracle.line() for _ in range(10)])
        await shipping.failed(sqlstate)
        assert shipping.counts.read == 0
        await executed(migrated_url, "DROP TRIGGER refuse ON agent_trace_sources")
        await shipping.delivered()
        assert shipping.counts == (10, 10, 0, 0, 0)


async def test_every_commit_loses_its_answer(tmp_path: Path, proxy: Proxy, oracle: Oracle) -> None:
    """Ten times in a row: each batch is found to be there, and none is sent again."""
    async with Shipping(tmp_path / "spool", proxy.url) as shipping:
        for _ in range(10):
            proxy.arm("commit", Break.ANSWER_LOST)
            shipping.append([oracle.line() for _ in range(5)])
            await shipping.delivered()
        assert shipping.counts.duplicate == 0
    assert proxy.hits["commit:answer_lost"] == 10


async def test_a_client_that_vanishes_leaves_no_locks(
    tmp_path: Path, proxy: Proxy, oracle: Oracle, migrated_url: str
) -> None:
    """A batch's connection is black-holed and stays open at the server: the server ends its transaction by itself."""
    with Proxy(migrated_url) as other:
        proxy.keep_servers = True
        proxy.arm("advance", Break.BLACK_HOLE)
        async with Shipping(tmp_path / "spool", proxy.url, deadlines=HURRIED) as shipping:
            shipping.append([oracle.line() for _ in range(5)])
            await shipping.failed("too_slow")
            shipping.url = other.url
            await shipping.delivered()
    waiting = (
        "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    assert fetch(migrated_url, waiting)[0]["n"] == 0


async def test_the_first_host_of_two_is_without_power(
    tmp_path: Path, proxy: Proxy, oracle: Oracle, migrated_url: str
) -> None:
    """It neither answers nor refuses: the second one is asked in time."""
    with Proxy(migrated_url) as dead:
        dead.swallow(on=True)
        url = proxy.url.replace(f"127.0.0.1:{proxy.port}", f"127.0.0.1:{dead.port},127.0.0.1:{proxy.port}")
        async with Shipping(tmp_path / "spool", url, deadlines=Deadlines(UNHURRIED.write_s, patient(1))) as shipping:
            shipping.append([oracle.line() for _ in range(10)])
            await shipping.delivered()
            # Where even the second one is too slow for the deadline, both are asked again.
            assert dead.accepted == 1 + len(shipping.causes)


async def test_the_first_host_of_two_is_a_standby_by_now(tmp_path: Path, postgres_servers: PostgresServers) -> None:
    """The old primary is back after a fail-over, and read-only: the other one is taken, with or without saying so."""
    made = Oracle(160)
    old, new = (
        postgres_servers.own(tcp=True, settings={"default_transaction_read_only": "on"}),
        postgres_servers.own(tcp=True),
    )
    try:
        url = f"postgresql://agent_trace@127.0.0.1:{old.tcp_port},127.0.0.1:{new.tcp_port}/migrated?sslmode=disable"
        for name, more in (("unsaid", ""), ("said", "&target_session_attrs=read-write")):
            async with Shipping(tmp_path / name, url + more) as shipping:
                shipping.append([made.line() for _ in range(10)])
                await shipping.delivered()
                assert shipping.causes == []
        assert made.check(new.url, []).problems == []
    finally:
        old.close()
        new.close()


async def test_a_way_to_the_server_that_is_too_slow_for_a_batch(tmp_path: Path, proxy: Proxy, oracle: Oracle) -> None:
    """The whole backlog does not get through before the deadline: it goes in smaller batches."""
    oracle.hostile = False
    proxy.bytes_per_s = int(90_000 / HURRIED.write_s)
    async with Shipping(
        tmp_path / "spool", proxy.url, batch_size=1000, segment_bytes=1 << 20, deadlines=HURRIED
    ) as shipping:
        shipping.append([oracle.line("middle") for _ in range(30)])
        await shipping.delivered(40)
        assert "too_slow" in shipping.causes
        shipping.append([oracle.line("large")])
        await shipping.delivered(40)
        proxy.bytes_per_s = 0
        shipping.append([oracle.line("middle") for _ in range(100)])
        await shipping.delivered()
