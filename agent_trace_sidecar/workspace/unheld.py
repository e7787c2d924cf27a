"""Tracked files that OpenCode's snapshots don't hold, because git ignores them: whether a step may have changed one.

What they held before is not known then, so nothing of them is anybody's; but that they were written is.
"""

import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

from agent_trace_sidecar.workspace import git
from agent_trace_sidecar.workspace.revision import git_dir
from agent_trace_sidecar.workspace.snapshot import Snapshots
from agent_trace_sidecar.workspace.steps import Step

TIMEOUT_S: Final = 4.0
MAX_BYTES: Final = 16 * 1024 * 1024
MAX_FILES: Final = 2000
"""Of a repository that tracks more files which its snapshots don't hold, none is looked at."""
_MAX_KNOWN: Final = 64


class Changed(NamedTuple):
    """A file and when it was last changed."""

    path: str
    changed_ms: float


class Unheld:
    """Lists such files, anew only where the index or the snapshot is another."""

    def __init__(self, snapshots: Snapshots) -> None:
        """`snapshots` are those of OpenCode."""
        self._snapshots = snapshots
        self._known: dict[tuple[object, ...], list[str]] = {}

    def changed_since(self, step: Step, since_ms: float) -> list[Changed]:
        """Those that were changed since a time, of the folder that the step's snapshots are of."""
        root = Path(step.root)
        found = []
        for path in self._paths(step, root):
            try:
                status = (root / path).lstat()
            except (OSError, ValueError):
                continue
            if stat.S_ISREG(status.st_mode) and status.st_ctime_ns / 1e6 >= since_ms:
                found.append(Changed(path, status.st_ctime_ns / 1e6))
        return found

    def _paths(self, step: Step, root: Path) -> list[str]:
        try:
            own = git_dir(root)
            index = (own / "index").stat() if own else None
        except (OSError, ValueError):
            return []
        if own is None or index is None or not step.tree:
            return []
        key = (step.root, step.tree, index.st_ino, index.st_size, index.st_mtime_ns)
        if key not in self._known:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[key] = self._listed(step, own)
        return self._known[key]

    def _listed(self, step: Step, own: Path) -> list[str]:
        held = self._snapshots.paths(step.root, step.tree)
        output = git.run(own, "ls-files", "-z", timeout_s=TIMEOUT_S, max_bytes=MAX_BYTES) if held is not None else None
        prefix = step.scope + "/" if step.scope else ""
        tracked = {os.fsdecode(name) for name in (output or b"").split(b"\0") if name}
        missing = [path for path in tracked - (held or frozenset()) if path.startswith(prefix)]
        return sorted(missing) if len(missing) <= MAX_FILES else []
