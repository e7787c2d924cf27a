"""A real `opencode run` of many tool calls, with and without the plugin: what the user waits for, and who works.

The runs differ by far more than what is looked for, so there are many, in turn, and the figure is the median of the
ratios of neighbours, with the interval that holds the true median in 95 of 100 cases. A plugin that does nothing runs
along: OpenCode itself does more for a project that has any.
"""

import contextlib
import ctypes
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate, count
from math import comb
from pathlib import Path
from statistics import median
from typing import Final

from tests.benchmarks.harness import Bench, Row, Series, number, server_cpu_s, sidecar
from tests.support.fake_model import Call, FakeModel, Step, fake_model
from tests.support.opencode import SHIM, OpenCode, opencode
from tests.support.waiting import eventually

GROUP: Final = "opencode"
_STEPS: Final = 10
_CALLS_A_STEP: Final = 5
_PAIRS_A_ROUND: Final = 3
_MOST: Final = 1.02
_EMPTY: Final = """const nothing = async () => {};
export default { id: "empty", setup: nothing, server: async () => ({
  event: nothing, dispose: nothing, "tool.execute.before": nothing, "tool.execute.after": nothing,
  "chat.message": nothing }) };
"""
_SET_CHILD_SUBREAPER: Final = 36


@dataclass
class _Spent:
    """Seconds of the processor, run by run."""

    opencode: list[float] = field(default_factory=list)
    sidecar: list[float] = field(default_factory=list)
    postgres: list[float] = field(default_factory=list)
    model: list[float] = field(default_factory=list)


@dataclass
class _Runs:
    """Makes one run after the other in projects of their own."""

    bench: Bench
    oc: OpenCode
    model: FakeModel
    numbers: Iterator[int] = field(default_factory=count)

    def seconds(self, plugin: Path | None, spent: _Spent) -> float:
        """One run, by the clock; what it took of the processor is added to `spent`."""
        number_of = next(self.numbers)
        project = self.oc.project(f"p{number_of}", {"a.txt": "one\n"})
        if plugin is not None:
            self.oc.add_plugin(project, plugin)
        self.model.script(f"task{number_of}.", *_steps(project))
        before, postgres, own = set(_children()), server_cpu_s(self.bench.server), time.process_time()
        children = _reaped_s()
        done = self.oc.run(project, f"do task{number_of}.", deadline_s=120)
        spent.opencode.append(_reaped_s() - children)
        spent.model.append(time.process_time() - own)
        spent.sidecar.append(sum(_end_of(pid) for pid in _children() if pid not in before))
        spent.postgres.append(server_cpu_s(self.bench.server) - postgres)
        written = len(list(project.glob("f*.txt")))
        if done.code or written != _STEPS * _CALLS_A_STEP:
            raise RuntimeError(f"opencode run: exit code {done.code}, {written} files; {done.stderr[-500:]}")
        return done.seconds


def rows(bench: Bench) -> Iterator[Row]:
    """The rows of this group."""
    spent = {"with": _Spent(), "empty": _Spent(), "without": _Spent()}
    plugins = {"with": SHIM, "empty": bench.scratch / "empty.js", "without": None}
    (bench.scratch / "empty.js").write_text(_EMPTY)
    with bench.database() as url, fake_model() as model, opencode(model) as oc, _orphans_are_ours():
        oc.env.update(bench.environment(url, AGENT_TRACE_SIDECAR=" ".join(f'"{word}"' for word in sidecar("run"))))
        oc.env["HOME"] = str(oc.folder / "home")
        runs = _Runs(bench, oc, model)
        runs.seconds(SHIM, _Spent())  # the first start makes OpenCode's own folders
        contenders = {name: lambda name=name: runs.seconds(plugins[name], spent[name]) for name in spent}
        found = replace(bench, rounds=bench.rounds * _PAIRS_A_ROUND).alternate("s", contenders)
    what = f"opencode run of {_STEPS * _CALLS_A_STEP} tool calls"
    for name, beside in [("without", "without the plugin"), ("empty", "a plugin that does nothing")]:
        target = f"<= {_MOST}" if name == "empty" else ""
        yield _pairs(what, found["with"], beside, found[name], target)
        ours, other = (Series("s", tuple(spent[each].opencode)) for each in ("with", name))
        yield _pairs(f"{what}, processor: OpenCode", ours, beside, other, target)
    ours_spent = spent["with"]
    yield Row(GROUP, f"{what}, processor: the sidecar", Series("s", tuple(ours_spent.sidecar)))
    yield Row(GROUP, f"{what}, processor: Postgres", Series("s", tuple(ours_spent.postgres)))
    yield Row(GROUP, f"{what}, processor: the model's stand-in", Series("s", tuple(ours_spent.model)))


def _pairs(what: str, ours: Series, beside: str, other: Series, target: str) -> Row:
    """A row whose ratio is the median of the ratios of neighbours; it is reached where all of the interval is."""
    ratios = sorted(a / b for a, b in zip(ours.values, other.values, strict=True))
    sure = _interval(ratios)
    middle = [number(ratios[round(part * (len(ratios) - 1))]) for part in (0.25, 0.75)]
    note = f"ratio of each pair, middle half: {' - '.join(middle)}, 95 % sure: {' - '.join(map(number, sure))}"
    reached = sure[1] <= _MOST if target else None
    return Row(GROUP, what, ours, beside, other, median(ratios), target, reached, note)


def _steps(project: Path) -> list[Step]:
    """Every step writes some new files."""
    return [
        Step(
            [
                Call("write", {"filePath": str(project / f"f{step}_{at}.txt"), "content": f"line {at}\n" * 20})
                for at in range(_CALLS_A_STEP)
            ]
        )
        for step in range(_STEPS)
    ]


def _interval(ordered: list[float]) -> tuple[float, float]:
    """The values between which the true median lies in 95 of 100 cases, by their order alone."""
    runs = len(ordered)
    below = list(accumulate(comb(runs, k) / 2**runs for k in range(runs)))
    outside = sum(1 for chance in below if chance <= 0.025)
    at = max(0, outside - 1)
    return ordered[at], ordered[runs - 1 - at]


# -- processes that outlive OpenCode ---------------------------------------------------------------------------


@contextlib.contextmanager
def _orphans_are_ours() -> Iterator[None]:
    """During the block the sidecar that OpenCode leaves behind becomes our child, so that we learn what it took."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    try:
        yield
    finally:
        prctl(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _children() -> list[int]:
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def _reaped_s() -> float:
    """What our children that have ended, and theirs, have used of the processor."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _end_of(pid: int) -> float:
    """Wait for the end of a child, and return what it used of the processor."""
    found: list[float] = []

    def ended() -> bool:
        done, _, usage = os.wait4(pid, os.WNOHANG)
        found.append(usage.ru_utime + usage.ru_stime)
        return done == pid

    eventually(ended, 30, "the sidecar ends after OpenCode")
    return found[-1]
