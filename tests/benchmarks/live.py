"""A running sidecar as the shim would feed it: lines at a steady rate, and when their rows became visible."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from uuid import UUID

import asyncpg

from tests.benchmarks.harness import ROOT, Bench, sidecar
from tests.benchmarks.lines import lines
from tests.support.opencode import killed_after
from tests.support.waiting import Deadline, eventually, exit_code

_POLL_S = 0.001


class Sidecar:
    """A process of `run`; `acked` is the highest number that it has answered with."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.acked = 0
        self.began = time.perf_counter()
        self.first_ack_s: float | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, line: bytes) -> None:
        """Write one line, as a hook does."""
        assert self.process.stdin is not None
        self.process.stdin.write(line)

    def end(self, deadline_s: float = 30) -> None:
        """Close its stdin and wait for its end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        exit_code(self.process, deadline_s)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for answer in self.process.stdout:
            if self.first_ack_s is None:
                self.first_ack_s = time.perf_counter() - self.began
            self.acked = json.loads(answer)["ack"]


@contextmanager
def running(bench: Bench, url: str, **settings: str) -> Iterator[Sidecar]:
    """Start `run`; it is gone after the block."""
    began = time.perf_counter()
    with (
        subprocess.Popen(
            sidecar("run"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=bench.environment(url, **settings),
            cwd=ROOT,
            bufsize=0,
            start_new_session=True,
        ) as process,
        killed_after(process.pid),
    ):
        one = Sidecar(process)
        one.began = began
        yield one


def numbered(instance: UUID, events: int, first_copy: int) -> list[bytes]:
    """Lines of one run of a shim: numbered through, with newlines."""
    made = []
    for seq, line in enumerate(islice(lines(first_copy), events), 1):
        head, _, rest = line.partition(b'"hook":')
        event = head[: head.index(b',"seq"')]
        at = head[head.index(b'"at":') :].split(b",")[0]
        made.append(event + b',"seq":%d,%b,"instance":"%b","hook":' % (seq, at, str(instance).encode()) + rest + b"\n")
    return made


def ready(one: Sidecar, line: bytes) -> None:
    """Send the first line and wait for its answer, so that the start is over."""
    one.send(line)
    eventually(lambda: one.acked >= 1, 30, "the sidecar answers")


async def delays(url: str, one: Sidecar, feed: Sequence[bytes], gaps_s: Sequence[float], source: UUID) -> list[float]:
    """Send lines, waiting `gaps_s` between them; return for each how long after its write its row was visible.

    The instance's row in agent_trace_sources holds the highest number committed, in the same transaction as the rows.
    """
    connection = await asyncpg.connect(url)
    statement = await connection.prepare(
        "SELECT position FROM agent_trace_sources WHERE source_id = $1 AND kind = 'instance'"
    )
    await _visible(statement, source, 1)
    written: list[float] = []
    thread = threading.Thread(target=_feed, args=(one, feed, gaps_s, written))
    thread.start()
    found: list[float] = []
    while len(found) < len(feed):
        position = (await statement.fetchval(source)) - 1
        now = time.perf_counter()
        found += [now - at for at in written[len(found) : position]]
        threading.Event().wait(_POLL_S)
    thread.join()
    await connection.close()
    return found


async def _visible(statement: "asyncpg.prepared_stmt.PreparedStatement", source: UUID, position: int) -> None:
    deadline = Deadline(30)
    while (await statement.fetchval(source) or 0) < position:
        if deadline.passed():
            raise RuntimeError("the first row does not come")
        threading.Event().wait(_POLL_S)


def _feed(one: Sidecar, feed: Sequence[bytes], gaps_s: Sequence[float], written: list[float]) -> None:
    due = time.perf_counter()
    for line, gap in zip(feed, gaps_s, strict=True):
        due += gap
        if (left := due - time.perf_counter()) > 0:
            threading.Event().wait(left)
        written.append(time.perf_counter())
        one.send(line)


def resident_mib(pid: int) -> float:
    """What a process holds in memory now."""
    pages = int((ROOT.__class__(f"/proc/{pid}/statm")).read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
