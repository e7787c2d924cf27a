"""What the guards cost an ordinary event: python -m tests.benchmarks.guards [--rounds 30].

Recorded sessions in a real git repository go through the sidecar's steps from the line to the row: observe, redact,
parse, build, encode. With the guards, and without them, in turn in one process:

- the watchdog of the observer, without which the repository is read in the caller's own thread;
- the budget and the processor-time deadline of the redactor;
- the sidecar's own fields, which are taken out of what comes in;
- the hash by which an event with a known id and other content is recognised;
- the bound on jumps of sequence numbers.

Prints processor time per event, of all threads, and the ratio. Without the database, whose part is the same in both.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from unittest.mock import patch

from agent_trace_sidecar.opencode import usual, wire
from agent_trace_sidecar.postgres.binary_copy import event_rows, gate_rows
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.rows import key_number
from agent_trace_sidecar.records.session import Sequence
from agent_trace_sidecar.redaction import Redactor
from agent_trace_sidecar.redaction.spans import Effort
from agent_trace_sidecar.workspace.observer import Observer
from agent_trace_sidecar.workspace.watched import WatchedObserver
from tests.support.envelopes import RECORDINGS, recorded_lines

_TOGETHER: Final = 50
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


def _observer() -> Observer:
    return Observer(lambda _: False)


def _once(lines: list[bytes], redactor: Redactor, *, guarded: bool) -> float:
    """Processor time in seconds of one pass over all lines."""
    watched = WatchedObserver(_observer, on_late=sys.exit, on_error=lambda error: sys.exit(repr(error)))
    look = watched.observe if guarded else _observer().observe
    builder = Builder(BuildSettings())
    began = time.process_time()
    for at in range(0, len(lines), _TOGETHER):
        some = lines[at : at + _TOGETHER]
        rows, keys = [], []
        for line in redactor.lines(some, [look(one) for one in some]):
            envelope = usual.parse(line.line)
            if isinstance(envelope, wire.Envelope):
                rows.append(builder.feed(envelope).event)
                keys.append((key_number(rows[-1]), wire.content_hash(line.line, envelope) if guarded else None))
        event_rows(rows)
        gate_rows(keys, _AT)
    return time.process_time() - began


@contextmanager
def _without_guards() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(patch.object(wire, "_may_have_own_fields", lambda _: False))
        stack.enter_context(patch.object(Effort, "spend", lambda *_: None))
        stack.enter_context(patch.object(Sequence, "is_beyond", lambda *_: False))
        yield


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="default: %(default)s")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        _repository(Path(folder))
        lines = _lines(Path(folder))
        redactor = Redactor()
        redactor.settle()
        pairs = []
        for number in range(rounds + 1):
            took = {}
            for guarded in (True, False) if number % 2 else (False, True):
                with ExitStack() as stack:
                    if not guarded:
                        stack.enter_context(_without_guards())
                    took[guarded] = _once(lines, redactor, guarded=guarded)
            pairs.append((took[True], took[False]))
        pairs = pairs[1:]  # the first one fills caches
    ratios = sorted(one / other for one, other in pairs)
    for name, times in (("with", [one for one, _ in pairs]), ("without", [other for _, other in pairs])):
        print(f"{name:8}{statistics.median(times) / len(lines) * 1e6:8.1f} us per event")
    middle = statistics.median(ratios)
    print(f"ratio of a pair: median {middle:.3f}, {ratios[0]:.3f} to {ratios[-1]:.3f}; {len(lines)} events")


if __name__ == "__main__":
    main()
