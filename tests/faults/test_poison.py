"""Rows that the server refuses, among others: they are dead letters, and every other row is stored."""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from agent_trace_sidecar.postgres.sink import PostgresSink
from agent_trace_sidecar.telemetry.logging import logger
from tests.support.pooler import pgbouncer
from tests.support.postgres import connected, executed, fetch
from tests.support.proxy import JUDGE, Break, Proxy
from tests.support.shipping import HURRIED, UNHURRIED, Shipping

INSTANCE = "11111111-2222-4333-8444-555555555555"
RECORDING = Path(__file__).parents[1] / "data" / "recordings" / "basic-edit-write-bash.jsonl"
RULE = "ALTER TABLE agent_trace_events ADD CONSTRAINT rule CHECK (payload->>'input' <> 'poison')"
TRIGGER = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.payload->>'input' = 'poison' THEN RAISE SQLSTATE '{code}'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON agent_trace_events FOR EACH ROW EXECUTE FUNCTION refuse()
"""


def line(seq: int, given: str, event_id: UUID | None = None) -> tuple[int, bytes]:
    """A line with this raw JSON as its input."""
    text = f'{{"v":1,"id":"{event_id or uuid4()}","seq":{seq},"at":1795000000000,"instance":"{INSTANCE}"'
    return seq, f'{text},"hook":"tool.execute.before","input":{given}}}'.encode()


def lines(size: int, poisoned: Sequence[int], bad: str) -> list[tuple[int, bytes]]:
    """That many lines, some of them bad."""
    return [line(seq, bad if seq in set(poisoned) else '"good"') for seq in range(size)]


def stored(url: str) -> set[int]:
    """The numbers of the lines that are stored."""
    return {row["seq"] for row in fetch(url, "SELECT seq FROM agent_trace_events")}


def dead(url: str) -> dict[int, str]:
    """The numbers of the lines that are dead letters, and why."""
    rows = fetch(url, "SELECT reason, error, line FROM agent_trace_dead_letters")
    assert {row["reason"] for row in rows} <= {"refused"}
    return {json.loads(row["line"])["seq"]: row["error"] for row in rows}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the sink has asked the server for so far: a deadline for each question."""
    found: list[float] = []
    run = PostgresSink._run

    async def counted(sink: PostgresSink, work: Callable[[Any], Awaitable[Any]], deadline_s: float) -> object:
        found.append(deadline_s)
        return await run(sink, work, deadline_s)

    monkeypatch.setattr(PostgresSink, "_run", counted)
    return found


PLACES: dict[str, Sequence[int]] = {
    "first": [0],
    "middle": [1000],
    "last": [1999],
    "every second": range(0, 2000, 2),
    "all but one": range(1, 2000),
    "all": range(2000),
}
KINDS: dict[str, tuple[str, str, str]] = {
    "a number that no jsonb holds": ("1e200000", "SELECT 1", "22"),
    "a rule of the operator's": ('"poison"', RULE, "23514"),
    "a trigger of the operator's": ('"poison"', TRIGGER.format(code="22023"), "22023"),
}


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("kind", KINDS)
async def test_poison_in_a_batch_of_2000(
    migrated_url: str, tmp_path: Path, asked: list[float], where: str, kind: str
) -> None:
    """However many and wherever they are: found by a handful of questions, not by one for each."""
    bad, harm, code = KINDS[kind]
    poisoned = PLACES[where]
    await executed(migrated_url, harm)
    async with Shipping(tmp_path / "spool", migrated_url, batch_size=2000, segment_bytes=64 << 20) as shipping:
        shipping.append(lines(2000, poisoned, bad))
        await shipping.delivered(60)
        assert shipping.counts == (2000, 2000 - len(poisoned), 0, len(poisoned), 0)
        assert shipping.causes == []
    assert stored(migrated_url) == set(range(2000)) - set(poisoned)
    letters = dead(migrated_url)
    assert letters.keys() == set(poisoned)
    assert all(error.startswith(code) for error in letters.values())
    assert len(asked) < 12


WITHOUT = ["DROP EXTENSION plpgsql", "REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC"]


