"""Files that were changed while a step ran and before a call of it began to work: a person's doing, not the call's.

While the model answers, or a permission is awaited, a person goes on typing, and the step's snapshots show that
together with what the call does. So these files are read when the call begins.
"""

import stat
from pathlib import Path
from typing import Final

from agent_trace_sidecar.limits import files
from agent_trace_sidecar.workspace.snapshot import Snapshots
from agent_trace_sidecar.workspace.steps import Step

MAX_LISTED: Final = 20_000
"""Files of a snapshot that are looked at; in a larger project none is."""
MAX_FILES: Final = 64
MAX_BYTES: Final = 4 * 1024 * 1024
"""Files and contents that are kept; a person changes fewer, so more are a checkout."""
EARLY_MS: Final = 2000.0
"""A step's snapshot is older than its event: what was changed so long before the event may not be in it."""
SLACK_MS: Final = 10.0
"""See `observer.CLOCK_SLACK_NS`."""


def changed_between(snapshots: Snapshots, step: Step, until_ms: float) -> dict[str, bytes]:
    """What files of a step's first snapshot hold, if they were last changed after it and before a time."""
    paths = snapshots.paths(step.root, step.tree) or frozenset()
    root = Path(step.root)
    found: dict[str, bytes] = {}
    size = 0
    for path in paths if len(paths) <= MAX_LISTED else ():
        if not step.began_ms - EARLY_MS <= (_changed_ms(root, path) or 0.0) < until_ms - SLACK_MS:
            continue
        try:
            content = files.read_inside(root, path)
        except (OSError, ValueError):
            continue
        if content is not None and content.changed_ns / 1e6 < until_ms - SLACK_MS:
            found[path] = content.data
            size += len(content.data)
        if len(found) > MAX_FILES or size > MAX_BYTES:
            return {}
    return found


def _changed_ms(root: Path, path: str) -> float | None:
    try:
        status = (root / path).lstat()
    except (OSError, ValueError):
        return None
    return status.st_ctime_ns / 1e6 if stat.S_ISREG(status.st_mode) else None
