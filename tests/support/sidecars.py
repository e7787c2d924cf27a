"""The sidecars of a real OpenCode as processes, so that a test may stop or kill them."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import eventually


def noted_sidecar(folder: Path) -> str:
    """`AGENT_TRACE_SIDECAR` for a sidecar that notes its process id in a folder."""
    pids, python = shlex.quote(str(folder / "pids")), shlex.quote(sys.executable)
    run = f"echo $$ >> {pids}; exec {python} -m agent_trace_sidecar run"
    return f"sh -c {shlex.quote(run)}"


def alive(folder: Path) -> list[int]:
    """Those that are alive; those of other processes of OpenCode have ended with them."""
    pids = map(int, (folder / "pids").read_text().split())
    return [pid for pid in pids if b"agent_trace_sidecar" in _command(pid)]


@contextmanager
def stopped(folder: Path) -> Iterator[None]:
    """Let them read nothing meanwhile, as on a machine that is too busy: what calls do is over when they read of it."""
    pids = alive(folder)
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: all(map(_is_stopped, pids)), 10, "the sidecars are stopped")
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
