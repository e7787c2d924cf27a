"""The largest resident size: idle, replaying a long log, and while the database is away."""

from collections.abc import Iterator
from itertools import islice
from typing import Final
from uuid import uuid4

from tests.benchmarks.harness import Bench, Row, Series, number, peak_mib, run, sidecar
from tests.benchmarks.lines import lines, write_log
from tests.benchmarks.live import numbered, ready, running
from tests.support.waiting import eventually

GROUP: Final = "memory"
_AVERAGE: Final = 751
_NOBODY: Final = "postgresql://nobody@127.0.0.1:1/none"
"""Nothing listens on port 1."""


def rows(bench: Bench) -> Iterator[Row]:
    """The rows of this group."""
    idle = Series("MiB", tuple(_idle(bench) for _ in range(bench.rounds)))
    yield Row(GROUP, "peak RSS, idle", idle, target="<= 45 MiB", reached=idle.median <= 45)
    size = bench.size(100, 1000) * 1_000_000
    replayed = Series("MiB", (_replay(bench, size),))
    what = f"peak RSS, replaying {number(size / 1e6)} MB"
    yield Row(GROUP, what, replayed, target="<= 75 MiB", reached=replayed.median <= 75)
    lost = bench.size(100, 1000) * 1_000_000
    outage = Series("MiB", (_outage(bench, lost),))
    what = f"peak RSS, database away for {number(lost / _AVERAGE)} lines"
    yield Row(GROUP, what, outage, target="<= 70 MiB", reached=outage.median <= 70)


def _idle(bench: Bench) -> float:
    with bench.database() as url, running(bench, url) as one:
        for line in numbered(uuid4(), 150, 0):
            one.send(line)
        eventually(lambda: one.acked >= 150, 30, "the sidecar answers")
        return peak_mib(one.process.pid)


def _replay(bench: Bench, size: int) -> float:
    log = bench.scratch / "memory.jsonl"
    write_log(log, size // _AVERAGE, 30_000_000)
    with bench.database() as url:
        done = run(sidecar("replay", str(log)), bench.environment(url))
    log.unlink()
    return done.peak_mib


def _outage(bench: Bench, size: int) -> float:
    """As fast as it takes the lines: what an hour brings at 1000 a second comes in some minutes."""
    with running(bench, _NOBODY) as one:
        first, *_ = numbered(uuid4(), 1, 0)
        ready(one, first)
        fed = 0
        for line in islice(lines(40_000_000), size // _AVERAGE):
            one.send(line + b"\n")
            fed += len(line)
        return peak_mib(one.process.pid)
