"""From the start of the process to the first acknowledgement, beside a Python that does nothing."""

import sys
from collections.abc import Iterator
from typing import Final
from uuid import uuid4

from tests.benchmarks.harness import Bench, Row, run
from tests.benchmarks.live import numbered, ready, running

GROUP: Final = "start"


def rows(bench: Bench) -> Iterator[Row]:
    """The row of this group."""
    with bench.database() as url:
        _first_ack(bench, url)  # makes the rules' cache, as the first start of a version does
        found = bench.alternate(
            "s",
            {
                "ours": lambda: _first_ack(bench, url),
                "python": lambda: run([sys.executable, "-c", "pass"], bench.environment(url)).wall_s,
            },
        )
    ours = found["ours"]
    yield Row(
        GROUP,
        "start to first acknowledgement",
        ours,
        "python -c pass",
        found["python"],
        None,
        "<= 0.18 s",
        ours.median <= 0.18,
    )


def _first_ack(bench: Bench, url: str) -> float:
    with running(bench, url) as one:
        ready(one, numbered(uuid4(), 1, 0)[0])
        one.end()
        assert one.first_ack_s is not None
        return one.first_ack_s
