"""The files of an embedded server: who may see them, who owns them, and which process claims to serve them."""

import os
from pathlib import Path
from typing import Final

from agent_trace_sidecar.limits import processes
from agent_trace_sidecar.limits.files import read_part, read_small, write_whole

_MAX_BYTES: Final = 64 * 1024
_PS_S: Final = 5.0


def own(folder: Path, owner: int) -> None:
    """Give `folder` and all in it to `owner`: the server refuses data that is not its own."""
    if folder.stat().st_uid == owner:
        return
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            os.chown(os.path.join(parent, name), owner, owner, follow_symlinks=False)  # noqa: PTH118 - 1,000 files
    os.chown(folder, owner, owner)  # last: with it the walk counts as done


def postmaster(data: Path) -> int | None:
    """Return the process that serves `data`: the one of its pid file, if that is really a server of this folder."""
    try:
        pid = int(read_small(data / "postmaster.pid").split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    command = _command_line(pid)
    return pid if f"postgres -D {data} " in command else None


def _command_line(pid: int) -> str:
    """Return the command line of a process, empty when there is none or it is a zombie."""
    if Path("/proc/self/cmdline").exists():
        try:
            return os.fsdecode(read_part(Path(f"/proc/{pid}/cmdline"), _MAX_BYTES)).replace("\0", " ")
        except OSError:
            return ""
    ps = processes.find("ps")
    if ps is None:
        return ""
    command = [ps, "-ww", "-o", "command=", "-p", str(pid)]
    try:
        listed = processes.run(
            command, cwd=Path("/"), env=processes.environment(), timeout_s=_PS_S, max_bytes=_MAX_BYTES
        )
    except processes.ProcessError:
        return ""
    return os.fsdecode(listed.output)


def disown_pid_file(data: Path) -> None:
    """Keep a stale pid file from naming a live process, which is not the server: that one would hold `server.lock`.

    Postgres would refuse to start, also for a killed server that no parent has waited for. The first line is
    replaced by our own id, which Postgres takes for stale because we start it; the file itself stays, as it also
    names shared memory that may still be in use.
    """
    file = data / "postmaster.pid"
    text = read_part(file, _MAX_BYTES)
    if text:
        write_whole(file, b"%d\n%b" % (os.getpid(), text.partition(b"\n")[2]), owner=data.stat().st_uid)
