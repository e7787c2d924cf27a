"""What is no evidence: lines that everybody types, and text that was there before."""

from importlib.resources import files

import pytest

import agent_trace_sidecar.blame
from agent_trace_sidecar.blame.boilerplate import is_boilerplate, is_expression

LINES = files(agent_trace_sidecar.blame).joinpath("boilerplate.txt").read_text().splitlines()
FOUND = [line[3:] for line in LINES if line.startswith("#? ")]
NOT_FOUND = [line[3:] for line in LINES if line.startswith("#! ")]


@pytest.mark.parametrize("line", FOUND)
def test_what_everybody_types_is_boilerplate(line: str) -> None:
    """Also indented."""
    assert is_boilerplate(b"    " + line.encode())


@pytest.mark.parametrize("line", [*NOT_FOUND, "def total(prices):", "    result += price", "return best, prices"])
def test_what_somebody_thought_of_is_not(line: str) -> None:
    """A copied function must stay recognisable."""
    assert not is_boilerplate(line.encode())


def test_the_file_has_examples_of_both_kinds() -> None:
    """And expressions."""
    assert len(FOUND) > 10
    assert NOT_FOUND
    assert sum(map(is_expression, LINES)) > 15
