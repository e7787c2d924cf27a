"""The simulator's own judgement: what it calls right, wrong and missed."""

import pytest

from tests.simulator.lines import AI, HUMAN, Doc, Tally, judged, settled
from tests.simulator.world import model_line, person_line

OLD = ["p", "}", "q"]
CASES = [
    ("a claim of what was written is right", {2, 3}, Tally(right=2)),
    ("so is the other of two identical lines", {1, 2}, Tally(right=2)),
    ("but not both", {1, 2, 3}, Tally(right=2, wrong=1)),
    ("nor none", {2}, Tally(right=1, missed=1, unknown=1)),
    ("a line before it is wrong, and the right one missed", {0, 2}, Tally(right=1, wrong=1, missed=1, unknown=1)),
    ("nothing is missed twice", set(), Tally(missed=2, unknown=2)),
]


@pytest.mark.parametrize(("sentence", "claimed", "expected"), CASES)
def test_a_claim_is_judged(sentence: str, claimed: set[int], expected: Tally) -> None:
    """`r` and a brace were inserted after a brace: either brace may be called the new one."""
    before = Doc(tuple(person_line(text) for text in OLD))
    p, brace, q = before.lines
    lines = (p, brace, model_line("r", "m", "edit"), model_line("}", "m", "edit"), q)
    _, change = settled(before, Doc(lines), AI)
    assert judged(change, frozenset(claimed)) == expected, sentence


def test_what_can_not_be_told_apart_may_be_called_either() -> None:
    """Both braces are anybody's, and all other lines only their author's."""
    before = Doc(tuple(person_line(text) for text in OLD))
    p, brace, q = before.lines
    after, _ = settled(before, Doc((p, brace, model_line("r", "m", "edit"), model_line("}", "m", "edit"), q)), AI)
    assert [set(line.accepted) for line in after.lines] == [{HUMAN}, {AI, HUMAN}, {AI}, {AI, HUMAN}, {HUMAN}]


def test_a_moved_line_stays_who_wrote_it() -> None:
    """Its place tells nobody that it is new: the simulator knows better, and asks for no less."""
    before = Doc((*(person_line(text) for text in "abc"), model_line("x", "m", "edit")))
    a, b, c, x = before.lines
    after, change = settled(before, Doc((x, a, b, c)), HUMAN)
    assert [line.author for line in after.lines] == [AI, HUMAN, HUMAN, HUMAN]
    assert after.lines[0].accepted == {AI}
    assert not change.added
