"""The revision a git repository stands at, read from its files: no process is started for it.

Understood are worktrees and submodules (`.git` is a file), loose and packed refs, a detached HEAD. An unborn HEAD
has no revision, and a repository whose refs are not in files (reftable) has none that we can read.
"""

import re
from pathlib import Path
from typing import Final

from agent_trace_sidecar.limits.files import read_part, read_small
from agent_trace_sidecar.opencode.wire import VcsObserved

_MAX_PARENTS: Final = 40
_MAX_SYMREFS: Final = 5
_MAX_PACKED_BYTES: Final = 16 * 1024 * 1024
_SHA: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF: Final = re.compile(r"ref: *(refs/[^\x00-\x20~^:?*\[\\]+)")


class Revisions:
    """Reads revisions; caches what is expensive to read, the table of packed refs, until it changes."""

    def __init__(self) -> None:
        self._packed: dict[Path, tuple[tuple[int, int, int], dict[str, str]]] = {}

    def of(self, root: Path) -> VcsObserved | None:
        """Where the repository around a folder stands; None where there is none, or it has no commit.

        Raises:
            OSError: its files can't be read.
        """
        own = git_dir(root)
        if own is None:
            return None
        common = _common(own)
        name = "HEAD"
        for _ in range(_MAX_SYMREFS):
            text = read_small(own / name) or read_small(common / name) or self._packed_refs(common).get(name, "")
            if _SHA.fullmatch(text):
                return VcsObserved("git", text)
            symbolic = _REF.fullmatch(text)
            if symbolic is None or ".." in symbolic[1]:
                return None
            name = symbolic[1]
        return None

    def _packed_refs(self, common: Path) -> dict[str, str]:
        path = common / "packed-refs"
        try:
            status = path.stat()
        except FileNotFoundError:
            return {}
        mark = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._packed.get(path)
        if known is None or known[0] != mark:
            if len(self._packed) > _MAX_PARENTS:
                self._packed.clear()
            known = self._packed[path] = (mark, _parse_packed(path) if status.st_size <= _MAX_PACKED_BYTES else {})
        return known[1]


def _parse_packed(path: Path) -> dict[str, str]:
    refs = {}
    for line in read_part(path, _MAX_PACKED_BYTES).decode(errors="replace").splitlines():
        sha, _, name = line.partition(" ")
        if _SHA.fullmatch(sha):
            refs[name] = sha
    return refs


def git_dir(root: Path) -> Path | None:
    """The git directory of the worktree around a folder; None where there is none.

    Raises:
        OSError: its files can't be read.
    """
    for folder in (root, *list(root.parents)[:_MAX_PARENTS]):
        entry = folder / ".git"
        if entry.is_dir():
            return entry
        if entry.is_file():
            text = read_small(entry)
            return folder / text[8:].strip() if text.startswith("gitdir: ") else None
    return None


def common_dir(root: Path) -> Path | None:
    """The git directory that all worktrees of the repository around a folder share; None where there is none.

    Raises:
        OSError: its files can't be read.
    """
    own = git_dir(root)
    return _common(own) if own is not None else None


def _common(git_dir: Path) -> Path:
    pointer = read_small(git_dir / "commondir")
    return git_dir / pointer if pointer else git_dir