@pytest.mark.parametrize("harm", WITHOUT)
@pytest.mark.parametrize("where", ["first", "every second"])
async def test_poison_where_the_server_has_no_procedures(
    migrated_url: str, tmp_path: Path, harm: str, where: str
) -> None:
    """Halving finds the same."""
    poisoned = [at for at in PLACES[where] if at < 200]
    writer = "CREATE ROLE writer LOGIN", "GRANT ALL ON ALL TABLES IN SCHEMA public TO writer"
    await executed(migrated_url, RULE, *writer, harm)
    url = migrated_url.replace("agent_trace@", "writer@")
    try:
        async with Shipping(tmp_path / "spool", url, batch_size=200, segment_bytes=64 << 20) as shipping:
            shipping.append(lines(200, poisoned, '"poison"'))
            await shipping.delivered(60)
            assert shipping.causes == []
        assert stored(migrated_url) == set(range(200)) - set(poisoned)
        assert dead(migrated_url).keys() == set(poisoned)
    finally:
        await executed(migrated_url, "DROP OWNED BY writer", "DROP ROLE writer")


@pytest.mark.parametrize("poisoned", [True, False])
async def test_the_same_line_twice_beside_poison(migrated_url: str, tmp_path: Path, *, poisoned: bool) -> None:
    """It is there once: its second copy makes it neither a clash nor a loss."""
    await executed(migrated_url, RULE)
    twice = uuid4()
    given = [line(1, '"good"', twice), line(2, '"poison"'), line(1, '"good"', twice)]
    if poisoned:
        given = [line(1, '"poison"', twice), line(2, '"good"'), line(1, '"poison"', twice)]
    async with Shipping(tmp_path / "spool", migrated_url, batch_size=100) as shipping:
        shipping.append(given)
        await shipping.delivered()
        assert shipping.counts == (3, 1, 1, 1, 0)
    assert (stored(migrated_url), set(dead(migrated_url))) == (({2}, {1}) if poisoned else ({1}, {2}))


@pytest.mark.parametrize("table", ["records", "ranges", "file_states"])
async def test_a_rule_on_what_is_made_of_lines(migrated_url: str, tmp_path: Path, table: str) -> None:
    """A call whose record, range or file state is refused is a dead letter; all else of a real session is stored."""
    await executed(migrated_url, f"ALTER TABLE agent_trace_{table} ADD CONSTRAINT rule CHECK (false) NOT VALID")
    given = RECORDING.read_bytes().splitlines()
    async with Shipping(tmp_path / "spool", migrated_url, batch_size=1000, segment_bytes=64 << 20) as shipping:
        shipping.append(list(enumerate(given)))
        await shipping.delivered()
        assert shipping.causes == []
    letters = fetch(migrated_url, "SELECT line FROM agent_trace_dead_letters")
    changed = {"tool.execute.after"}
    assert {json.loads(row["line"])["hook"] for row in letters} == changed
    assert len(stored(migrated_url)) == len(given) - len(letters)
    assert fetch(migrated_url, f"SELECT count(*) AS n FROM agent_trace_{table}")[0]["n"] == 0


async def test_a_rule_that_one_line_of_a_session_breaks(migrated_url: str, tmp_path: Path) -> None:
    """The neighbours' records, ranges and file states are accepted one by one as they are by COPY."""
    await executed(migrated_url, RULE)
    given = RECORDING.read_bytes().splitlines()
    async with Shipping(tmp_path / "spool", migrated_url, batch_size=1000, segment_bytes=64 << 20) as shipping:
        shipping.append([*enumerate(given), line(1, '"poison"')])
        await shipping.delivered()
        assert shipping.counts == (len(given) + 1, len(given), 0, 1, 0)
    for table in ("records", "ranges", "file_states"):
        assert fetch(migrated_url, f"SELECT count(*) AS n FROM agent_trace_{table}")[0]["n"] > 0


@pytest.mark.parametrize("how", Break)
async def test_the_connection_breaks_while_the_server_judges(migrated_url: str, tmp_path: Path, how: Break) -> None:
    """It is asked again, and the outcome is the same."""
    await executed(migrated_url, RULE)
    with Proxy(migrated_url) as proxy:
        proxy.arm(JUDGE, how)
        noticed = how in (Break.RESET, Break.ANSWER_LOST)
        deadlines = UNHURRIED if noticed else HURRIED
        async with Shipping(tmp_path / "spool", proxy.url, batch_size=100, deadlines=deadlines) as shipping:
            shipping.append(lines(100, range(0, 100, 2), '"poison"'))
            await shipping.delivered()
            assert shipping.counts == (100, 50, 0, 50, 0)
            if noticed:
                assert shipping.causes in (["connection"], ["08003"])  # the driver or the socket reports it first
            else:
                assert "too_slow" in shipping.causes
        assert proxy.hits == {f"{JUDGE}:{how.value}": 1}
    assert dead(migrated_url).keys() == set(range(0, 100, 2))


