"""Files that were changed while a step ran and before a call of it began to work: a person's doing, not the call's.

While the model answers, or a permission is awaited, a person goes on typing, and the step's snapshots show that
together with what the call does. So these files are read when the call begins.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from agent_trace_sidecar.limits import files
from agent_trace_sidecar.workspace.snapshot import Snapshots
from agent_trace_sidecar.workspace.steps import Call, Held, Step, Typed

MAX_LISTED: Final = 50_000
"""Files of a snapshot that are looked at; in a larger project none is."""
MAX_FILES: Final = 64
MAX_BYTES: Final = 4 * 1024 * 1024
"""Files and contents that are kept; a person changes fewer, so more are a checkout."""
EARLY_MS: Final = 2000.0
"""A step's snapshot is older than its event: what was changed so long before the event may not be in it."""
SLACK_MS: Final = 10.0
"""See `observer.CLOCK_SLACK_NS`."""


def changed_between(snapshots: Snapshots, step: Step, call: Call) -> Typed:
    """What files of a step's first snapshot hold, if they were last changed after it and before a call began.

    A file that was changed after that time may have been changed before as well: the call was faster than this. Files
    that are new since the snapshot count, too, for a call that waited for a permission.
    """
    paths = snapshots.paths(step.root, step.tree)
    if paths is None or len(paths) > MAX_LISTED:
        return Typed({}, None)
    root, end_ms = Path(step.root), call.began_ms - SLACK_MS
    if call.permitted:
        paths |= set(islice(_new_files(step, paths), MAX_FILES))
    changed = {path: _changed_ms(f"{step.root}/{path}") or 0.0 for path in paths}
    late = {path for path, at_ms in changed.items() if at_ms >= end_ms}
    found: dict[str, Held] = {}
    size = 0
    for path in (path for path, at_ms in changed.items() if step.began_ms - EARLY_MS <= at_ms < end_ms):
        try:
            content = files.read_inside(root, path)
        except (OSError, ValueError):
            content = None
        if content is None or content.changed_ns / 1e6 >= end_ms:
            late.add(path)
            continue
        found[path] = Held(content.data, content.changed_ns / 1e6)
        size += len(content.data)
        if len(found) > MAX_FILES or size > MAX_BYTES:
            return Typed({}, None)
    return Typed(found, frozenset(late))


def _new_files(step: Step, paths: Iterable[str]) -> Iterator[str]:
    """Files in the folders of a snapshot that it does not have; only folders that have changed since are listed."""
    known = frozenset(paths)
    for folder in {path.rpartition("/")[0] for path in known}:
        name = f"{step.root}/{folder}"
        try:
            changed_ms = os.lstat(name).st_mtime_ns / 1e6
            entries = list(os.scandir(name)) if changed_ms >= step.began_ms - EARLY_MS else []
        except (OSError, ValueError):
            continue
        prefix = f"{folder}/" if folder else ""
        yield from (prefix + one.name for one in entries if prefix + one.name not in known)


def _changed_ms(file: str) -> float | None:
    try:
        status = os.lstat(file)  # a Path for each file would take most of the time
    except (OSError, ValueError):
        return None
    return status.st_ctime_ns / 1e6 if stat.S_ISREG(status.st_mode) else None
