"""A real `opencode run` of many tool calls, with and without the plugin: what the user waits for."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from statistics import median
from typing import Final

from tests.benchmarks.harness import Bench, Row, sidecar
from tests.support.fake_model import Call, Step, fake_model
from tests.support.opencode import SHIM, opencode

GROUP: Final = "opencode"
_CALLS_A_STEP: Final = 5
_PAIRS_A_ROUND: Final = 3
"""The runs differ by more than what is looked for; only the median of many pairs of neighbours can tell."""


def rows(bench: Bench) -> Iterator[Row]:
    """The row of this group."""
    steps = 10
    with bench.database() as url, fake_model() as model, opencode(model) as oc:
        oc.env.update(bench.environment(url, AGENT_TRACE_SIDECAR=" ".join(f'"{word}"' for word in sidecar("run"))))
        oc.env["HOME"] = str(oc.folder / "home")
        numbers = count()

        def seconds(*, plugin: bool) -> float:
            number = next(numbers)
            project = oc.project(f"p{number}", {"a.txt": "one\n"})
            if plugin:
                oc.add_plugin(project, SHIM)
            calls = [
                [
                    Call("write", {"filePath": str(project / f"f{step}_{n}.txt"), "content": f"line {n}\n" * 20})
                    for n in range(_CALLS_A_STEP)
                ]
                for step in range(steps)
            ]
            model.script(f"task{number}.", *[Step(one) for one in calls])
            done = oc.run(project, f"do task{number}.", timeout_s=120)
            written = len(list(project.glob("f*.txt")))
            if done.code or written != steps * _CALLS_A_STEP:
                raise RuntimeError(f"opencode run: exit code {done.code}, {written} files; {done.stderr[-500:]}")
            return done.seconds

        seconds(plugin=True)  # the first start makes OpenCode's own folders
        contenders = {"with": lambda: seconds(plugin=True), "without": lambda: seconds(plugin=False)}
        found = replace(bench, rounds=bench.rounds * _PAIRS_A_ROUND).alternate("s", contenders)
    ours, other = found["with"], found["without"]
    ratio = median(a / b for a, b in zip(ours.values, other.values, strict=True))
    what = f"opencode run of {steps * _CALLS_A_STEP} tool calls, ratio of each pair of runs"
    yield Row(GROUP, what, ours, "without the plugin", other, ratio, "<= 1.02", ratio <= 1.02)
