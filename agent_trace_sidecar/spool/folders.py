"""The folders of spools: what they are called, who owns them, which segments they hold.

The lock in a folder is held by its owner's process: it is free once the owner has died.
"""

import contextlib
import fcntl
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import NAMESPACE_URL, UUID, uuid5

from agent_trace_sidecar.limits.files import private_folder, state_folder

if TYPE_CHECKING:  # `status` of a machine without spools reads no rows
    from agent_trace_sidecar.records.rows import LogKey

SPOOL_FOLDER: Final = "spool"
"""In the state folder: where the spools are."""
_FOLDER: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[0-9a-f]{8}")
_SEGMENT: Final = re.compile(r"0\d{19}\.jsonl")  # what a bigint holds


class SpoolBusyError(Exception):
    """Another running process owns this spool."""


def spool_folders(root: Path) -> list[Path]:
    """The spools below `root`, oldest first."""
    entries = root.iterdir() if root.is_dir() else ()
    found = [path for path in entries if _FOLDER.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: (path.stat().st_ctime, path.name))


def trouble(root: Path) -> str:
    """Why no spool can be made below `root`; empty when nothing is known to be in the way."""
    place = next(path for path in (root, *root.parents) if path.exists())
    if not place.is_dir():
        return f"{place} is not a folder"
    return "" if os.access(place, os.W_OK | os.X_OK) else f"{place} can't be written"


def log_key(folder: Path) -> "LogKey":
    """What the spool in `folder` is called in the database; the folder's name begins with the run's id."""
    from agent_trace_sidecar.records.rows import LogKey  # noqa: PLC0415 - see above

    log_id = uuid5(NAMESPACE_URL, f"agent-trace-sidecar:spool:{folder.name}")
    instance = UUID(folder.name.partition(".")[0]) if _FOLDER.fullmatch(folder.name) else log_id
    return LogKey(instance, log_id)


def is_owned(folder: Path) -> bool:
    """Whether a running process owns the spool in this folder."""
    try:
        fd = lock(folder)
    except SpoolBusyError:
        return True
    except OSError:
        return False
    os.close(fd)
    return False


def extent(folder: Path) -> tuple[int, int]:
    """First and last position of the spool in `folder`, read without its lock (for `status`)."""
    starts = segments(folder)
    if not starts:
        return 0, 0
    last = folder / f"{starts[-1]:020d}.jsonl"
    return starts[0], starts[-1] + (last.stat().st_size if last.exists() else 0)


def create(folder: Path) -> int:
    """Make a spool's folder and its lock. It gets its name once it is locked: no process takes it for a dead one's."""
    newborn = folder.with_name(f".{folder.name}")
    state_folder(folder.parent.parent)
    private_folder(folder.parent)
    private_folder(newborn)
    fd = lock(newborn)
    try:
        newborn.rename(folder)
    except OSError:
        os.close(fd)
        raise
    return fd


def lock(folder: Path) -> int:
    """Take the lock of a folder; return the descriptor that holds it.

    Raises:
        SpoolBusyError: another process has it.
        OSError: it can't be opened.
    """
    path = folder / "lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), path.stat()):  # otherwise its last owner has removed it meanwhile
            return fd
    os.close(fd)
    raise SpoolBusyError(f"{folder} belongs to a running sidecar")


def segments(folder: Path) -> list[int]:
    """The positions at which the folder's segments begin."""
    found = (path for path in folder.iterdir() if _SEGMENT.fullmatch(path.name))
    return sorted(int(path.stem) for path in found if path.is_file() or path.is_dir())  # no pipe, which would block us
