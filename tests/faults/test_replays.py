"""The same again: batches, lines and clocks that come twice."""

import time
from pathlib import Path

import pytest

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
        assert shipping.counts == (3, 1, 2, 0)
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
        assert shipping.counts == (31, 1, 30, 0)
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
