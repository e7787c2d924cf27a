"""How blame and status grow with the tables; measured by `blame_scale`, which has the sizes and the questions."""

from collections.abc import Iterator
from importlib import import_module

from tests.benchmarks.harness import Bench, Row


def rows(bench: Bench) -> Iterator[Row]:
    """The rows of this group."""
    yield from import_module("tests.benchmarks.blame_scale").rows(bench)
