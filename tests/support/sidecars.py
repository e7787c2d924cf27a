"""The sidecars of a real OpenCode as processes, so that a test may stop or kill them."""

import os
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.support.waiting import eventually

_IDLE: Final = (b"T", b"Z", b"X", b"")
"""States of a process that is stopped, or has ended."""


def noted_sidecar(folder: Path) -> str:
    """`AGENT_TRACE_SIDECAR` for a sidecar that notes its process id in a folder."""
    pids, python = shlex.quote(str(folder / "pids")), shlex.quote(sys.executable)
    run = f"echo $$ >> {pids}; exec {python} -m agent_trace_sidecar run"
    return f"sh -c {shlex.quote(run)}"


def alive(folder: Path) -> list[int]:
    """Those that are alive; those of other processes of OpenCode have ended with them, or are about to."""
    pids = map(int, (folder / "pids").read_text().split())
    return [pid for pid in pids if _is_sidecar(pid, folder)]


@contextmanager
def stopped(folder: Path) -> Iterator[None]:
    """Let them read nothing meanwhile, as on a machine that is too busy: what calls do is over when they read of it."""
    pids = alive(folder)
    assert pids
    send(pids, signal.SIGSTOP)
    try:
        eventually(lambda: all(_state(pid) in _IDLE for pid in pids), 10, "the sidecars are stopped")
        yield
    finally:
        send(pids, signal.SIGCONT)


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to those that have not ended meanwhile."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _is_sidecar(pid: int, folder: Path) -> bool:
    """Whether a process is a sidecar of this OpenCode: the number of one that has ended may be any other's by now."""
    return b"agent_trace_sidecar" in _read(pid, "cmdline") and os.fsencode(folder) in _read(pid, "environ")


def _state(pid: int) -> bytes:
    """The letter of its state; nothing where it is gone."""
    return _read(pid, "stat").rpartition(b")")[2][1:2]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
