"""Runs git to read objects, and nothing else: bounded in time and output, without the user's settings, without network.

Only plumbing commands that read are run, with object ids or through stdin, so that no name from a session can become an
option. The work tree is set to the git directory itself: then no file of the user's project (`.gitattributes`)
takes part.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent_trace_sidecar.limits import processes

SAFE: Final = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",
    "LC_ALL": "C",
}
"""For every git: it fetches nothing, whatever remotes a repository has configured, and never prompts."""


def run(git_dir: Path, *args: str, given: bytes = b"", timeout_s: float, max_bytes: int) -> bytes | None:
    """What git prints; None where there is no git, it fails, or exceeds its bounds of output and time."""
    git = processes.find("git")
    if git is None:
        return None
    command = [git, "--no-replace-objects", f"--git-dir={git_dir}", *args]
    try:
        done = processes.run(
            command, cwd=git_dir, env=_environment(git_dir), given=given, timeout_s=timeout_s, max_bytes=max_bytes
        )
    except processes.ProcessError:
        return None
    return done.output if done.code == 0 else None


def blobs(output: bytes) -> Iterator[tuple[str, bytes]]:
    """The answers of `git cat-file --batch`; an empty id where there is no such file."""
    at = 0
    while at < len(output):
        end = output.index(b"\n", at)
        words = output[at:end].split(b" ")
        at = end + 1
        if len(words) == 3 and words[2].isdigit():  # noqa: PLR2004 - id, type, size
            size = int(words[2])
            yield words[0].decode(), output[at : at + size]
            at += size + 1
        else:
            yield "", b""


def _environment(git_dir: Path) -> dict[str, str]:
    return {
        "PATH": processes.search_path(),
        "GIT_WORK_TREE": str(git_dir),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        **SAFE,
    }
