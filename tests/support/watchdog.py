"""Waits for the end of its standard input, then kills what has to do with a folder, and removes the folder.

A process of its own, run as `python -I watchdog.py FOLDER` by `guarded_folder`: the end of the pipe comes also when
the test run is killed by force. Uses nothing of ours, as it may outlive what it guards.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_ROUNDS = 3
"""A process may start another one while we look; those of a killed server end by themselves."""

_MEMORY_LINE = 6
"""Of postmaster.pid, counted from 0: key and id of a System V segment."""


def main(folder: str) -> None:
    """Wait, kill, remove."""
    sys.stdin.buffer.read()
    for _ in range(_ROUNDS):
        for pid, words, cwd in _processes():
            if pid != os.getpid() and (f"{folder}/" in words or f"{cwd}/".startswith(f"{folder}/")):
                _kill(pid)
        free_memory(Path(folder))
        shutil.rmtree(folder, ignore_errors=True)


def free_memory(folder: Path) -> None:
    """Remove the shared memory which killed servers below `folder` have left: no start will come that would do it."""
    for file in folder.glob("**/postmaster.pid"):
        with contextlib.suppress(OSError):  # the file went, or there is no ipcrm: clear the rest all the same
            key_and_id = file.read_text().splitlines()[_MEMORY_LINE : _MEMORY_LINE + 1]
            if key_and_id:
                subprocess.run(["ipcrm", "-m", key_and_id[0].split()[-1]], capture_output=True, check=False)


def _processes() -> Iterator[tuple[int, str, str]]:
    """Yield pid, command line with environment, and working directory, as far as they can be seen."""
    if Path("/proc/self").exists():
        for name in (entry.name for entry in Path("/proc").glob("[0-9]*")):
            yield int(name), _read(name, "cmdline") + _read(name, "environ"), _cwd(name)
        return
    listed = subprocess.run(["ps", "-axwwE", "-o", "pid=,command="], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        pid, _, command = line.strip().partition(" ")
        yield int(pid), command, ""


def _read(pid: str, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def _cwd(pid: str) -> str:
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return  # gone by itself


if __name__ == "__main__":
    main(sys.argv[1])
