"""Where a repository stands, whatever keeps it: git, Jujutsu, Mercurial or Subversion.

The words are the Agent Trace specification's: a commit for git and hg, a change id for jj, a revision number for svn.
Git, hg and svn keep it in files of their own, so no process is started; what is expensive to read is cached until its
file changes. Jujutsu alone is read by its own program, once after each of its operations, since its store is no format
to rely on; where that program is missing, the git repository it may share the folder with has the word.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent_trace_sidecar.limits import processes
from agent_trace_sidecar.limits.files import read_part, read_small
from agent_trace_sidecar.limits.sqlite import first_row
from agent_trace_sidecar.opencode.wire import VcsObserved
from agent_trace_sidecar.workspace.revision import Revisions

JJ_TIMEOUT_S: Final = 1.0
_MAX_PARENTS: Final = 40
_MAX_KEPT: Final = 64
_MAX_JJ_BYTES: Final = 4096
_HG_NODE_BYTES: Final = 20
_HG_V2: Final = b"dirstate-v2\n"
_JJ: Final = ("--ignore-working-copy", "--no-pager", "--color=never", "log", "--no-graph", "-r", "@", "-T", "change_id")


_Mark = tuple[int, ...]


class Repositories:
    """Reads where repositories stand; for one thread."""

    def __init__(self, git: Revisions) -> None:
        """`git` reads git's revisions."""
        self._git = git
        self._kept: OrderedDict[Path, tuple[_Mark, str | None]] = OrderedDict()

    def of(self, root: Path) -> VcsObserved | None:
        """Where the repository around a folder stands; None where there is none, or it has no revision yet.

        Raises:
            OSError: its files can't be read.
        """
        for folder in (root, *list(root.parents)[:_MAX_PARENTS]):
            if (folder / ".jj").is_dir():
                change = self._jj(folder)
                if change:
                    return VcsObserved("jj", change)
            if (folder / ".git").exists():
                return self._git.of(folder)
            if (folder / ".hg").is_dir():
                node = _hg(folder / ".hg" / "dirstate")
                return VcsObserved("hg", node) if node else None
            if (folder / ".svn").is_dir():
                revision = self._svn(folder / ".svn" / "wc.db")
                return VcsObserved("svn", revision) if revision else None
        return None

    def _jj(self, folder: Path) -> str | None:
        repo = folder / ".jj" / "repo"
        if repo.is_file():  # a further workspace names the repository it belongs to
            repo = folder / ".jj" / read_small(repo)
        heads = repo / "op_heads" / "heads"
        working = folder / ".jj" / "working_copy"
        mark = tuple(path.stat().st_mtime_ns for path in (heads, working) if path.is_dir())
        return self._fresh(folder / ".jj", mark, lambda: _run_jj(folder))

    def _svn(self, database: Path) -> str | None:
        status = database.stat()
        return self._fresh(database, (status.st_mtime_ns, status.st_size), lambda: _svn_revision(database))

    def _fresh(self, key: Path, mark: _Mark, read: Callable[[], str | None]) -> str | None:
        """What was read when the mark was the same, else what is read now."""
        kept = self._kept.get(key)
        if kept is None or kept[0] != mark:
            kept = self._kept[key] = (mark, read())
            self._kept.move_to_end(key)
            if len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        return kept[1]


def _hg(dirstate: Path) -> str | None:
    """The first parent of the working directory: the first bytes of either form of the dirstate."""
    head = read_part(dirstate, len(_HG_V2) + _HG_NODE_BYTES)
    node = head.removeprefix(_HG_V2)[:_HG_NODE_BYTES]
    return node.hex() if len(node) == _HG_NODE_BYTES and any(node) else None


def _svn_revision(database: Path) -> str | None:
    """The revision of the working copy's root folder."""
    found = first_row(database, "NODES", "SELECT revision FROM nodes WHERE local_relpath = '' AND op_depth = 0")
    return str(found[0]) if found and isinstance(found[0], int) else None


def _run_jj(folder: Path) -> str | None:
    """The change id of the working copy, without taking a new snapshot of it."""
    program = processes.find("jj")
    if program is None:
        return None
    env = {"PATH": processes.search_path(), "HOME": os.devnull, "JJ_CONFIG": os.devnull, "LC_ALL": "C"}
    try:
        done = processes.run(
            [program, "-R", str(folder), *_JJ],
            cwd=folder / ".jj",
            env=env,
            timeout_s=JJ_TIMEOUT_S,
            max_bytes=_MAX_JJ_BYTES,
        )
    except processes.ProcessError:
        return None
    text = done.output.decode(errors="replace").strip()
    return text if done.code == 0 and text.isalpha() else None