async def test_each_cause_of_a_failure_is_logged_when_it_begins(migrated_url: str, tmp_path: Path) -> None:
    """Once for each: a second cause is not silent because there was a first, and no try is logged twice."""
    await executed(migrated_url, TRIGGER.format(code="53100"))
    with (tmp_path / "log").open("wb") as log:
        async with Shipping(tmp_path / "spool", migrated_url, batch_size=100, retry_max=1000) as shipping:
            shipping.shipper._logger = logger(fd=log.fileno())
            shipping.append([line(1, '"poison"')])
            await shipping.failed("53100")
            await executed(migrated_url, TRIGGER.format(code="53200").replace("CREATE", "CREATE OR REPLACE"))
            await shipping.failed("53200")
            await executed(migrated_url, "DROP TRIGGER refuse ON agent_trace_events")
            await shipping.delivered()
    said = re.findall(r"event=(database_\w+)(?:.*cause=(\w+))?", (tmp_path / "log").read_text())
    assert said == [("database_failed", "53100"), ("database_failed", "53200"), ("database_back", "")]


@pytest.mark.parametrize("code", ["53100", "55P03", "40P01", "57014", "42501"])
async def test_a_fault_of_the_moment_beside_poison(migrated_url: str, tmp_path: Path, code: str) -> None:
    """What the server says of one line while it is asked may be no fault of the line: nothing is dead-lettered yet."""
    await executed(migrated_url, TRIGGER.format(code=code))
    async with Shipping(tmp_path / "spool", migrated_url, batch_size=100) as shipping:
        shipping.append([line(1, "1e200000"), line(2, '"poison"'), line(3, '"good"')])
        await shipping.failed(code)
        assert shipping.counts.read == 0
        await executed(migrated_url, "DROP TRIGGER refuse ON agent_trace_events")
        await shipping.delivered()
    assert (stored(migrated_url), set(dead(migrated_url))) == ({2, 3}, {1})


@pytest.mark.needs("pgbouncer")
async def test_poison_behind_a_pooler(migrated_url: str, tmp_path: Path) -> None:
    """In transaction mode: what was asked leaves nothing behind in the connections that others get next."""
    await executed(migrated_url, RULE)
    with pgbouncer(migrated_url, ["agent_trace"]) as pooled:
        url = pooled.replace("postgresql://", "postgresql://agent_trace@")
        async with Shipping(tmp_path / "spool", url, batch_size=100) as shipping:
            shipping.append(lines(300, range(0, 300, 3), '"poison"'))
            await shipping.delivered()
            assert shipping.causes == []
        async with connected(url) as connection:
            left = await connection.fetchval("SELECT current_setting('agent_trace.lines', true)")
    assert left in (None, "")
    assert stored(migrated_url) == set(range(300)) - set(range(0, 300, 3))


async def test_good_lines_of_every_kind_beside_poison(migrated_url: str, tmp_path: Path) -> None:
    """Deep, long, foreign, with text that looks like a NUL: what COPY takes is not called poison."""
    await executed(migrated_url, RULE)
    kinds: list[Callable[[], str]] = [
        lambda: "[" * 900 + "]" * 900,
        lambda: '{"a":"\\\\u0000"}',
        lambda: '"' + "x" * 1_000_000 + '"',
        lambda: '"größe 🙂 \\u2028 \\u0001"',
        lambda: '{"a":9223372036854775808,"b":1e400,"c":1e-400}',
        lambda: "[" + "9" * 100_000 + "]",
        lambda: "null",
    ]
    given = [line(seq, kind()) for seq, kind in enumerate(kinds)]
    async with Shipping(tmp_path / "spool", migrated_url, batch_size=100, segment_bytes=64 << 20) as shipping:
        shipping.append([*given, line(99, '"poison"')])
        await shipping.delivered(60)
    assert (stored(migrated_url), set(dead(migrated_url))) == (set(range(len(kinds))), {99})
