"""Dead letters: shown with their reason, and stored once what refused them is mended."""

from datetime import UTC, datetime
from pathlib import Path

from agent_trace_sidecar.commands.dead_letters import Retried, as_text, letters, retry
from agent_trace_sidecar.records.build import Builder, BuildSettings
from tests.support.oracle import Oracle
from tests.support.postgres import connected, executed, fetch
from tests.support.shipping import Shipping

NOW = datetime(2026, 11, 22, tzinfo=UTC)
RULE = "ALTER TABLE agent_trace_events ADD CONSTRAINT rule CHECK (tool IS DISTINCT FROM 'bash')"


async def again(url: str, reason: str | None = None) -> Retried:
    """Try the dead letters again."""
    async with connected(url) as connection:
        return await retry(connection, lambda: Builder(BuildSettings()), NOW, reason=reason)


async def test_a_dead_letter_is_stored_after_a_fix(migrated_url: str, tmp_path: Path) -> None:
    """Refused by a rule of the operator's, shown, tried in vain, and stored when the rule is gone; all counts agree."""
    oracle = Oracle(120, hostile=False)
    await executed(migrated_url, RULE)
    async with Shipping(tmp_path / "spool", migrated_url) as shipping:
        shipping.append([oracle.line("small") for _ in range(60)])
        await shipping.delivered()
        dead = shipping.counts.dead
    assert 5 < dead < 40

    async with connected(migrated_url) as connection:
        shown = await letters(connection)
    assert len(shown) == min(dead, 50)
    assert {letter.reason for letter in shown} == {"refused"}
    assert all(letter.line.startswith('{"v":1,"id":"') and "23514" in letter.error for letter in shown)
    assert "23514" in "\n".join(as_text(shown))

    assert await again(migrated_url) == (0, 0, dead)
    await executed(migrated_url, "ALTER TABLE agent_trace_events DROP CONSTRAINT rule")
    assert await again(migrated_url, "another") == (0, 0, 0)
    assert await again(migrated_url, "refused") == (dead, 0, 0)
    assert await again(migrated_url) == (0, 0, 0)
    ledger = oracle.check(migrated_url, [])
    assert ledger.problems == []
    assert (ledger.stored, ledger.dead) == (60, 0)


async def test_what_is_no_event_stays(migrated_url: str, tmp_path: Path) -> None:
    """Lines that nobody can read are left as they are."""
    oracle = Oracle(121)
    async with Shipping(tmp_path / "spool", migrated_url) as shipping:
        shipping.append([oracle.line("dead") for _ in range(20)])
        await shipping.delivered()
    assert await again(migrated_url) == (0, 0, 20)
    assert oracle.check(migrated_url, []).problems == []


async def test_what_was_stored_by_another_way_is_no_dead_letter(migrated_url: str, tmp_path: Path) -> None:
    """The gate was emptied by hand and the line came again: it is there once."""
    oracle = Oracle(122, hostile=False)
    await executed(migrated_url, RULE)
    line = oracle.line("small")
    while b'"tool":"bash"' not in line[1]:
        oracle.issued.clear()
        line = oracle.line("small")
    async with Shipping(tmp_path / "a", migrated_url) as shipping:
        shipping.append([line])
        await shipping.delivered()
    await executed(
        migrated_url, "ALTER TABLE agent_trace_events DROP CONSTRAINT rule", "DELETE FROM agent_trace_dedupe"
    )
    async with Shipping(tmp_path / "b", migrated_url) as shipping:
        shipping.append([line])
        await shipping.delivered()
    assert await again(migrated_url) == (0, 1, 0)
    assert fetch(migrated_url, "SELECT count(*) AS n FROM agent_trace_dead_letters")[0]["n"] == 0
    assert fetch(migrated_url, "SELECT count(*) AS n FROM agent_trace_events")[0]["n"] == 1
