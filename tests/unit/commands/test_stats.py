"""How `stats` marks a cost: what has no price is not free, and what leaves something out says so."""

from decimal import Decimal
from typing import Any

import pytest

from agent_trace_sidecar.blame.stats import Group, _Counted
from agent_trace_sidecar.commands.output import dollars
from agent_trace_sidecar.commands.stats import _cells


@pytest.mark.parametrize(
    ("cost", "unpriced", "shown"),
    [
        (None, 0, ""),
        (None, 3, "no price"),
        (0.5, 0, "0.5000"),
        (0.5, 2, "> 0.5000"),
        (0.0, 0, "0.0000"),
    ],
)
def test_a_cost_says_what_it_leaves_out(cost: float | None, unpriced: int, shown: str) -> None:
    """`>` where some steps have no price; nothing where nothing was used."""
    assert dollars(cost, unpriced) == shown
    assert _cells(Group("m", cost=cost, unpriced_steps=unpriced))[5] == shown


def test_a_surviving_line_costs_at_least_its_share() -> None:
    """The mark of the sum is that of its share; without surviving lines there is none."""
    group = Group("m", living=4, cost=0.5, unpriced_steps=1, cost_per_living_line=0.125)
    assert _cells(group)[-1] == "> 0.125000"
    assert not _cells(Group("m", cost=0.5))[-1]


def test_steps_are_summed_and_those_without_a_price_counted() -> None:
    """Titles and compactions of OpenCode 2 have no step of their own."""
    counted = _Counted("model")
    steps: list[Any] = [
        {"model_id": "a", "finished_at": None, "tokens": 10, "cost": Decimal("0.1"), "part_id": "p1"},
        {"model_id": "a", "finished_at": None, "tokens": 5, "cost": None, "part_id": "p2"},
        {"model_id": "b", "finished_at": None, "tokens": 5, "cost": None, "part_id": "p3"},
        {"model_id": None, "finished_at": None, "tokens": 7, "cost": None, "part_id": None},
        {"model_id": None, "finished_at": None, "tokens": 7, "cost": Decimal("0.2"), "part_id": None},
    ]
    for step in steps:
        counted.spent("ses_1", step)
    found = counted.result(None, 0)
    groups = {one.name: (one.tokens, one.cost, one.unpriced_steps) for one in found.groups}
    assert groups == {"a": (15, 0.1, 1), "b": (5, None, 1), "unknown": (14, 0.2, 0)}
    assert (found.total.tokens, found.total.cost, found.total.unpriced_steps) == (34, 0.3, 2)
    assert [_cells(one)[5] for one in found.groups] == ["> 0.1000", "no price", "0.2000"]
