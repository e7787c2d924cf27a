"""Which values are so peculiar that a session remembers them, at each bound."""

import pytest

from agent_trace_sidecar.redaction.known_values import _FEWEST_CHARACTERS, _LONGEST, _SHORTEST, is_distinct

LONG = ("Zk3vQ9xT1mB7nR5c" * (_LONGEST // 16 + 1)).encode()


@pytest.mark.parametrize(
    ("value", "distinct"),
    [
        (LONG[:_SHORTEST], True),
        (LONG[: _SHORTEST - 1], False),
        (LONG[:_LONGEST], True),
        (LONG[: _LONGEST + 1], False),
        (b"abc1" * 5, False),
        (b"abcd1" * 5, True),
        (b"1234567890", False),
        (b"-+.,;:_#'*!?", False),
        (b"password", False),
        (b"documentation", False),
        (b"xkqzwvjtpfgh", True),
    ],
)
def test_a_value_is_remembered_if_it_can_stand_for_nothing_else(value: bytes, distinct: bool) -> None:
    """Long enough, with a letter, with enough characters, and no word unless it has a digit."""
    assert is_distinct(value) == distinct


def test_the_table_stands_at_the_bounds() -> None:
    """So a bound that is moved is noticed."""
    assert (_SHORTEST, _LONGEST, _FEWEST_CHARACTERS) == (8, 512, 5)
