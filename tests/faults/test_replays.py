"""The same again: batches, lines and clocks that come twice."""

import time
from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree

import pytest

from agent_trace_sidecar.commands.dead_letters import retry
from agent_trace_sidecar.opencode import wire
from agent_trace_sidecar.pipeline import building
from agent_trace_sidecar.postgres.sink import FencedError
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.redaction import Redactor
from tests.support.oracle import Oracle
from tests.support.postgres import connected, executed, fetch
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


NOW = datetime(2026, 11, 22, tzinfo=UTC)
ALTERED = {
    "time": (b'"at":', b'"at":9'),
    "tool": (b'"tool":"', b'"tool":"other-'),
    "output": (b'"output":{"n":', b'"output":{"n":9'),
    "hook": (b'"hook":"tool.execute.before"', b'"hook":"tool.execute.after"'),
    "worktree": (b'"worktree":"/w"', b'"worktree":"/x"'),
    "seq": (b'"seq":1,', b'"seq":7,'),
}


def conflicts(url: str) -> list[bytes]:
    """The lines of the dead letters that are conflicts."""
    rows = fetch(url, "SELECT line FROM agent_trace_dead_letters WHERE reason = 'conflict' ORDER BY position")
    return [row["line"] for row in rows]


@pytest.mark.parametrize("together", [True, False])
async def test_the_same_id_with_other_content(migrated_url: str, tmp_path: Path, together: bool) -> None:
    """The first one stays, the other ones are dead letters, and what stands beside them is stored."""
    oracle = Oracle(82, hostile=False)
    seq, line = oracle.line("small")
    altered = [line.replace(*change) for change in ALTERED.values()]
    assert len({line, *altered}) == 1 + len(ALTERED)
    async with Shipping(tmp_path / "spool", migrated_url, batch_size=1000) as shipping:
        for again in (line, line, *altered, oracle.line("small")[1]):
            shipping.append([(seq, again)])
            if not together:
                await shipping.delivered()
        await shipping.delivered()
        assert shipping.counts == (9, 2, 1, 6, 0)
    assert conflicts(migrated_url) == altered
    assert len(fetch(migrated_url, "SELECT FROM agent_trace_events")) == 2


async def test_a_conflict_is_a_dead_letter_once(migrated_url: str, tmp_path: Path) -> None:
    """Whichever log delivers it again, and in whichever order; a retry leaves it until the first one is forgotten."""
    oracle = Oracle(85, hostile=False)
    lines = [oracle.line("small") for _ in range(30)]
    altered = [(seq, line.replace(b'"tool":"', b'"tool":"other-')) for seq, line in lines[:9]]
    for name, given in {"a": lines + altered, "b": altered + lines, "c": altered}.items():
        async with Shipping(tmp_path / name, migrated_url) as shipping:
            shipping.append(given)
            await shipping.delivered()
    assert sorted(conflicts(migrated_url)) == sorted(line for _, line in altered)
    async with connected(migrated_url) as connection:
        assert await retry(connection, lambda: Builder(BuildSettings()), NOW) == (0, 0, 9)
    await executed(migrated_url, "DELETE FROM agent_trace_events", "DELETE FROM agent_trace_dedupe")
    async with connected(migrated_url) as connection:
        assert await retry(connection, lambda: Builder(BuildSettings()), NOW) == (9, 0, 0)
    assert conflicts(migrated_url) == []


def redelivered(line: bytes) -> dict[str, bytes]:
    """The same event as a second delivery may bring it."""
    masked = Redactor().line(line.replace(b"%s", b"ghp_16C7e42F292c6912E7710c838347Ae178B4a")).line
    return {
        "masked": masked,
        "observed": wire.with_own_fields(line, {}, b'{"late":true}'),
        "without contents": Redactor(enabled=False, capture="metadata").line(line).line,
        "not masked in time": wire.stub(line, "deadline"),
        "mended": line.replace(b"%s", b"\\u0000"),
        "from a file with CRLF": line + b"\r",
    }


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("how", redelivered(b""))
async def test_a_second_delivery_is_no_conflict(migrated_url: str, tmp_path: Path, how: str, first: bool) -> None:
    """Though newer rules mask more, the repository looks different now, or masking took too long."""
    oracle = Oracle(86, hostile=False)
    line = oracle.line("small")[1].replace(b'"text":"', b'"text":"%s')
    again = redelivered(line)[how]
    assert again != line
    async with Shipping(tmp_path / "spool", migrated_url) as shipping:
        for one in (line, again) if first else (again, line):
            shipping.append([(1, one)])
            await shipping.delivered()
        assert shipping.counts == (2, 1, 1, 0, 0)


async def test_an_event_that_the_gate_has_forgotten(migrated_url: str, tmp_path: Path) -> None:
    """The gate was emptied by hand: rows that are there already are duplicates, not poison."""
    oracle = Oracle(83, hostile=False)
    lines = [oracle.line() for _ in range(30)]
    async with Shipping(tmp_path / "a", migrated_url) as shipping:
        shipping.append(lines)
        await shipping.delivered()
    await executed(migrated_url, "DELETE FROM agent_trace_dedupe")
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
    await executed(migrated_url, "ALTER TABLE agent_trace_sources RENAME TO away")
    async with Shipping(tmp_path / "spool", migrated_url) as shipping:
        shipping.append([oracle.line() for _ in range(20)])
        await shipping.failed("42P01")
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + jump_s)
        await executed(migrated_url, "ALTER TABLE away RENAME TO agent_trace_sources")
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
    monkeypatch.setattr(building, "MAX_INSTANCES", 2)
    oracles = [Oracle(seed, hostile=False) for seed in range(130, 136)]
    async with Shipping(tmp_path / "spool", migrated_url) as shipping:
        for _ in range(10):
            for oracle in oracles:
                shipping.append([oracle.line("small")])
            await shipping.delivered()
        assert len(shipping.shipper._building._known) == 2
    query = "SELECT (state->'sequence'->>'missing')::int AS missing, position FROM agent_trace_sources WHERE kind = $1"
    assert [tuple(row) for row in fetch(migrated_url, query, "instance")] == [(0, 10)] * 6
