"""Runs git to read objects, and nothing else: bounded in time and output, with nobody's settings, no network.

Only plumbing that reads is asked, by object ids or through stdin, so that no name from a session can become an
option. The work tree is said to be the git directory itself: then no file of the user's project (`.gitattributes`)
takes part.
"""

import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

_CHUNK: Final = 256 * 1024
_END_S: Final = 0.1
"""What git has to end after its last word, even when its time is up."""


def run(git_dir: Path, *args: str, given: bytes = b"", timeout_s: float, max_bytes: int) -> bytes | None:
    """What git prints; None where there is no git, it fails, or says more or takes longer than it may."""
    git = _git()
    if git is None:
        return None
    command = [git, "--no-replace-objects", f"--git-dir={git_dir}", *args]
    try:
        process = subprocess.Popen(
            command,
            cwd=git_dir,
            env=_environment(git_dir),
            stdin=subprocess.PIPE if given else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
    except OSError:
        return None
    deadline = time.monotonic() + timeout_s
    with process:
        output = _talk(process, given, deadline, max_bytes)
        try:
            process.wait(max(_END_S, deadline - time.monotonic()) if output is not None else 0)
        except subprocess.TimeoutExpired:
            process.kill()
    return output if process.returncode == 0 else None


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


def _talk(process: "subprocess.Popen[bytes]", given: bytes, deadline: float, max_bytes: int) -> bytes | None:
    """Write and read at once, so that neither side waits for the other; None beyond a bound."""
    assert process.stdout is not None  # noqa: S101 - asked for above
    output, left = bytearray(), memoryview(given)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE)
        while selector.get_map():
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                if key.fileobj is process.stdout:
                    chunk = os.read(key.fd, _CHUNK)
                    output += chunk
                    if not chunk:
                        selector.unregister(process.stdout)
                else:
                    left = left[_written(key.fd, left) :]
                    if not left and process.stdin is not None:
                        selector.unregister(process.stdin)
                        process.stdin.close()
            if len(output) > max_bytes or time.monotonic() > deadline:
                return None
    return bytes(output)


def _written(fd: int, data: memoryview) -> int:
    """How many bytes were taken; all of them where git has stopped listening."""
    try:
        return os.write(fd, data[:_CHUNK])
    except BlockingIOError:
        return 0
    except BrokenPipeError:
        return len(data)


@cache
def _git() -> str | None:
    """Git from an absolute folder of PATH: the working directory may be the user's project."""
    folders = [folder for folder in os.get_exec_path() if folder.startswith("/")]
    return shutil.which("git", path=os.pathsep.join(folders)) if folders else None


def _environment(git_dir: Path) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "GIT_WORK_TREE": str(git_dir),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "",
    }
