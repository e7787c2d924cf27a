"""`tail` of thousands of files, each of another run, of which one in a hundred is active."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Final

from tests.benchmarks.harness import Bench, Row, Series, cpu_s, number, peak_mib, say
from tests.support.postgres import fetch
from tests.support.tailing import TailProcess, Writer, tailing
from tests.support.waiting import eventually

GROUP: Final = "tail"
_LINES: Final = 5
"""Of each file at first."""
_GAIN: Final = 10
"""Lines that an active file gains at once, as in a step of an agent."""
_LINE_BYTES: Final = 500
_IDLE_S: Final = 10.0
_STORED: Final = "SELECT count(*) FROM agent_trace_events"


def rows(bench: Bench) -> Iterator[Row]:
    """The rows of this group: one `tail`, from its first reading to rest."""
    files = bench.size(2_000, 10_000)
    folder = bench.scratch / "followed"
    folder.mkdir()
    writers = [Writer() for _ in range(files)]
    for at, writer in enumerate(writers):
        (folder / f"{at}.jsonl").write_bytes(writer.lines(_LINES, _LINE_BYTES))
    what = f"tail of {number(files)} files"
    with bench.database() as url, tailing(bench.environment(url), bench.scratch / "tail.log", folder) as tail:
        began = time.monotonic()
        _stored(url, files * _LINES)
        yield Row(GROUP, f"{what}: read for the first time", _one("files/s", files / (time.monotonic() - began)))
        active = list(range(0, files, 100))
        lags = [_lag_s(url, folder, writers, active) for _ in range(10)]
        say(f"  lags: {sorted(lags)}")
        lag = Series("s", tuple(lags))
        yield Row(GROUP, f"{what}: {_GAIN} lines in each of {len(active)}, until all are rows", lag)
        before = cpu_s(tail.pid)
        Event().wait(_IDLE_S)
        idle = 100 * (cpu_s(tail.pid) - before) / _IDLE_S
        yield Row(GROUP, f"{what}: processor time at rest", _one("% of one core", idle))
        yield Row(GROUP, f"{what}: peak RSS", _one("MiB", peak_mib(tail.pid)))
        yield Row(GROUP, f"{what}: descriptors", _one("open", len(tail.open_files)))
        _stop(tail)


def _one(unit: str, value: float) -> Series:
    return Series(unit, (value,))


def _lag_s(url: str, folder: Path, writers: Sequence[Writer], active: Sequence[int]) -> float:
    """Seconds from the first of some lines in each active file to the last row."""
    wanted = int(fetch(url, _STORED)[0][0]) + len(active) * _GAIN
    began = time.monotonic()
    for at in active:
        with (folder / f"{at}.jsonl").open("ab") as file:
            file.write(writers[at].lines(_GAIN, _LINE_BYTES))
    _stored(url, wanted)
    return time.monotonic() - began


def _stored(url: str, wanted: int) -> None:
    eventually(lambda: fetch(url, _STORED)[0][0] >= wanted, 600, "every row is there")
    if fetch(url, _STORED)[0][0] != wanted:
        raise RuntimeError("more rows than lines")


def _stop(tail: TailProcess) -> None:
    if tail.stop():
        raise RuntimeError(tail.said[-2000:])
