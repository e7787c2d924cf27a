"""The files of an embedded server: who may see them, who owns them, and which process says it serves them."""

import os
import stat
import subprocess
from pathlib import Path

from agent_trace_sidecar.postgres.embedded.binaries import EmbeddedError


def private_folder(folder: Path) -> None:
    """Make sure that `folder` is there, is ours and is closed to others; a name in /tmp may have been taken."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise EmbeddedError(f"{folder} belongs to another user: remove it, or use another AGENT_TRACE_STATE_DIR")
    folder.chmod(0o700)


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
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    command = _command_line(pid)
    return pid if f"postgres -D {data} " in command else None


def _command_line(pid: int) -> str:
    """Return the command line of a process, empty when there is none or it is a zombie."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_text("utf-8", "surrogateescape").replace("\0", " ")
        except OSError:
            return ""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout


def disown_pid_file(data: Path) -> None:
    """Keep a stale pid file from naming a live process, which is not the server: that one would hold `server.lock`.

    Postgres would refuse to start, also for a killed server's remains that nobody has waited for. The first line is
    replaced by our own id, which Postgres takes for stale because we start it; the file itself stays, as it also
    tells Postgres about shared memory that may still be in use.
    """
    file = data / "postmaster.pid"
    try:
        rest = file.read_text().partition("\n")[2]
    except FileNotFoundError:
        return
    file.write_text(f"{os.getpid()}\n{rest}")
