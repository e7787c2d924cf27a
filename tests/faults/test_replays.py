"""The same again: batches, lines and clocks that come twice."""

import time
from pathlib import Path
from shutil import copytree

import pytest

from agent_trace_sidecar.pipeline import shipper as ship
from agent_trace_sidecar.postgres.sink import FencedError
from tests.support.oracle import Oracle
from tests.support.postgres import execute, fetch
from tests.support.shipping import Shipping


async def test_a_batch_is_delivered_three_times(migrated_url: str, tmp_path: Path) -> None:
    """By three logs: stored once, counted twice as duplicate; dead letters as well."""
    oracle = Oracle(80)
    lines = [oracle.line() for _ in range(200)]
    for name in ("a", "b", "c"):
        async with Shipping(tmp_path / name, migrated_url) as shipping:
            shipping.append(lines)
            await shipping.delivered()
    ledger = oracle.check(migrated_url, [])
    assert ledger.problems == []
    assert ledger.duplicate == 400


async def test_the_same_lines_twice_in_one_batch(migrated_url: str, tmp_path: Path) -> None:
    """One transaction, each id once."""
    oracle = Oracle(81)
    lines = [oracle.line() for _ in range(50)]
    async with Shipping(tmp_path / "spool", migrated_url, batch_size=1000) as shipping:
        shipping.append(lines + lines)
        await shipping.delivered()
    ledger = oracle.check(migrated_url, [])
    assert ledger.problems == []
    assert ledger.duplicate == 50


async def test_the_same_id_with_another_payload(migrated_url: str, tmp_path: Path) -> None:
    """The first one wins, the other one is counted."""
    oracle = Oracle(82)
    seq, line = oracle.line("small")
    async with Shipping(tmp_path / "spool", migrated_url) as shipping:
        for again in (line, line.replace(b'"at":', b'"at":9'), line.replace(b'"tool":"', b'"tool":"other-')):
            shipping.append([(seq, again)])
            await shipping.delivered()
        assert shipping.counts == (3, 1, 2, 0, 0)
    assert oracle.check(migrated_url, []).problems == []


async def test_an_event_that_the_gate_has_forgotten(migrated_url: str, tmp_path: Path) -> None:
    """The gate was emptied by hand: rows that are there already are duplicates, not poison."""
    oracle = Oracle(83, hostile=False)
    lines = [oracle.line() for _ in range(30)]
    async with Shipping(tmp_path / "a", migrated_url) as shipping:
        shipping.append(lines)
        await shipping.delivered()
    execute(migrated_url, "DELETE FROM agent_trace_dedupe")
    async with Shipping(tmp_path / "b", migrated_url) as shipping:
        shipping.append([*lines, oracle.line()])
        await shipping.delivered()
        assert shipping.counts == (31, 1, 30, 0, 0)
    assert fetch(migrated_url, "SELECT count(*) AS n FROM agent_trace_events")[0]["n"] == 31


@pytest.mark.parametrize("jump_s", [-86_400.0 * 365, 86_400.0 * 365])
async def test_the_clock_jumps_during_back_off(
    migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    """A year forth or back while the database is away: pauses are as long as before, and everything is delivered."""
    oracle = Oracle(84)
    execute(migrated_url, "ALTER TABLE agent_trace_sources RENAME TO away")
    async with Shipping(tmp_path / "spool", migrated_url) as shipping:
        shipping.append([oracle.line() for _ in range(20)])
        await shipping.failed("42P01")
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + jump_s)
        execute(migrated_url, "ALTER TABLE away RENAME TO agent_trace_sources")
        await shipping.delivered()
        shipping.append([oracle.line() for _ in range(100)])
        await shipping.delivered()
    assert oracle.check(migrated_url, []).problems == []


async def test_a_forgotten_twin_can_not_write(migrated_url: str, tmp_path: Path) -> None:
    """Two processes believe that they own the same log (as on a shared volume without locks): the later one goes on."""
    oracle = Oracle(85, hostile=False)
    async with Shipping(tmp_path / "a" / "spool", migrated_url) as first:
        first.append([oracle.line("small") for _ in range(5)])
        await first.delivered()
        copytree(tmp_path / "a" / "spool", tmp_path / "b" / "spool")
        async with Shipping(tmp_path / "b" / "spool", migrated_url) as second:
            await second.delivered()
            second.append([oracle.line("small") for _ in range(5)])
            await second.delivered()
            first.append([oracle.line("small")])
            with pytest.raises(FencedError):
                await first.task
            oracle.issued.popitem()  # it was never acknowledged by the one that goes on
    assert oracle.check(migrated_url, []).problems == []


async def test_more_instances_than_are_remembered(
    migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log of many shims, their lines mixed: what was forgotten comes back from the database, and there is no gap."""
    monkeypatch.setattr(ship, "MAX_INSTANCES", 2)
    oracles = [Oracle(seed, hostile=False) for seed in range(130, 136)]
    async with Shipping(tmp_path / "spool", migrated_url) as shipping:
        for _ in range(10):
            for oracle in oracles:
                shipping.append([oracle.line("small")])
            await shipping.delivered()
        assert len(shipping.shipper._known) <= len(oracles)
    query = "SELECT (state->'sequence'->>'missing')::int AS missing, position FROM agent_trace_sources WHERE kind = $1"
    assert [tuple(row) for row in fetch(migrated_url, query, "instance")] == [(0, 10)] * 6
