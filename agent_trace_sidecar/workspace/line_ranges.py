"""Which lines of a file git means by `-L`, in all of its forms: patterns, functions, and what is relative to them.

Git itself resolves them, by a blame in a temporary repository whose only commit has the file. The worktree is the
user's, because its attributes define what a function is. Nothing is written there, and the history is not read.
"""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent_trace_sidecar.limits import processes
from agent_trace_sidecar.workspace.checkout import CheckoutError, quoted, run_git

_TIMEOUT_S: Final = 10.0
"""Of each git; a pattern can be made that takes for ever."""
_GROUP: Final = re.compile(rb"^[0-9a-f]{40} \d+ (\d+) (\d+)$", re.MULTILINE)
_COMMIT: Final = "commit refs/heads/main\ncommitter nobody <> 0 +0000\ndata 0\nM 100644 inline {}\ndata {}\n"
"""For `git fast-import`; the content follows."""


def lines_of(root: Path, path: str, content: bytes, wanted: Sequence[str]) -> set[int]:
    """The numbers of the lines that `git blame -L ONE -L OTHER ...` shows of a content.

    Args:
        root: the folder that `path` is relative to.
        path: the file's.
        content: what the file holds.
        wanted: what follows `-L`, in order: a pattern is searched from the end of the range before it.

    Raises:
        CheckoutError: git has no such form of range, nothing matches it, or git can't be run.
    """
    with tempfile.TemporaryDirectory(prefix="agent-trace-") as folder:
        _git(root, "init", "--quiet", "--bare", "--template=", folder)
        commit = _COMMIT.format(quoted(path), len(content)).encode() + content
        _git(root, f"--git-dir={folder}", "fast-import", "--quiet", given=commit)
        places = f"--git-dir={folder}", f"--work-tree={root}"

        def found(ranges: Sequence[str]) -> bytes:
            """What git finds; nothing where one of them is none."""
            options = ("--incremental", "--no-textconv", *(f"-L{one}" for one in ranges))
            return _git(root, *places, "blame", *options, "refs/heads/main", "--", path, fine=(0, 128, 129))

        groups = found(wanted)
        if not groups:
            failing = next((at for at in range(len(wanted)) if not found(wanted[: at + 1])), 0)
            raise CheckoutError(
                f"-L {wanted[failing]!r} is not a range of lines of {path}: nothing matches after the range before it, "
                "or git has no such form (see `git help blame`)."
            )
    return {at for first, size in _GROUP.findall(groups) for at in range(int(first), int(first) + int(size))}


def _git(root: Path, *arguments: str, given: bytes = b"", fine: Sequence[int] = (0,)) -> bytes:
    """The output of git; nothing where it fails in a way that is expected."""
    try:
        done = run_git(root, *arguments, given=given, timeout_s=_TIMEOUT_S)
    except processes.ProcessError as exc:
        raise CheckoutError(f"-L: git {exc}; choose another pattern, or numbers.") from None
    if done.code not in fine:
        raise CheckoutError(f"-L: git {arguments[0]} failed with exit code {done.code}.")
    return done.output if done.code == 0 else b""
