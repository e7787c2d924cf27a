"""What `status` says of the database's side; its side of the spools is in tests/faults/test_disks.py."""

from uuid import UUID

from agent_trace_sidecar.commands.status import Stored, database_text, from_database, judge
from agent_trace_sidecar.records.session import Session
from tests.support.postgres import connected, execute

SOURCE = """
INSERT INTO agent_trace_sources (source_id, kind, host, epoch, position, state, opened_at, updated_at)
VALUES ('{id}', 'instance', 'host', 1, {highest}, '{state}', 'now', timestamptz '2026-01-01' + interval '{day} days')
"""
LETTER = """
INSERT INTO agent_trace_dead_letters (source_id, position, reason, error, line, seen_at)
SELECT '11111111-2222-4333-8444-555555555555', n, '{reason}', 'why', 'line', now() FROM generate_series(1, {number}) n
"""


def source(number: int, seqs: list[int], lost: int = 0) -> str:
    """The statement that makes the row of a run of the shim, so many days old as its number says."""
    session = Session()
    for seq in seqs:
        session.sequence.see(seq)
    session.lost = lost
    state = session.dump().decode()
    return SOURCE.format(id=UUID(int=number), highest=session.sequence.highest, state=state, day=number)


async def stored(url: str) -> Stored:
    """The database's side."""
    async with connected(url) as connection:
        return await from_database(connection, "9")


async def test_the_sums_cover_all_sources_and_those_with_gaps_are_listed(migrated_url: str) -> None:
    """Also the ones that are older than the newest twenty."""
    statements = [source(number, [1, 2, 3]) for number in range(10, 60)]
    statements += [source(1, [1, 5, 6, 9], lost=2), source(2, list(range(1, 60, 2)))]
    execute(migrated_url, *statements)
    found = await stored(migrated_url)
    assert (found.missing, found.lost) == (5 + 29, 2)
    assert len(found.sources) == 22
    assert found.sources[0].instance == str(UUID(int=59))
    text = "\n".join(database_text(judge("db", "", found, ())))
    assert "34 missing sequence numbers, 2 events dropped by the shim" in text
    assert "  5: 2-4, 7-8" in text
    assert "  29: ... 44, 46, 48, 50, 52, 54, 56, 58" in text


async def test_dead_letters_are_counted_by_reason_and_the_way_to_them_is_said(migrated_url: str) -> None:
    """They don't make the recording unhealthy: the lines are there."""
    execute(migrated_url, LETTER.format(reason="refused", number=3), LETTER.format(reason="too_long", number=1))
    found = judge("db", "", await stored(migrated_url), ())
    assert found.healthy
    assert found.stored is not None
    assert found.stored.dead_letters == {"refused": 3, "too_long": 1}
    assert "dead   3 refused" in "\n".join(database_text(found))
    assert "`agent-trace-sidecar dead-letters retry`" in "\n".join(database_text(found))


def test_what_only_the_database_knows_is_unknown_without_it() -> None:
    """No gap is not the same as no answer."""
    found = judge("db", "The database refused the user or password (28P01).", None, ())
    assert not found.healthy
    assert found.problems == ("The database refused the user or password (28P01).",)
    assert (found.gaps, found.lost) == (None, None)
    assert "gaps     unknown without the database" in "\n".join(database_text(found))
