"""What the guards cost an ordinary event: python -m tests.benchmarks.guards [--rounds 12].

Lines go through the sidecar's steps from the line to the row: redact, parse, build, encode. Live, recorded sessions are
observed in a real git repository before; in a replay, which observes nothing, the lines are those of the other
benchmarks. With all guards, with all but one, and without any, in one process, 50 lines of each in turn:

- the watchdog of the observer (live), without which the repository is read in the caller's own thread;
- the budget and the processor-time deadline of the redactor;
- the sidecar's own fields, which are taken out of what comes in;
- the hash by which an event with a known id and other content is recognised.

Prints processor time per event, of all threads. Each round does the same work, so of each 50 lines the fastest round
counts: what other processes take is no cost of the guards. At last whole replays, from the file to the commit, with all
guards and without any, in turn: the median of the pairs' ratios.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final
from unittest.mock import patch

from agent_trace_sidecar.config import load
from agent_trace_sidecar.opencode import usual, wire
from agent_trace_sidecar.pipeline.replay import replay
from agent_trace_sidecar.postgres.binary_copy import event_rows, gate_rows
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.rows import key_number
from agent_trace_sidecar.redaction import Redactor
from agent_trace_sidecar.redaction.spans import Effort
from agent_trace_sidecar.telemetry.logging import logger
from agent_trace_sidecar.workspace.observer import Observer
from agent_trace_sidecar.workspace.watched import WatchedObserver
from tests.benchmarks.harness import Bench
from tests.benchmarks.lines import lines as fresh_lines
from tests.benchmarks.lines import write_log
from tests.support.envelopes import RECORDINGS, recorded_lines
from tests.support.postgres import PostgresServers, guarded_folder

_TOGETHER: Final = 50
_REPLAYED: Final = 5000
_WHOLE: Final = 10_000
_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)


def _repository(folder: Path) -> None:
    (folder / "a.txt").write_text("one\n")
    who = {f"GIT_{one}_{what}": "t@example.org" for one in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=folder, check=True, env=os.environ | who)


def _lines(folder: Path) -> list[bytes]:
    """The recorded lines, as if their sessions had worked in this folder."""
    found = []
    for name in RECORDINGS:
        lines = recorded_lines(name)
        envelope = wire.parse(lines[0])
        assert isinstance(envelope, wire.Envelope)
        place = (envelope.worktree or "/").encode()
        found += [line.replace(place, str(folder).encode()) if len(place) > 1 else line for line in lines]
    return found


GUARDS: Final[dict[str, Callable[[], AbstractContextManager[object]]]] = {
    "watchdog": nullcontext,
    "budget": lambda: patch.object(Effort, "spend", lambda *_: None),
    "own fields": lambda: patch.object(wire, "_may_have_own_fields", lambda _: False),
    "hash": lambda: patch.object(usual, "content_hash", lambda *_: None),
}
"""What takes a guard away; the watchdog is not called to begin with."""


class _Lane:
    """The steps of a sidecar of its own, without some of the guards."""

    def __init__(self, without: Collection[str], *, live: bool) -> None:
        self._without = without
        self._observe: Callable[[bytes], bytes | None] = lambda _: None
        if live:
            observer = Observer(lambda _: False)
            watched = WatchedObserver(lambda: observer, on_late=sys.exit, on_error=lambda error: sys.exit(repr(error)))
            self._observe = observer.observe if "watchdog" in without else watched.observe
        self._redactor = Redactor()
        self._redactor.settle()
        self._builder = Builder(BuildSettings())

    def seconds(self, lines: Sequence[bytes]) -> float:
        """Processor time that these lines take, which follow those before."""
        with ExitStack() as stack:
            for guard in self._without:
                stack.enter_context(GUARDS[guard]())
            began = time.process_time()
            rows, keys = [], []
            for line in self._redactor.lines(lines, [self._observe(one) for one in lines]):
                envelope = usual.parse(line.line)
                if isinstance(envelope, wire.Envelope):
                    rows.append(self._builder.feed(envelope).event)
                    keys.append((key_number(rows[-1]), usual.content_hash(line.line, envelope)))
            event_rows(rows)
            gate_rows(keys, _AT)
            return time.process_time() - began


def _round(lines: Sequence[bytes], variants: Mapping[str, Collection[str]], *, live: bool) -> dict[str, list[float]]:
    """Seconds of each variant, portion by portion."""
    lanes = {name: _Lane(without, live=live) for name, without in variants.items()}
    took: dict[str, list[float]] = {name: [] for name in lanes}
    order = list(lanes)
    for at in range(0, len(lines), _TOGETHER):
        for name in order:
            took[name].append(lanes[name].seconds(lines[at : at + _TOGETHER]))
        order.append(order.pop(0))
    return took


def _report(title: str, lines: Sequence[bytes], rounds: int, *, live: bool) -> None:
    guards = [name for name in GUARDS if live or name != "watchdog"]
    variants = {"all": (), **{name: (name,) for name in guards}, "none": tuple(guards)}
    found = [_round(lines, variants, live=live) for _ in range(rounds)]
    least = {name: sum(map(min, zip(*(one[name] for one in found), strict=True))) for name in variants}
    took = {name: seconds / len(lines) * 1e6 for name, seconds in least.items()}
    print(f"{title}: {took['all']:.1f} us per event with the guards, {took['none']:.1f} without")
    for name in guards:
        print(f"  {name:12}{took['all'] - took[name]:6.2f} us")


def _whole(rounds: int) -> None:
    """Replays into empty databases, in this process: 10,000 events each."""
    with guarded_folder() as scratch:
        bench = Bench(quick=True, rounds=rounds, scratch=scratch, servers=PostgresServers(scratch))
        file = scratch / "log.jsonl"
        write_log(file, _WHOLE)

        def seconds(without: Collection[str]) -> float:
            with bench.database() as url, ExitStack() as stack:
                for guard in without:
                    stack.enter_context(GUARDS[guard]())
                config = load(bench.environment(url))
                bench.settle()
                began = time.process_time()
                (done,) = asyncio.run(replay(config, logger(), [file], lambda *_: None))
                took = time.process_time() - began
            if done.counts.stored != _WHOLE:
                raise RuntimeError(done.sentence())
            return took / _WHOLE * 1e6

        seconds(())  # fills caches
        pairs = []
        for number in range(rounds):
            took = {guarded: seconds(() if guarded else GUARDS) for guarded in (number % 2 > 0, number % 2 == 0)}
            pairs.append((took[True], took[False]))
    every, none = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(one / other for one, other in pairs)
    middle, low, high = statistics.median(ratios), ratios[0], ratios[-1]
    print(f"whole replay: {every:.1f} us per event with, {none:.1f} without: {middle:.3f} ({low:.3f} to {high:.3f})")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="default: %(default)s")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        _repository(Path(folder))
        _report("live", _lines(Path(folder)), rounds, live=True)
    _report("replay", list(islice(fresh_lines(), _REPLAYED)), rounds, live=False)
    _whole(rounds)


if __name__ == "__main__":
    main()
