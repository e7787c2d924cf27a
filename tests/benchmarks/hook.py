"""What a hook costs inside OpenCode: the shim in OpenCode's own Bun, with a real sidecar that reads and stores."""

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from tests.benchmarks.harness import Bench, Row, Series, run, say, sidecar
from tests.support.opencode import SHIM, installed

GROUP: Final = "hook"
_SCRIPT: Final = Path(__file__).with_name("hook.mjs")
_PAUSE_US: Final = {"forwarded": 1000, "insert": 0, "empty": 0, "dropped": 0}
"""Between two events: a thousand a second is many times what OpenCode's busiest second has."""
_RUN_EVENTS: Final = 349
_RUN_PAUSE_US: Final = 11_500
"""The events of an `opencode run` of 50 calls, in 4 seconds."""
_BURST: Final = 20
_RUN_BURST: Final = 2
"""Events that OpenCode publishes in one turn of its event loop."""


def rows(bench: Bench) -> Iterator[Row]:
    """The rows of this group."""
    events = {
        "forwarded": bench.size(5_000, 20_000),
        "dropped": bench.size(50_000, 200_000),
        "empty": bench.size(50_000, 200_000),
        "insert": bench.size(2_000, 5_000),
    }
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in events}
    for _ in range(bench.rounds):
        for kind, number_of in events.items():
            found[kind].append(_measure(bench, kind, number_of, (_PAUSE_US[kind], _BURST)))
            say(f"  {kind}: {found[kind][-1]}")

    def series(kind: str, quantile: str) -> Series:
        return Series("us", tuple(one[quantile] for one in found[kind]))

    for quantile, most in [("p50", 10), ("p99", 150)]:
        ours = series("forwarded", quantile)
        for kind, beside in [("empty", "an empty hook"), ("insert", "a hook that awaits an INSERT")]:
            other = series(kind, quantile)
            what = f"hook, a forwarded event of 1 KB, {quantile}"
            yield Row(GROUP, what, ours, beside, other, None, f"<= {most} us", ours.median <= most)
    dropped = series("dropped", "p50")
    yield Row(
        GROUP,
        "hook, a dropped event, p50",
        dropped,
        "an empty hook",
        series("empty", "p50"),
        None,
        "<= 1 us",
        dropped.median <= 1,
    )
    yield _run_row(bench)


def _run_row(bench: Bench) -> Row:
    """What the hooks of a run cost OpenCode's process, garbage collection and its other threads included."""

    def cpu_ms(kind: str) -> float:
        return _measure(bench, kind, _RUN_EVENTS, (_RUN_PAUSE_US, _RUN_BURST))["cpu"]

    found = bench.alternate("ms", {kind: partial(cpu_ms, kind) for kind in ("forwarded", "empty")})
    what = f"{_RUN_EVENTS} events in 4 s, processor time of OpenCode's Bun"
    return Row(GROUP, what, found["forwarded"], "an empty hook", found["empty"])


def _measure(bench: Bench, kind: str, events: int, pace: tuple[int, int]) -> dict[str, float]:
    with bench.database() as url:
        command = " ".join(f'"{word}"' for word in sidecar("run"))
        env = {
            **bench.environment(url, AGENT_TRACE_SIDECAR=command, BUN_BE_BUN="1"),
            "HOME": str(bench.scratch),
            "PATH": os.environ["PATH"],
        }
        arguments = [str(SHIM), kind, str(events), *map(str, pace)]
        done = run([str(installed()), str(_SCRIPT), *arguments], env)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer
