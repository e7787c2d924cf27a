"""What a step used and how a call ended: numbers of whatever form, beside members of an unexpected type."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from agent_trace_sidecar.opencode.usage import CallEnd, Used, usage

STEP: dict[str, Any] = {
    "id": "prt_1",
    "type": "step-finish",
    "cost": 0.25,
    "tokens": {"input": 1, "output": 2, "reasoning": 3, "cache": {"read": 4, "write": 5}},
}
CALL: dict[str, Any] = {
    "id": "prt_2",
    "type": "tool",
    "tool": "bash",
    "state": {"status": "completed", "time": {"start": 10, "end": 30}},
}


def found_in(part: object, **properties: object) -> Used | CallEnd | None:
    """What is read of an event with this part."""
    given = {"event": {"type": "message.part.updated", "properties": {"part": part, "time": 99, **properties}}}
    raw = msgspec.Raw(json.dumps(given).encode())
    return usage("message.part.updated", raw)


def numbers(*values: object) -> list[Decimal | None]:
    """The values as they are read."""
    return [None if value is None else Decimal(str(value)) for value in values]


def test_a_step_and_a_call_are_read() -> None:
    """With the exact numbers of the JSON text."""
    assert found_in(STEP) == Used("prt_1", *numbers(1, 2, 3, 4, 5, 0.25, 99))
    assert found_in(CALL) == CallEnd("prt_2", "completed", *numbers(10, 30, 99))


@pytest.mark.parametrize("other", [None, 7, "x", [], [{}], True])
def test_a_member_of_an_unexpected_type_has_no_members_and_the_others_have_theirs(other: object) -> None:
    """At each level."""
    tokens = {**STEP["tokens"], "cache": other}
    assert found_in({**STEP, "tokens": tokens}) == Used("prt_1", *numbers(1, 2, 3, None, None, 0.25, 99))
    assert found_in({**STEP, "tokens": other}) == Used("prt_1", *numbers(None, None, None, None, None, 0.25, 99))
    assert found_in({**STEP, "state": other}) == found_in(STEP)
    assert found_in(STEP, tokens=other) == found_in(STEP)
    timeless = {**CALL, "state": {"status": "completed", "time": other}}
    assert found_in(timeless) == CallEnd("prt_2", "completed", *numbers(None, None, 99))
    assert found_in({**CALL, "tokens": other}) == found_in(CALL)
    assert found_in({**CALL, "state": other}) is None
    assert found_in(other) is None


@pytest.mark.parametrize("price", [0, 0.0])
def test_a_step_that_used_tokens_for_nothing_has_no_price(price: float) -> None:
    """OpenCode reports 0 for a model whose price it does not know."""
    found = found_in({**STEP, "cost": price})
    assert isinstance(found, Used)
    assert found.cost is None
