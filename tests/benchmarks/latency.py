"""From a line in stdin to its visible row."""

import statistics
from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Final
from uuid import uuid4

from tests.benchmarks.harness import Bench, Row, Series, say
from tests.benchmarks.live import delays, numbered, ready, running
from tests.support.postgres import run_apart

GROUP: Final = "latency"
_FLUSH_MS: Final = 500
_copies = count(20_000_000, 1_000_000)


def rows(bench: Bench) -> Iterator[Row]:
    """The rows of this group: a line a second, and a thousand."""
    for rate, events in [(1, bench.size(12, 60)), (1000, bench.size(5_000, 30_000))]:
        found: dict[str, list[float]] = {"p50": [], "p99": []}
        for _ in range(bench.rounds):
            took = sorted(_delays_ms(bench, rate, events))
            found["p50"].append(statistics.median(took))
            found["p99"].append(took[min(len(took) - 1, int(len(took) * 0.99))])
            say(f"  {rate}/s: p50 {found['p50'][-1]:.0f} ms, p99 {found['p99'][-1]:.0f} ms")
        for quantile, most in [("p50", _FLUSH_MS / 2 + 50), ("p99", _FLUSH_MS + 150)]:
            ours = Series("ms", tuple(found[quantile]))
            what = f"line in stdin to row visible at {rate}/s, {quantile}"
            flush = Series("ms", (_FLUSH_MS,))
            yield Row(GROUP, what, ours, "AGENT_TRACE_FLUSH_MS", flush, None, f"<= {most:g} ms", ours.median <= most)


def _delays_ms(bench: Bench, rate: int, events: int) -> list[float]:
    instance = uuid4()
    first, *feed = numbered(instance, events + 1, next(_copies))
    random = Random(events)  # noqa: S311 - the moments of arrival, not in step with any clock of ours
    gaps = [random.uniform(0.5, 1.5) / rate for _ in feed]
    with bench.database() as url, running(bench, url, AGENT_TRACE_FLUSH_MS=str(_FLUSH_MS)) as one:
        ready(one, first)
        took = run_apart(lambda: delays(url, one, feed, gaps, instance))
        one.end()
    return [seconds * 1000 for seconds in took]
