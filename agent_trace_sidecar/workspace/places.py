"""Where a file belongs: links are followed, and the innermost repository around it is its own.

A session's folder may hold submodules, other repositories and linked worktrees, and a tool may name a file through a
link or outside of the session's folder. What is recorded of such a file is filed under its own repository, which is
where a reader will search it; a file outside of every repository under its folder.
"""

import os
from pathlib import Path
from typing import Final, NamedTuple

from agent_trace_sidecar.limits.files import read_small
from agent_trace_sidecar.opencode.wire import Envelope, Repository
from agent_trace_sidecar.records.trace import relative_path
from agent_trace_sidecar.workspace import git
from agent_trace_sidecar.workspace.revision import common_dir

_MAX_PARENTS: Final = 40
_MAX_KEPT: Final = 64
_ROOTS_S: Final = 5.0
_MAX_ROOTS_BYTES: Final = 64 * 1024


class Place(NamedTuple):
    """A file by its root and its path from there, with forward slashes."""

    root: Path
    path: str
    is_own: bool = True
    """It belongs to the session's own repository or folder."""

    @property
    def file(self) -> str:
        """One name for one file."""
        return os.path.join(self.root, self.path)  # noqa: PTH118 - a text

    @property
    def name(self) -> str:
        """Without folders."""
        return self.path.rpartition("/")[2]


def session_root(envelope: Envelope) -> Path | None:
    """The worktree; the directory where there is no repository (OpenCode then reports "/")."""
    worktree = envelope.worktree
    name = worktree if worktree and worktree != "/" else envelope.directory
    root = Path(name) if name else None
    return root if root is not None and root.is_absolute() else None


def place_of(envelope: Envelope, name: str, folder: str | None = None) -> Place | None:
    """The place of a file as a tool names it; None where it has none.

    Args:
        envelope: names the session's folders.
        name: absolute, or relative to the folder.
        folder: what it is relative to, if not OpenCode's directory.
    """
    root = session_root(envelope)
    if root is None or not name or "\0" in name:
        return None
    base = os.path.join(envelope.directory or str(root), folder or "")  # noqa: PTH118 - Path knows no realpath
    real_root = os.path.realpath(root)
    if not os.path.isdir(real_root):  # noqa: PTH112 - the events of another machine
        path = relative_path(name, envelope.worktree, envelope.directory)
        return Place(root, path) if path else None
    real = os.path.realpath(os.path.join(base, name))  # noqa: PTH118
    own = repository_root(real)
    inside = real.startswith(real_root.rstrip("/") + "/")
    if inside and (own is None or len(own) <= len(real_root)):
        return Place(root, real[len(real_root.rstrip("/")) + 1 :])
    path = relative_path(name, envelope.worktree, envelope.directory) if own is None and not folder else None
    if path is not None:
        return Place(root, path)  # a link in the worktree that leads out of it is not followed
    outside = own or os.path.dirname(real)  # noqa: PTH120
    inner = real[len(outside.rstrip("/")) + 1 :]
    return Place(Path(outside), inner, is_own=False) if inner else None


def place_inside(envelope: Envelope, name: str) -> Place | None:
    """The place of a file by its name alone, for events of the past; None outside of it. No disk is read."""
    root, path = session_root(envelope), relative_path(name, envelope.worktree, envelope.directory)
    return Place(root, path) if root and path else None


def repository_root(file: str) -> str | None:
    """The innermost folder around a file that git keeps; None where there is none."""
    folder = os.path.dirname(file)  # noqa: PTH120 - as above
    for _ in range(_MAX_PARENTS):
        if os.path.lexists(os.path.join(folder, ".git")):  # noqa: PTH118
            return folder
        parent = os.path.dirname(folder)  # noqa: PTH120
        if parent == folder:
            return None
        folder = parent
    return None


class Projects:
    """What repositories are called; for one thread."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def repository(self, root: Path) -> Repository | None:
        """A root by its real name and what it is called; None where the session's own name for it is as good."""
        real = os.path.realpath(root)
        return Repository(real, self.name(Path(real))) if real != str(root) else None

    def name(self, root: Path) -> str:
        """OpenCode's name of a repository: the one that it keeps there, else the first commit; else the folder."""
        known = self._known.get(str(root)) or _name(root)
        if known is None:
            return str(root)
        if len(self._known) > _MAX_KEPT:
            self._known.clear()
        self._known[str(root)] = known
        return known


def _name(root: Path) -> str | None:
    try:
        folder = common_dir(root) if (root / ".git").exists() else None
        kept = read_small(folder / "opencode") if folder else ""
    except (OSError, ValueError):
        return None
    if folder is None or (kept and kept != "global"):
        return kept or None
    arguments = ("rev-list", "--max-parents=0", "--all")
    output = git.run(folder, *arguments, timeout_s=_ROOTS_S, max_bytes=_MAX_ROOTS_BYTES)
    return min(output.decode(errors="replace").split(), default=None) if output else None
