"""The one way in which tests wait, and the deadlines of all that they wait for.

A deadline counts seconds of a quiet machine as fast as the one these tests were written on. On a slower machine, and
while more processes want to run than there are processors, each of its seconds takes longer: a deadline that is missed
says something about the program, not about the machine's other work.
"""

import asyncio
import functools
import hashlib
import inspect
import json
import os
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, AnyStr, Final, TypeVar

T = TypeVar("T")

_POLL_FIRST_S: Final = 0.02
_POLL_MAX_S: Final = 0.1
"""Asking often takes the processor from what is waited for."""
_SPARE: Final = 2.0
"""What a busy disk or memory costs is not measured; longer deadlines cost nothing where they are met."""
_YARDSTICK_S: Final = 0.065
"""What the yardstick takes on a machine that needs 5 s for a run of OpenCode, in processor time."""
_LOAD: Final = Path("/proc/loadavg")


@functools.cache
def slowness() -> float:
    """How many times longer this machine takes to compute than the one that the deadlines are for; at least 1."""
    return max(1.0, min(_yardstick() for _ in range(3)) / _YARDSTICK_S)


def _yardstick() -> float:
    """Processor seconds of some interpreted work, which is what OpenCode, node and the sidecar do as they start."""
    document = {"a": list(range(200)), "b": "x" * 500}
    began = time.process_time()
    for _ in range(1500):
        hashlib.blake2s(json.dumps(document).encode()).digest()
        json.loads(json.dumps(document))
    return time.process_time() - began


@functools.cache
def _processors() -> float:
    """How many processors this process may use at once; a container's quota counts, too."""
    number = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(number, int(quota) / int(period))
    except (OSError, ValueError):  # no such control group, or no quota in it ("max")
        return number


def crowding() -> float:
    """How many processes want each processor at this moment; at least 1."""
    try:
        running = float(_LOAD.read_text().split()[3].partition("/")[0])
    except OSError:
        running = os.getloadavg()[0]  # of the last minute: all that macOS says
    return max(1.0, running / _processors())


def patient(seconds: float) -> float:
    """A timeout for what takes a number only, as the machine is now; `Deadline` also follows what comes."""
    return seconds * _SPARE * slowness() * crowding()


class Deadline:
    """So many seconds from now. It has to be looked at now and then, as it counts by how busy the machine is."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._left = seconds * _SPARE * slowness()
        self._seen = time.monotonic()

    def passed(self) -> bool:
        """Whether it is over."""
        now = time.monotonic()
        self._left -= (now - self._seen) / crowding()
        self._seen = now
        return self._left < 0


def eventually(predicate: Callable[[], T], deadline_s: float = 10.0, what: str = "") -> T:
    """Call `predicate` until it returns something true, and return that; fail with `what` after `deadline_s`."""
    deadline = Deadline(deadline_s)
    pause, pause_s = threading.Event(), _POLL_FIRST_S
    while True:
        value = predicate()
        if value:
            return value
        if deadline.passed():
            raise AssertionError(_missed(deadline_s, what or inspect.getsource(predicate).strip()))
        pause.wait(pause_s)
        pause_s = min(pause_s * 1.2, _POLL_MAX_S)


async def eventually_async(predicate: Callable[[], Awaitable[T]], deadline_s: float = 10.0, what: str = "") -> T:
    """As `eventually`, for a coroutine function."""
    deadline = Deadline(deadline_s)
    pause_s = _POLL_FIRST_S
    while True:
        async with asyncio.timeout(patient(deadline_s + 5)):
            value = await predicate()
        if value:
            return value
        if deadline.passed():
            raise AssertionError(_missed(deadline_s, what or inspect.getsource(predicate).strip()))
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.2, _POLL_MAX_S)


def exit_code(process: "subprocess.Popen[Any]", deadline_s: float) -> int:
    """Wait until a process has ended; what it prints must go somewhere meanwhile."""
    eventually(lambda: process.poll() is not None, deadline_s, f"{process.args!r} ends")
    return int(process.returncode)


def output(process: "subprocess.Popen[AnyStr]", deadline_s: float) -> tuple[AnyStr, AnyStr]:
    """Read what a process prints until it has ended; one that is late is killed."""
    deadline = Deadline(deadline_s)
    while True:
        try:
            return process.communicate(timeout=0.5)
        except subprocess.TimeoutExpired:
            if deadline.passed():
                process.kill()
                printed = process.communicate()
                raise AssertionError(_missed(deadline_s, f"{process.args!r} ends: {printed}")) from None


def completed(
    command: Sequence[str | Path],
    deadline_s: float = 60.0,
    **options: Any,  # noqa: ANN401 - those of Popen
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, whatever its exit code, and return what it has printed."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen(list(map(str, command)), text=True, **options) as process:
        stdout, stderr = output(process, deadline_s)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def join(thread: threading.Thread, deadline_s: float) -> None:
    """Wait until a thread has ended."""
    eventually(lambda: not thread.is_alive(), deadline_s, f"{thread.name} ends")


def _missed(deadline_s: float, what: str) -> str:
    machine = f"it is {slowness():.1f} times slower, {crowding():.1f} processes want each processor"
    return f"not within {deadline_s} s of a quiet machine ({machine}): {what}"


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """Run something in a thread beside the block, which ends when both have."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()
