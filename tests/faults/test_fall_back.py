"""A database that knows less than it did, while nobody has anything to say: found out, and sent again."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent_trace_sidecar.postgres import failover as lookout
from agent_trace_sidecar.postgres.sink import PostgresSink
from agent_trace_sidecar.records.rows import LogKey
from tests.support.oracle import Oracle
from tests.support.postgres import execute, fetch
from tests.support.proxy import Proxy
from tests.support.shipping import Shipping
from tests.support.sidecar import ShimDouble, sidecar_env
from tests.support.tailing import Writer, all_stored, tailing
from tests.support.waiting import eventually, eventually_async

TABLES = "agent_trace_events, agent_trace_dedupe, agent_trace_sources, agent_trace_dead_letters, agent_trace_records"
EMPTY = f"TRUNCATE {TABLES}"


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For each look of an idle shipper, how many logs it asked about; there are several in a second."""
    monkeypatch.setattr(lookout, "FAILOVER_CHECK_S", 0.1)
    monkeypatch.setattr(lookout, "FAILOVER_CHECK_SOON_S", 0.05)
    found: list[int] = []
    ask = PostgresSink.logs_behind

    async def counted(sink: PostgresSink, told: Mapping[LogKey, int]) -> set[LogKey]:
        found.append(len(told))
        return await ask(sink, told)

    monkeypatch.setattr(PostgresSink, "logs_behind", counted)
    return found


async def again(shipping: Shipping, url: str, number: int) -> None:
    """Wait until so many lines are there, without a new one."""

    async def there() -> bool:
        assert not shipping.task.done(), shipping.task
        query = (
            "SELECT (SELECT count(*) FROM agent_trace_events) + (SELECT count(*) FROM agent_trace_dead_letters) AS n"
        )
        return bool(await asyncio.to_thread(lambda: fetch(url, query)[0]["n"]) == number)

    await eventually_async(there, 10, f"{number} lines are there")


@pytest.mark.usefixtures("looks")
async def test_the_database_is_emptied_under_an_idle_sidecar(migrated_url: str, tmp_path: Path) -> None:
    """Twice: all that the spool holds is there again, and nobody calls that a failure."""
    oracle = Oracle(150)
    async with Shipping(tmp_path / "spool", migrated_url, looks=True) as shipping:
        shipping.append([oracle.line() for _ in range(50)])
        await shipping.delivered()
        for _ in range(2):
            await asyncio.to_thread(execute, migrated_url, EMPTY)
            await again(shipping, migrated_url, 50)
        await shipping.delivered()
        assert shipping.causes == []
    assert oracle.check(migrated_url, []).problems == []


async def test_a_fail_over_is_noticed_by_the_lost_connection(
    migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before the next regular look."""
    monkeypatch.setattr(lookout, "FAILOVER_CHECK_S", 1000.0)
    monkeypatch.setattr(lookout, "FAILOVER_CHECK_SOON_S", 0.2)
    oracle = Oracle(151)
    with Proxy(migrated_url) as proxy:
        async with Shipping(tmp_path / "spool", proxy.url, looks=True) as shipping:
            shipping.append([oracle.line() for _ in range(50)])
            await shipping.delivered()
            await again(shipping, migrated_url, 50)
            await asyncio.to_thread(execute, migrated_url, EMPTY)
            proxy.cut()
            await again(shipping, migrated_url, 50)
    assert oracle.check(migrated_url, []).problems == []


async def test_an_idle_sidecar_leaves_a_database_that_is_away_alone(
    migrated_url: str, tmp_path: Path, looks: list[int]
) -> None:
    """One attempt for each look, and no failure: nothing waits. It finds out when the database is back."""
    oracle = Oracle(152)
    with Proxy(migrated_url) as proxy:
        async with Shipping(tmp_path / "spool", proxy.url, looks=True) as shipping:
            shipping.append([oracle.line() for _ in range(50)])
            await shipping.delivered()
            proxy.refuse(on=True)
            proxy.cut()
            await asyncio.to_thread(execute, migrated_url, EMPTY)
            before, asked = proxy.accepted, len(looks)

            async def looked() -> bool:
                return len(looks) >= asked + 5

            await eventually_async(looked, 10)
            assert proxy.accepted - before <= len(looks) - asked + 1
            assert not shipping.shipper.health.failures
            proxy.refuse(on=False)
            await again(shipping, migrated_url, 50)
            assert shipping.causes == []
    assert oracle.check(migrated_url, []).problems == []


async def test_a_sidecar_with_nothing_to_send_again_does_not_ask(
    migrated_url: str, tmp_path: Path, looks: list[int]
) -> None:
    """Its spool is empty."""
    async with Shipping(tmp_path / "spool", migrated_url, looks=True) as shipping:
        watch = shipping.shipper._sink.failover
        times = set()

        async def has_had_the_chance() -> bool:
            times.add(watch._at)
            return len(times) > 5

        await eventually_async(has_had_the_chance, 10)
    assert looks == []


def soon(tmp_path: Path, env: dict[str, str]) -> dict[str, str]:
    """An environment in which a sidecar looks every half second."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "from agent_trace_sidecar import limits\nlimits.FAILOVER_CHECK_S = 0.5\nlimits.ADOPT_INTERVAL_S = 0.5\n"
    )
    return env | {"PYTHONPATH": f"{tmp_path / 'site'}:{Path(__file__).parents[2]}"}


def test_what_a_sidecar_shipped_that_has_ended_is_sent_again(migrated_url: str, tmp_path: Path) -> None:
    """The session is over and the backup is older: the next sidecar with the same state folder finds out."""
    env = soon(tmp_path, sidecar_env(tmp_path / "state", migrated_url, flush_ms="30"))
    ended, living = Oracle(153), Oracle(154)
    with ShimDouble(env) as shim:
        for _ in range(30):
            shim.send(*ended.line())
        assert shim.close() == 0
    execute(migrated_url, EMPTY)
    with ShimDouble(env) as shim:
        shim.send(*living.line("small"))
        living.add(ended)
        eventually(lambda: living.check(migrated_url, []).problems == [], 20)
        execute(migrated_url, EMPTY)
        eventually(lambda: living.check(migrated_url, []).problems == [], 20)
        assert shim.close() == 0


def test_an_idle_tail_notices_too(migrated_url: str, tmp_path: Path) -> None:
    """Files that are quiet for long are read again as far as the database has lost them."""
    env = soon(tmp_path, sidecar_env(tmp_path / "state", migrated_url, flush_ms="30"))
    logs = tmp_path / "logs"
    logs.mkdir()
    one, two = Writer(), Writer()
    with tailing(env, tmp_path / "log", logs) as tail:
        (logs / "one.jsonl").write_bytes(one.lines(100))
        (logs / "two.jsonl").write_bytes(two.lines(100))
        all_stored(migrated_url, [one, two])
        execute(migrated_url, EMPTY)
        all_stored(migrated_url, [one, two])
        assert tail.stop() == 0
